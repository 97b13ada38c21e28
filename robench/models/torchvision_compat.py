"""Importing torchvision beside a torch that it was not built for.

Its wheel carries compiled operators for one build of torch. Beside another (a CPU build) the import
fails with `operator torchvision::nms does not exist`, though models and transforms are pure Python.
"""

import sys
from importlib import import_module
from types import ModuleType

import torch

from robench.core.errors import InputError

_MISSING = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""What torchvision 0.28.0 registers fake kernels for at import."""
_declared: list[torch.library.Library] = []  # a library that is collected takes its operators along


def import_torchvision() -> ModuleType:
    """torchvision, with the missing operators declared where the import needs it.

    Raises: InputError when it is not installed, or does not import for another reason.
    """
    try:
        return _import()
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise InputError(f"torchvision does not import: {error}") from error
    _declare_missing()
    try:
        return _import()
    except RuntimeError as error:
        raise InputError(
            f"torchvision does not import beside torch {torch.__version__}: {error}"
        ) from error


def _import() -> ModuleType:
    before = set(sys.modules)
    try:
        return import_module("torchvision")
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed: pip install 'robench[torchvision]'"
        ) from error
    except RuntimeError:
        # Submodules of the failed import stay behind and would not run their code again.
        for name in [name for name in set(sys.modules) - before if name.startswith("torchvision")]:
            del sys.modules[name]
        raise


def _declare_missing() -> None:
    """Schemas without kernels: calling one still fails, importing the rest does not."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, schema in _MISSING.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
