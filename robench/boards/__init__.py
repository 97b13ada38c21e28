"""Leaderboards from records. A new output format is one file and one line here.

A format is a function `render(boards)`: a sequence of `rank.Board` in, text out (for the terminal:
something that rich can print). The same boards give the same bytes.
"""

from robench.core.table import Table

FORMATS = Table(
    kind="format",
    lines={
        "table": ("robench.boards.terminal:render", (), "tables for the terminal"),
        "md": ("robench.boards.markdown:render", (), "one Markdown section per board"),
        "csv": ("robench.boards.csv:render", (), "one line per defense and attack"),
        "json": ("robench.boards.json:render", (), "the same rows as robench eval --json"),
        "latex": ("robench.boards.latex:render", (), "tables for a paper, best in bold"),
        "html": ("robench.boards.html:render", (), "one page to sort, filter and weigh"),
    },
    entry_point_group="robench.formats",
)
