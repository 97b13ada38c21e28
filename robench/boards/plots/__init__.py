"""Pictures of records. A new figure is one file and one line here.

A figure is a function `name(records, **options) -> Plot`: its keywords are the options of
`robench plot` that it takes, and what it plots is data without matplotlib, so it can be checked,
hashed and printed.
"""

from robench.core.table import Table

FIGURES = Table(
    kind="figure",
    lines={
        "tradeoff": (
            "robench.boards.plots.tradeoff:tradeoff",
            (),
            "clean against robust accuracy, with the Pareto front and lines of equal W-Robust",
        ),
        "heatmap": (
            "robench.boards.plots.heatmap:heatmap",
            (),
            "robust accuracy of every defense under every attack",
        ),
    },
    entry_point_group="robench.figures",
)
