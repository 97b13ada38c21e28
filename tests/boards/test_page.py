"""The page in a real browser, opened from a file: what a reader does, and what they then see."""

import json
from operator import attrgetter

import pytest

from robench.boards import words
from robench.boards.collect import Found, collect
from robench.boards.html import render
from robench.boards.page.printed import published_rows
from robench.boards.page.rows import attack_labels, measured_rows
from robench.boards.placing import pareto_front
from robench.boards.rank import build_boards
from robench.core.statistics import w_robust
from tests.boards import chromium
from tests.boards.conftest import make_record
from tests.boards.test_html import ROOT

CIFAR = "cifar10, linf eps 8/255"
HOSTILE = "<script>document.title='broken'</script><img src=x onerror=alert(1)>"
# Small enough to have ties and to change places: at 0.5 steady and tied share a rank.
SAT = {"steps": 20, "step_size": 2 / 255, "loss": "cross_entropy"}
SAT |= {"start": "uniform", "restarts": 1}  # as published, so that all share the column pgd_sat
PLANTED = {
    "steady": ("1111110000", "1111110000"),
    "tied": ("1111111100", "1111000000"),
    "clean-only": ("1111111111", "1000000000"),
    "alone": ("1110000000", "1100000000"),
}


@pytest.fixture(scope="module")
def found():
    """The committed records, and planted ones on ten images."""
    planted = [
        make_record(name, "pgd_sat", clean, survived, digest="f" * 64, parameters=SAT)
        for name, (clean, survived) in PLANTED.items()
    ]
    planted.append(make_record(HOSTILE, "fgsm", dataset="toy", label=HOSTILE))
    planted.append(make_record("lost", "fgsm", "", "", dataset="toy", n=4, status="failed"))
    kept = collect([ROOT / "leaderboards" / "records"]).found
    return [*kept, *(Found(f"r/toy/{i}/{i}.json", r) for i, r in enumerate(planted))]


@pytest.fixture(scope="module")
def rows(found):
    boards = build_boards(found)
    return [*measured_rows(boards), *published_rows(attack_labels(boards))]


@pytest.fixture(scope="module")
def opened(found, tmp_path_factory):
    driver = chromium.start(tmp_path_factory.mktemp("profile"))
    page = tmp_path_factory.mktemp("page") / "index.html"
    page.write_text(render(build_boards(found)), encoding="utf-8")
    driver.address = page.as_uri()
    yield driver
    driver.quit()


@pytest.fixture
def page(opened):
    """The page as first opened, at desktop width, in light; the console must stay silent."""
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme(opened, "light")
    opened.get("about:blank")
    opened.get(opened.address)
    yield opened
    assert opened.get_log("browser") == []


def scheme(page, value):
    features = [{"name": "prefers-color-scheme", "value": value}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def choose(page, **values):
    """Sets controls by id and waits until the page has drawn."""
    script = """
        const [values, done] = arguments;
        for (const [id, value] of Object.entries(values)) {
          const control = document.getElementById(id);
          control.value = value;
          if (control.value !== String(value)) throw Error(`${id} has no ${value}`);
          control.dispatchEvent(new Event("input", { bubbles: true }));
        }
        requestAnimationFrame(() => requestAnimationFrame(() => done()));
    """
    page.execute_async_script(script, values)


def drawn(page):
    page.execute_async_script(
        "const [done] = arguments; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )


def table(page):
    """The shown lines: cell texts by column key, and where the name leads."""
    return page.execute_script(
        """return [...document.querySelectorAll("#rows tbody tr")].map((line) => ({
             id: line.querySelector("a").getAttribute("href").slice(1),
             ...Object.fromEntries([...line.cells].map((c) => [c.dataset.key, c.textContent]))
           }))"""
    )


def heads(page):
    script = """return Object.fromEntries([...document.querySelectorAll("#rows thead th")]
                  .map((c) => [c.dataset.key, c.getAttribute("aria-sort")]))"""
    return page.execute_script(script)


def ranks(rows, pi):
    """id, attack -> rank, from the definition: how many of the same field are above."""
    figures = {}
    for row in rows:
        figure = weighted(row, pi)
        if row.field is not None and figure is not None:
            field = (row.field, row.ground, row.attack)
            figures.setdefault(field, []).append((round(figure, 12), row.id))
    return {
        (id_, field[2]): 1 + sum(other > figure for other, _ in members)
        for field, members in figures.items()
        for figure, id_ in members
    }


def weighted(row, pi):
    if not row.weighed:
        return None
    if row.clean is None or row.robust is None:
        return row.w_printed if pi == 0.5 else None
    return (1 - pi) * row.clean + pi * row.robust


def source(row):
    return "measured" if row.source == "measured" else f"published: {row.where}"


def order(rows, key, rising):
    """By the value of a column, missing ones last; equal ones as in the data."""
    places = ranks(rows, 0.5)
    values = {
        "rank": lambda row: places.get((row.id, row.attack)),
        "name": lambda row: row.name.lower(),
        "source": lambda row: source(row).lower(),
        "ground": lambda row: row.ground.lower(),
        "attack": lambda row: row.attack.lower(),
        "w": lambda row: weighted(row, 0.5),
        "architecture": lambda row: row.architecture.lower(),
    }
    value = values.get(key, lambda row: getattr(row, key))
    here = sorted((r for r in rows if value(r) is not None), key=value, reverse=not rising)
    return [row.id for row in [*here, *(row for row in rows if value(row) is None)]]


def test_it_opens_without_a_request(opened, page):
    assert page.title == "robench leaderboard"
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
        and event["params"]["documentURL"] == page.address
    ]
    assert set(asked) - {"data:,"} == {page.address}


def test_all_rows_are_there(page, rows):
    choose(page, ground="", attack="")
    shown = table(page)
    expected = sorted((row.id, row.attack) for row in rows)
    assert sorted((line["id"], line["attack"]) for line in shown) == expected
    measured = sum(row.source == "measured" for row in rows)
    count = page.find_element("id", "count").text
    assert count == (
        f"{len(rows)} of {len(rows)} rows: {measured} measured, {len(rows) - measured} published."
    )


@pytest.mark.parametrize(
    ("key", "rises_first"),
    [
        *(("rank", True), ("name", True), ("source", True), ("ground", True), ("attack", True)),
        *(("clean", False), ("robust", False), ("worst", False), ("best_known", False)),
        *(("architecture", True), ("parameters", False), ("n", False), ("w", False)),
    ],
)
def test_sorting_by_each_column(page, rows, key, rises_first):
    choose(page, ground="", attack="")
    if key == "w":  # the order at the start: sort by something else first
        page.find_element("css selector", "#rows th[data-key=n] button").click()
    button = page.find_element("css selector", f"#rows th[data-key={key}] button")
    for rising in (rises_first, not rises_first):
        button.click()
        assert [line["id"] for line in table(page)] == order(rows, key, rising)
        said = {name: sort for name, sort in heads(page).items() if sort}
        assert said == {key: "ascending" if rising else "descending"}
    assert page.execute_script("return performance.getEntriesByName('sort').length") >= 2


def test_every_column_but_the_remarks_can_be_sorted(page):
    assert set(heads(page)) == {
        *("rank", "name", "source", "ground", "attack", "clean", "robust", "w", "worst"),
        *("best_known", "architecture", "parameters", "n", "notes"),
    }
    buttons = page.execute_script("return document.querySelectorAll('#rows th button').length")
    assert buttons == len(heads(page)) - 1


def test_filters(page, rows):
    choose(page, attack="autoattack", filter="RESNET-18 paper")
    expected = {
        row.id
        for row in rows
        if (row.ground, row.attack, row.source) == (CIFAR, "autoattack", "paper")
        and "resnet-18" in row.architecture.lower()
    }
    assert {line["id"] for line in table(page)} == expected
    assert expected
    choose(page, filter="no such defense")
    assert table(page) == []
    assert page.find_element("id", "count").text.startswith("0 of ")
    choose(page, filter="")
    page.find_element("css selector", "input[value=paper]").click()
    page.find_element("css selector", "input[value=robustbench]").click()
    drawn(page)
    assert {line["source"] for line in table(page)} == {"measured"}


def test_a_data_set_brings_its_attacks(page, rows):
    choose(page, ground="cifar100, linf eps 8/255")
    options = page.execute_script(
        "return [...document.getElementById('attack').options].map((o) => o.value)"
    )
    inside = [row.attack for row in rows if row.ground == "cifar100, linf eps 8/255"]
    assert options == [*dict.fromkeys(inside), ""]
    assert {line["source"] for line in table(page)} >= {"published: T3"}


@pytest.mark.parametrize("pi", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_the_slider_ranks_as_the_boards_do(page, found, rows, pi):
    choose(page, attack="pgd_sat", weight=pi)
    shown = {line["id"]: line for line in table(page)}
    lines = {
        line.label: line
        for board in build_boards(found, pi_adv=pi, sort_by="pgd_sat")
        for line in board.lines
        if board.ground.dataset == "cifar10"
    }
    checked = 0
    for row in rows:
        if row.id not in shown or row.attack != "pgd_sat" or row.source != "measured":
            continue
        cell, line = lines[row.name].cells["pgd_sat"], shown[row.id]
        assert line["rank"].split(" of ")[0] == str(lines[row.name].rank), row.name
        assert line["w"] == words.percent(cell.row.w_robust) + words.bounds(
            cell.row.w_robust_interval_95
        )
        checked += 1
    assert checked >= 8
    expected = ranks(rows, pi)
    for id_, line in shown.items():
        place = expected.get((id_, "pgd_sat"))
        assert line["rank"].split(" of ")[0] == ("-" if place is None else str(place))
    text = page.find_element("id", "formula").text
    assert text == f"W-Robust = {1 - pi:.2f} × clean + {pi:.2f} × robust accuracy"


def test_ties_share_a_rank_and_places_change(page):
    choose(page, attack="pgd_sat", filter="resnet18, width 32")
    place = {line["name"]: line["rank"] for line in table(page) if line["name"] in PLANTED}
    assert place == {
        "steady": "1 of 4",
        "tied": "1 of 4",
        "clean-only": "3 of 4",
        "alone": "4 of 4",
    }
    choose(page, weight=0.1)
    order_ = [line["name"] for line in table(page) if line["name"] in PLANTED]
    assert order_ == ["clean-only", "tied", "steady", "alone"]


def test_the_slider_by_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    slider = page.find_element("id", "weight")
    slider.send_keys(Keys.ARROW_RIGHT)
    drawn(page)
    assert page.find_element("id", "formula").text.startswith("W-Robust = 0.45 × clean + 0.55")


def test_w_robust_at_one_weight_by_hand(page):
    """tied: 8 of 10 clean, 4 robust; at 0.25 four images score 1, four 0.75, two 0."""
    choose(page, attack="pgd_sat", weight=0.25)
    (line,) = [line for line in table(page) if line["name"] == "tied"]
    value, low, high = w_robust([True] * 8 + [False] * 2, [True] * 4 + [False] * 6, 0.25)
    assert value == pytest.approx(0.7)
    assert line["w"] == f"70.00[{100 * low:.1f}, {100 * high:.1f}]"


def test_keys_alone_do(page):
    from selenium.webdriver.common.keys import Keys

    body = page.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    page.switch_to.active_element.send_keys(Keys.ENTER)  # the skip link
    drawn(page)
    assert page.execute_script("return document.activeElement.id") == "board"
    for _ in range(4):  # the scrolling region, then the buttons of rank, defense, source
        page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Source"
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert heads(page)["source"] == "ascending"
    ring = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"


def test_the_points_of_the_scatter_by_keyboard(page, rows):
    from selenium.webdriver.common.keys import Keys

    choose(page, attack="pgd_trades")
    stops = page.execute_script(
        "return document.querySelectorAll('#scatter a[tabindex=\"0\"]').length"
    )
    assert stops == 1
    first = page.find_element("css selector", "#scatter a[tabindex='0']")
    page.execute_script("arguments[0].focus()", first)
    page.switch_to.active_element.send_keys(Keys.END)
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    inside = [r for r in rows if (r.ground, r.attack) == (CIFAR, "pgd_trades")]
    points = sorted(
        (row.clean, row.robust, row.name)
        for row in inside
        if row.clean is not None and row.robust is not None
    )
    said = page.find_element("id", "reading").text
    assert f"clean {words.percent(points[-2][0])}" in said
    assert f"robust {words.percent(points[-2][1])}" in said
    assert page.switch_to.active_element.get_attribute("aria-label") == said
    target = page.switch_to.active_element.get_dom_attribute("href")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    drawn(page)
    assert page.execute_script("return location.hash") == target
    assert page.execute_script(
        "return document.querySelector(location.hash).closest('details').open"
    )


def test_the_scatter(page, rows):
    choose(page, attack="pgd_sat", weight=0.5)
    inside = [
        row
        for row in rows
        if (row.ground, row.attack) == (CIFAR, "pgd_sat")
        and row.clean is not None
        and row.robust is not None
    ]
    read = """
        const points = [...document.querySelectorAll("#scatter a")];
        const centre = (mark) => mark.localName === "circle"
          ? [mark.cx, mark.cy].map((v) => v.baseVal.value)
          : [mark.x, mark.y].map((v) => v.baseVal.value + 4.5);
        return points.map((a) => [a.getAttribute("href").slice(1), a.getAttribute("class"),
          ...centre(a.querySelector(".shape")), getComputedStyle(a.querySelector(".shape")).fill])
    """
    points = {id_: rest for id_, *rest in page.execute_script(read)}
    assert points.keys() == {row.id for row in inside}
    for row in inside:
        kind, *_, fill = points[row.id]
        assert kind == row.source
        assert (fill == "none") == (row.source != "measured"), "filled is measured"
    for axis, at in (("clean", 1), ("robust", 2)):  # both axes are linear
        figures = sorted(inside, key=attrgetter(axis))
        low, high = figures[0], figures[-1]
        a, b = (points[row.id][at] for row in (low, high))
        span = getattr(high, axis) - getattr(low, axis)
        for row in inside:
            expected = a + (b - a) * (getattr(row, axis) - getattr(low, axis)) / span
            assert points[row.id][at] == pytest.approx(expected, abs=0.01)
    front = page.execute_script(
        "return document.querySelector('#scatter .front.measured').getAttribute('points')"
    )
    measured = [row for row in inside if row.source == "measured"]
    names = pareto_front([(row.id, (row.clean, row.robust)) for row in measured])
    drawn_at = [float(v) for pair in front.split() for v in pair.split(",")]
    assert drawn_at == pytest.approx([v for id_ in names for v in points[id_][1:3]])


def test_iso_lines_follow_the_slider(page):
    slope = """
        return [...document.querySelectorAll("#scatter .iso")].map((l) =>
          ["x1", "y1", "x2", "y2"].map((k) => Number(l.getAttribute(k))))
    """
    choose(page, attack="pgd_sat", weight=0)
    assert all(x1 == x2 for x1, _, x2, _ in page.execute_script(slope)), "clean alone: upright"
    choose(page, weight=1)
    assert all(y1 == y2 for _, y1, _, y2 in page.execute_script(slope)), "robust alone: level"
    choose(page, weight=0.5)
    tilted = page.execute_script(slope)
    assert tilted
    assert all(x2 > x1 and y2 > y1 for x1, y1, x2, y2 in tilted), "down to the right"


def test_the_heat_map(page, rows):
    choose(page, attack="pgd_sat")
    head, *lines = page.execute_script(
        "return [...document.querySelectorAll('#heat tr')].map((line) => "
        "[line.querySelector('a')?.getAttribute('href').slice(1), "
        "...[...line.cells].map((cell) => cell.textContent)])"
    )
    attacks = head[2:]
    here = [row for row in rows if row.ground == CIFAR]
    assert attacks == list(dict.fromkeys(row.attack for row in here))
    shown = sum(cell != "-" for line in lines for cell in line[2:])
    assert shown == sum(row.robust is not None for row in here)
    measured = {row.id: {} for row in here if row.source == "measured"}
    for row in here:
        if row.source == "measured":
            measured[row.id][row.attack] = words.percent(row.robust)
    cells = {line[0]: dict(zip(attacks, line[2:], strict=True)) for line in lines}
    for id_, figures in measured.items():
        assert cells[id_] == {attack: figures.get(attack, "-") for attack in attacks}


def test_links_lead_somewhere(page):
    choose(page, ground="", attack="")
    lost = page.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.getAttribute('href'))"
        ".filter((h) => !document.getElementById(h.slice(1)))"
    )
    assert lost == []
    choose(page, ground=CIFAR, attack="pgd_sat", filter="steady")
    page.find_element("css selector", "#rows tbody a").click()
    drawn(page)
    opened = page.switch_to.active_element
    assert opened.tag_name == "summary"
    assert "steady" in opened.text
    details = page.find_element("css selector", "details.defense[open]")
    assert "robench eval --defense steady" in details.text


def test_what_records_say_stays_text(page):
    choose(page, ground="toy, linf eps 8/255")
    names = {line["name"] for line in table(page)}
    assert names == {HOSTILE, "lost"}
    (lost,) = [line for line in table(page) if line["name"] == "lost"]
    assert (lost["clean"], lost["robust"], lost["w"], lost["rank"]) == ("-", "-failed", "-", "-")
    assert page.title == "robench leaderboard"
    assert page.execute_script("return document.images.length") == 0


def test_the_theme_can_be_switched(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(ground)
    button = page.find_element("id", "theme")
    assert (light, button.text) == ("rgb(255, 255, 255)", "Switch to dark")
    button.click()
    assert page.execute_script(ground) != light
    assert button.text == "Switch to light"
    scheme(page, "dark")
    button.click()
    assert page.execute_script(ground) == light


def phone(page):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    drawn(page)
    drawn(page)


def test_on_a_phone_only_the_tables_scroll_sideways(page):
    page.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    phone(page)
    wide, seen = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen == 390
    box = page.find_element("css selector", "#board .scroll")
    assert box.get_property("scrollWidth") > box.get_property("clientWidth")


@pytest.mark.parametrize("view", ["light", "dark", "phone"])
def test_nothing_serious_for_axe(page, view):
    script = chromium.axe()
    if view == "dark":
        scheme(page, "dark")
    if view == "phone":
        phone(page)
    # All open; of the published rows, which are all alike, a few: axe looks at every cell.
    page.execute_script(
        "document.querySelectorAll('details').forEach((d) => (d.open = true));"
        "document.querySelectorAll('#published tr:nth-child(n+30)').forEach((r) => r.remove())"
    )
    page.set_script_timeout(600)
    page.execute_script(script)
    result = page.execute_async_script("axe.run().then(arguments[0])")
    assert len(result["passes"]) > 20, "axe has looked"
    serious = [
        (finding["id"], finding["impact"], [node["html"][:200] for node in finding["nodes"][:3]])
        for finding in result["violations"]
        if finding["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_planted_fault_is_serious_for_axe(page):
    page.execute_script(chromium.axe())
    page.execute_script(
        "document.querySelector('label[for=filter]').remove();"
        "document.getElementById('filter').removeAttribute('placeholder')"
    )
    ids = "axe.run('#controls').then((r) => r.violations.map((v) => v.id)).then(arguments[0])"
    assert "label" in page.execute_async_script(ids)
