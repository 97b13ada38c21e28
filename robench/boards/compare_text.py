"""What `robench compare` shows: for the terminal, as Markdown and as JSON."""

from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from robench.boards import words
from robench.boards.compare import OURS, Place, Placement, is_inconsistent
from robench.boards.joining import Beside
from robench.boards.markdown import bullets, escape, table
from robench.boards.placing import Figure, RankRange
from robench.boards.terminal import grid
from robench.core.threat import format_eps

_TITLES = {"paper": "the paper's tables", "robustbench": "RobustBench"}
_RIGHT = {"diff.", "diff. W", "best known"}


def render_json(placements: Sequence[Placement]) -> str:
    """`{"comparisons": [...]}`: the fields of `Placement`."""
    compact = msgspec.json.encode({"comparisons": placements}, order="deterministic")
    return msgspec.json.format(compact, indent=1).decode() + "\n"


def render_markdown(placements: Sequence[Placement]) -> str:
    """One section per record: a table, and what must be known beside it."""
    return "\n".join(_section(placement) for placement in placements)


def _section(placement: Placement) -> str:
    header, rows = figures(placement)
    cells = [[escape(text.replace("\n", " ")) for text in row] for row in rows]
    parts = [f"## {escape(title(placement))}", table(header, cells)]
    return "\n\n".join([*parts, bullets(sentences(placement))]) + "\n"


def render(placements: Sequence[Placement]) -> RenderableType:
    """One block per record: a table, and what must be known below it."""
    return Group(*(part for placement in placements for part in _block(placement)))


def _block(placement: Placement) -> Iterator[RenderableType]:
    yield Text(title(placement), style="bold")
    yield _table(*figures(placement))
    yield from (Text(f"  {sentence}") for sentence in sentences(placement))
    yield Text()


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    drawn = grid(header, right={i for i, column in enumerate(header) if column in _RIGHT})
    for row in rows:
        style = "bold" if row[0] == OURS else ""
        drawn.add_row(*(Text(text, style=style) for text in row))
    return drawn


def title(placement: Placement) -> str:
    """`mine (small-scale) beside the paper's tables: pgd_sat on cifar10, linf eps 8/255`."""
    label = f" ({placement.label})" if placement.label else ""
    ground = f"{placement.dataset}, {placement.norm} eps {format_eps(placement.eps)}"
    text = f"{placement.defense}{label} beside {_TITLES.get(placement.source, placement.source)}"
    return words.plain(f"{text}: {placement.attack} on {ground}")


def figures(placement: Placement) -> tuple[list[str], list[list[str]]]:
    """Header and rows, percent: ours with its interval, then the published ones.

    Differences are ours minus published. Columns of which nothing is published are left out.
    """
    published = [_published(row, placement) for row in placement.rows]
    header = [name for name in published[0] if any(row[name] for row in published)]
    lines = [_ours(placement), *published]
    return header, [[line[name] for name in header] for line in lines]


def _ours(placement: Placement) -> dict[str, str]:
    return {
        "network": OURS,
        "where": "",
        "clean": _estimate(placement.clean),
        "robust": _estimate(placement.robust),
        "diff.": "",
        "W-Robust": _estimate(placement.w_robust),
        "diff. W": "",
        "best known": "",
        "ours is": "",
    }


def _published(row: Beside, placement: Placement) -> dict[str, str]:
    mark = " !" if is_inconsistent(row) else ""
    return {
        "network": words.plain(row.name),
        "where": words.plain(", ".join(row.where)),
        "clean": _percent(row.clean),
        "robust": _percent(row.robust),
        "diff.": _difference(row.robust_difference),
        "W-Robust": _percent(row.w_robust) + mark,
        "diff. W": _difference(row.w_robust_difference),
        "best known": _percent(row.best_known),
        "ours is": _judgement(row, placement),
    }


def _percent(share: float | None) -> str:
    return "" if share is None else words.percent(share)


def _estimate(figure: Figure) -> str:
    # The interval on a line of its own: beside the figure it makes the table too wide to fit.
    interval = words.bounds((figure.low, figure.high)).replace(", ", ",")
    return f"{words.percent(figure.value)}\n{interval}"


def _difference(figure: Figure | None) -> str:
    return "" if figure is None else f"{100 * figure.value:+.2f}"


def _judgement(row: Beside, placement: Placement) -> str:
    """What our bounds say of robust accuracy, W-Robust where only that is printed."""
    if row.unranked is not None:
        return row.unranked.partition(":")[0]  # all of it stands below the table
    if placement.refused:
        return "not ranked"
    figure = row.robust_difference or row.w_robust_difference
    if figure is None:
        return "-"
    if figure.low > 0:
        return "higher"
    return "lower" if figure.high < 0 else "not told apart"


def sentences(placement: Placement) -> list[str]:
    """What must be known beside the figures: images, rank, front, what stays apart, remarks."""
    said = [_images(placement)]
    said += [f"Not ranked: {reason}." for reason in placement.refused]
    if placement.place is not None:
        said += [_rank(placement.place), _front(placement.place, placement.n)]
        said += [f"Unranked: {names} ({reason})." for reason, names in _unranked(placement)]
    said += [f"Apart: {len(part.names)} rows, {part.reason}." for part in placement.apart]
    said += [f"{row.name}: {'; '.join(row.remarks)}." for row in placement.rows if row.remarks]
    said += [f"{placement.defense}: {note}." for note in placement.notes]
    said += [f"Our record, {flag.level}: {flag.message} ({flag.name})." for flag in placement.flags]
    return [words.plain(sentence) for sentence in said]


def _images(placement: Placement) -> str:
    n, published = placement.n, placement.published_n
    if n == published:
        return f"Ours is of {n:,} images, as the published figures are."
    ranges = " Only their number differs: ranks are ranges." if placement.place else ""
    return f"Ours is of {n:,} images, published figures of all {published:,}.{ranges}"


def _unranked(placement: Placement) -> list[tuple[str, str]]:
    """(reason, names) of the unranked rows whose reason the table cuts short."""
    reasons: dict[str, list[str]] = {}
    for row in placement.rows:
        if row.unranked is not None and ":" in row.unranked:
            reasons.setdefault(row.unranked, []).append(row.name)
    return [(reason, ", ".join(names)) for reason, names in reasons.items()]


def _rank(place: Place) -> str:
    measures = (("robust accuracy", place.robust), ("W-Robust", place.w_robust))
    ranks = [f"{_range(rank)} by {name}" for name, rank in measures if rank is not None]
    near = (("next above", place.next_above), ("next below", place.next_below))
    neighbours = ", ".join(f"{word} {name or 'nobody'}" for word, name in near)
    return f"Had it been published: rank {' and '.join(ranks)}; {neighbours} in robust accuracy."


def _range(rank: RankRange) -> str:
    if rank.best == rank.worst:
        return f"{rank.best} of {rank.of}"
    return f"{rank.best} to {rank.worst} of {rank.of}"


def _front(place: Place, n: int) -> str:
    said = {
        "on": "ours is on it",
        "off": "ours is not on it",
        "open": f"{n:,} images leave open whether ours is on it",
    }
    front = ", ".join(place.front)
    return f"Pareto front of clean and robust accuracy: {front}; {said[place.on_front]}."
