"""Numbers that other people published, to be shown beside measured ones: data, never corrected.

SOURCE.md says where each file is from and under which licence. `paper` and `robustbench` read the
files into typed rows once; `names` is the one table of what their words mean in ours.
"""

from robench.core.table import Table

SOURCES = Table(
    kind="published source",
    lines={
        "paper": (
            "robench.boards.published.paper:entries",
            (),
            "the tables of the B-MTARD paper and of the MTARD poster",
        ),
        "robustbench": (
            "robench.boards.published.robustbench:entries",
            (),
            "RobustBench's leaderboards of 2025-03-31",
        ),
    },
    entry_point_group="robench.published",
)
