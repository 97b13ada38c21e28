"""Training curves: they show the history, say whose they are, and are the same bytes each time."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from robench.core.errors import InputError
from robench.figures.saving import FORMATS
from robench.training.figures import build, draw
from robench.training.history import History

matplotlib = pytest.importorskip("matplotlib")

FIGURES = ("total-loss", "relative-losses", "entropies")
TEACHERS = [f"{n}_{t}" for n in ("entropy", "relative", "tau", "w") for t in ("nat", "adv")]


def run(epochs: int = 4, scale: float = 1.0, without: str = "") -> History:
    """Every column a different curve, by which it is known again."""
    columns = [name for name in ("loss", *TEACHERS) if name not in without.split()]
    history = History(["epoch", *columns])
    for epoch in range(1, epochs + 1):
        values = {name: scale * (1 + len(name) / epoch + i) for i, name in enumerate(columns)}
        history.append({"epoch": epoch, **values})
    return history


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {x.get_label(): (list(x.get_xdata()), list(x.get_ydata())) for x in axes.lines}


def curve(history: History, column: str) -> tuple[list[float], list[float]]:
    return [float(epoch) for epoch in history.epochs], history.numbers(column)


def test_total_loss_is_one_line_per_run() -> None:
    one, two = run(), run(6, 2.0)
    (axes,) = build([("one", one), ("two", two)])[0]["total-loss"].axes
    assert [(list(x.get_xdata()), list(x.get_ydata())) for x in axes.lines] == [
        curve(one, "loss"),
        curve(two, "loss"),
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "total loss")
    assert [(t.get_text(), t.get_color()) for t in axes.texts] == [
        (name, line.get_color()) for name, line in zip(("one", "two"), axes.lines, strict=True)
    ]


def test_a_name_stands_beside_the_end_of_its_line() -> None:
    runs = [("low", run()), ("middle", run(scale=3.0)), ("high", run(scale=6.0))]
    (axes,) = build(runs)[0]["total-loss"].axes
    (low, high), end = axes.get_ylim(), axes.lines[1].get_ydata()[-1]
    x, y = axes.texts[1].get_position()
    assert x > 1
    assert y == pytest.approx((end - low) / (high - low))


@pytest.mark.parametrize(
    ("figure", "upper", "lower", "words"),
    [
        ("relative-losses", "relative", "w", "relative loss"),
        ("entropies", "entropy", "tau", "entropy (nats)"),
    ],
)
def test_panels_hold_both_teachers_of_each_run(
    figure: str, upper: str, lower: str, words: str
) -> None:
    runs = [("one", run()), ("two", run(3, 0.5))]
    drawn = build(runs)[0][figure]
    axes = drawn.axes
    assert [panel.get_title(loc="left") for panel in axes] == ["one", "", "two", ""]
    for place, (_, history) in enumerate(runs):
        for panel, kind in zip(axes[2 * place :], (upper, lower), strict=False):
            columns = (f"{kind}_nat", f"{kind}_adv")
            assert lines(panel) == {name: curve(history, name) for name in columns}
    assert words in axes[0].get_ylabel()
    assert axes[1].get_xlabel() == axes[3].get_xlabel() == "epoch"
    assert axes[0].get_ylim() == axes[2].get_ylim()
    (legend,) = drawn.legends
    shown = {
        t.get_text(): x.get_color() for t, x in zip(legend.texts, legend.get_lines(), strict=True)
    }
    assert shown == {
        "clean teacher, on clean images": axes[0].lines[0].get_color(),
        "robust teacher, on adversarial images": axes[0].lines[1].get_color(),
    }


def test_five_runs_take_a_second_row() -> None:
    runs = [(f"run {i}", run()) for i in range(5)]
    axes = build(runs)[0]["entropies"].axes
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (4, 4)
    assert axes[8].get_subplotspec().rowspan.start == 2
    assert axes[8].get_ylabel()
    assert not axes[2].get_ylabel()


def test_a_weight_that_was_not_recorded_is_said() -> None:
    whole, part = ("whole", run()), ("part", run(without="w_nat w_adv"))
    figure = build([whole, part])[0]["relative-losses"]
    assert [t.get_text() for t in figure.axes[3].texts] == ["not recorded"]
    assert len(build([part])[0]["relative-losses"].axes) == 1


def test_losses_of_different_scales_get_a_logarithmic_axis() -> None:
    figures, _ = build([("sum", run(scale=100.0)), ("mean", run())])
    (axes,) = figures["total-loss"].axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "total loss (log scale)"
    negative = History(["epoch", "loss"])
    negative.append({"epoch": 1, "loss": -1.0})
    figures, _ = build([("sum", run(scale=100.0)), ("negative", negative)])
    assert figures["total-loss"].axes[0].get_yscale() == "linear"


def test_gaps_are_gaps_and_a_single_epoch_is_seen() -> None:
    history = History(["epoch", "loss"])
    for epoch, loss in ((1, 2.0), (2, None), (3, 1.0)):
        history.append({"epoch": epoch, "loss": loss})
    (line,) = build([("gap", history)])[0]["total-loss"].axes[0].lines
    assert math.isnan(line.get_ydata()[1])
    assert line.get_marker() == "o"
    (line,) = build([("long", run(10))])[0]["total-loss"].axes[0].lines
    assert line.get_marker() in ("", "None")


def test_a_run_without_the_columns_is_left_out_and_named() -> None:
    whole, trades = ("bmtard", run()), ("trades", run(without=" ".join(TEACHERS)))
    figures, left_out = build([whole, trades])
    assert [axes.get_title(loc="left") for axes in figures["entropies"].axes] == ["bmtard", ""]
    assert left_out == [
        "trades is not in relative-losses: no numbers in relative_nat and relative_adv",
        "trades is not in entropies: no numbers in entropy_nat and entropy_adv",
    ]
    figures, left_out = build([trades])
    assert list(figures) == ["total-loss"]
    assert left_out == [
        "no figure relative-losses: no numbers in relative_nat and relative_adv",
        "no figure entropies: no numbers in entropy_nat and entropy_adv",
    ]


def test_nothing_to_draw(tmp_path: Path) -> None:
    history = History(["epoch", "loss"])
    history.append({"epoch": 1, "loss": math.nan})
    with pytest.raises(
        InputError, match="nothing to draw: no figure total-loss: no numbers in loss"
    ):
        draw([("x", history)], tmp_path / "out")
    with pytest.raises(InputError, match="nothing to draw"):
        draw([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_are_drawn_and_are_the_same_bytes_twice(tmp_path: Path) -> None:
    runs = [("run $x^$ (small-scale, 5-step)", run(without="w_nat tau_nat"))]
    first = draw(runs, tmp_path / "a", "p-", ("png", "svg"))
    assert [path.name for path in first.paths] == [
        f"p-{figure}.{format_}" for figure in FIGURES for format_ in ("png", "svg")
    ]
    for path in first.paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 800
                assert len(image.convert("RGB").getcolors(1 << 24)) > 20
                assert image.getpixel((0, 0))[:3] == (255, 255, 255)
        else:
            text = path.read_text()
            for words in (">run $x^$<", ">(small-scale, 5-step)<", ">epoch<"):
                assert words in text
            assert "<dc:date>" not in text
    second = draw(runs, tmp_path / "b", "p-", ("svg", "png", "svg"))
    assert {p.name: p.read_bytes() for p in second.paths} == {
        p.name: p.read_bytes() for p in first.paths
    }


def test_pdf_has_no_date(tmp_path: Path) -> None:
    (path,) = draw([("one", run(without=" ".join(TEACHERS)))], tmp_path, formats=("pdf",)).paths
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"Date" not in content


def test_the_users_style_is_neither_used_nor_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    runs = [("one", run(without=" ".join(TEACHERS)))]
    (plain,) = draw(runs, tmp_path / "a").paths
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        before = matplotlib.rcParams.copy()  # reading "backend" itself would choose one
        (other,) = draw(runs, tmp_path / "b").paths
        assert matplotlib.rcParams.copy() == before
    assert other.read_bytes() == plain.read_bytes()


def test_an_unknown_format_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown figure format 'pgn': did you mean 'png'"):
        draw([("one", run())], tmp_path / "out", formats=("png", "pgn"))
    with pytest.raises(InputError, match=f"'docx': there are {', '.join(FORMATS)}"):
        draw([("one", run())], tmp_path / "out", formats=("docx",))
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'robench\[plot\]'"):
        draw([("one", run())], tmp_path / "out")
    assert not (tmp_path / "out").exists()
