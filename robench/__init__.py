"""robench: how robust is a defense, in numbers that a reviewer believes.

The front door (`evaluate`, `train`, `ThreatModel`) is resolved on first use, so that
`import robench` and `robench --help` load neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robench.core.threat import ThreatModel
    from robench.evaluation.run import evaluate
    from robench.training.run import train

__version__ = "0.1.0"
__all__ = ["ThreatModel", "__version__", "evaluate", "train"]

_HOMES = {
    "ThreatModel": "robench.core.threat",
    "evaluate": "robench.evaluation.run",
    "train": "robench.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
