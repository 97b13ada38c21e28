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
        "epsilon": (
            "robench.boards.plots.epsilon:epsilon",
            (),
            "robust accuracy against eps, from records at several eps or from audits",
        ),
        "queries": (
            "robench.boards.plots.queries:queries",
            ("one-defense",),
            "robust accuracy against the queries of black-box attacks",
        ),
        "heatmap": (
            "robench.boards.plots.heatmap:heatmap",
            (),
            "robust accuracy of every defense under every attack",
        ),
        "gallery": (
            "robench.boards.plots.gallery:gallery",
            ("one-defense",),
            "images before and after the attack, with what the defense takes them for",
        ),
    },
    entry_point_group="robench.figures",
)
