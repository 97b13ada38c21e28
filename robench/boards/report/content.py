"""What is known of one defense, as sections of sentences, tables, pictures and commands."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from robench.boards import words
from robench.boards.audits import AuditFinding, audited
from robench.boards.compare import compare_with, lines_of
from robench.boards.compare_text import figures, sentences, title
from robench.boards.page.details import AttackDetail, details
from robench.boards.page.rows import attack_labels
from robench.boards.plots.plot import Records
from robench.boards.published import SOURCES
from robench.boards.rank import Board, Line, build_boards
from robench.boards.report.pictures import Picture, pictures
from robench.core.errors import InputError

_ATTACKS = ("attack", "images", "clean", "robust", "W-Robust", "worst class", "time", "settings")
_TESTS = ("test", "what should hold", "result", "remark")


@dataclass(frozen=True)
class Grid:
    """A table of plain text."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """One heading and what stands below it, in the order of the fields. All text is plain."""

    title: str
    grid: Grid | None = None
    sentences: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """title: the defense. said: what must be said of its training, or empty."""

    title: str
    said: str
    sections: tuple[Section, ...]


def report(records: Records, defense: str) -> Report:
    """All that the records and the audit beside them say of a defense.

    defense: a name on the records, or a board's label for it.
    Raises: InputError for a name that is unknown or means several defenses.
    """
    boards = build_boards(records.found)
    mine = lines_of(boards, defense)
    first, ranked_by = mine[0][1], {board.ranked_by for board, _ in mine}
    return Report(
        title=words.plain(first.label),
        said=words.plain(first.defense.label or ""),
        sections=(
            *_measured(boards, mine),
            *(_beside(records, defense, source, ranked_by) for source in SOURCES.names()),
            _audit(mine),
            *(_drawn(records, board, line) for board, line in mine),
        ),
    )


def _measured(boards: Sequence[Board], mine: Sequence[tuple[Board, Line]]) -> Iterator[Section]:
    alone = [replace(board, lines=(line,)) for board, line in mine]
    for place, detail in enumerate(details(alone, attack_labels(boards))):
        facts = tuple(f"{term}: {text}" for term, text in detail.facts) if place == 0 else ()
        yield Section(
            title=f"Measured on {detail.ground}",
            grid=Grid(_ATTACKS, tuple(map(_attack, detail.attacks))),
            sentences=(*_standing(*mine[place]), *detail.remarks, *facts),
            commands=detail.commands,
        )


def _attack(attack: AttackDetail) -> tuple[str, ...]:
    return (
        attack.attack,
        attack.images,
        attack.clean,
        attack.robust,
        attack.w_robust,
        attack.worst_class,
        attack.seconds,
        attack.setting,
    )


def _standing(board: Board, line: Line) -> Iterator[str]:
    if line.rank is not None:
        of = sum(other.rank is not None for other in board.lines)
        yield f"Rank {line.rank} of {of} on this board. {words.ranking(board)}"
    elif line.reason:
        yield words.plain(f"Not ranked: {line.reason}.")


def _beside(
    records: Records, defense: str, source: str, ranked_by: Collection[str | None]
) -> Section:
    heading = f"Beside what others published: {SOURCES.help(source)}"
    try:
        placements = compare_with(records.found, defense, source)
    except InputError as error:
        return Section(heading, sentences=(words.plain(f"Nothing to compare: {error}."),))
    best = next((p for p in placements if p.attack in ranked_by), placements[0])
    header, rows = figures(best)
    others = [words.plain(title(other)) for other in placements if other is not best]
    more = [f"Also comparable: {'; '.join(others)} (robench compare)."] if others else []
    grid = Grid(tuple(header), tuple(tuple(cell.replace("\n", " ") for cell in r) for r in rows))
    return Section(heading, grid, (f"{title(best)}.", *sentences(best), *more))


def _audit(mine: Sequence[tuple[Board, Line]]) -> Section:
    found = [audited(line) for _, line in mine]
    best = next((one for one in found if one.audit is not None), found[0])
    audit = best.audit
    if audit is None:
        said = f"{best.words}: robench audit says whether the figures can be believed."
        return Section("Audit of gradient masking", sentences=(words.plain(said),))
    because = f" ({', '.join(audit.because)})" if audit.because else ""
    cut = ", interrupted" if audit.interrupted else ""
    return Section(
        "Audit of gradient masking",
        Grid(_TESTS, tuple(map(_test, audit.findings))),
        (words.plain(f"{audit.label}{because}: {audit.scope}{cut}."),),
    )


def _test(finding: AuditFinding) -> tuple[str, ...]:
    remark = finding.means if finding.status in ("warn", "fail") else finding.reason
    texts = (finding.id, finding.name, finding.status.replace("_", " "), remark or "")
    return tuple(map(words.plain, texts))


def _drawn(records: Records, board: Board, line: Line) -> Section:
    made = list(pictures(records, board, line))
    return Section(
        title=f"Figures of {words.title(board)}",
        sentences=tuple(one for one in made if isinstance(one, str)),
        pictures=tuple(one for one in made if isinstance(one, Picture)),
    )
