"""Boards as one HTML file that needs nothing else: `leaderboards/index.html`."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robench.boards.page.details import details
from robench.boards.page.printed import published_rows
from robench.boards.page.rows import (
    Labels,
    attack_label,
    attack_labels,
    ground_of,
    measured_rows,
)
from robench.boards.rank import Board

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("figures.js", "table.js", "scatter.js", "heatmap.js", "main.js")


def render(boards: Sequence[Board]) -> str:
    """The page with every measured and every published row.

    The same boards give the same bytes; nothing is fetched when it is viewed. All text from
    records is escaped, in the script's data too.
    """
    labels = attack_labels(boards)
    measured, published = list(measured_rows(boards)), list(published_rows(labels))
    rows = [*measured, *published]
    style, script = _text("page.css"), "\n".join(_text(name) for name in _SCRIPTS)
    return (
        environment(_FOLDER)
        .get_template("page.html")
        .render(
            rows=[msgspec.to_builtins(row) for row in rows],
            published=published,
            measured_count=len(measured),
            grounds=_grounds(boards, [row.ground for row in rows]),
            start=_start(boards, labels),
            details=list(details(boards, labels)),
            style=Markup(style),
            script=Markup(script),
            style_hash=policy_hash(style),
            script_hash=policy_hash(script),
        )
    )


def environment(folder: Path) -> Environment:
    """Templates of a folder: all text is escaped, and a name without a value is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _grounds(boards: Sequence[Board], all_grounds: Sequence[str]) -> list[str]:
    """Those with measured rows first, in the order of the boards; then by name."""
    return list(dict.fromkeys([*map(ground_of, boards), *sorted(all_grounds)]))


def _start(boards: Sequence[Board], labels: Labels) -> dict[str, str | float]:
    """What the page shows first."""
    if not boards:
        return {"ground": "cifar10, linf eps 8/255", "attack": "autoattack", "pi_adv": 0.5}
    first = boards[0]
    attack = attack_label(first, first.columns[0], labels)
    return {"ground": ground_of(first), "attack": attack, "pi_adv": first.pi_adv}


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def policy_hash(text: str) -> str:
    """For the page's content security policy: only this script runs, only this style applies."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
