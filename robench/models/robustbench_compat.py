"""Importing the model zoo of RobustBench without what its package asks for beside it.

`robustbench/__init__.py` imports the evaluator, which needs `autoattack` (on no package index) and
`pkg_resources` (gone from setuptools 82): in a fresh environment `import robustbench` fails. The
loader and the networks need neither, so they are imported past it.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType

from robench.core.errors import InputError
from robench.models.torchvision_compat import import_torchvision

_WITNESS = "robustbench/model_zoo/cifar10.py"
"""A file that torchattacks brings too, in an old version."""


def import_robustbench() -> ModuleType:
    """The module `robustbench.utils`: the loader `load_model` and the tables `all_models`.

    Raises: InputError when it is not installed, was overwritten by another package, or does not
    import for another reason.
    """
    _check_installed()
    import_torchvision()
    try:
        with inside_robustbench():
            return import_module("robustbench.utils")
    except ImportError as error:
        raise InputError(
            f"robustbench does not import ({error}): pip install 'robench[robustbench]'"
        ) from error


@contextmanager
def inside_robustbench() -> Iterator[None]:
    """For every call into it: submodules import past the package's own `__init__`.

    Its warnings are silenced; what it prints goes to stderr, away from machine output.
    """
    with warnings.catch_warnings(action="ignore"), redirect_stdout(sys.stderr), _no_front_door():
        yield


def _check_installed() -> None:
    """Not by import: torchattacks 3.5.1 carries an old robustbench, which imports in its place."""
    try:
        found = distribution("robustbench")
    except PackageNotFoundError:
        raise InputError(
            "robustbench is not installed: pip install 'robench[robustbench]'"
        ) from None
    listed = next((file for file in found.files or () if str(file) == _WITNESS), None)
    if listed is not None and listed.size != Path(str(listed.locate())).stat().st_size:
        raise InputError(
            f"robustbench {found.version} was overwritten (torchattacks carries an old copy): "
            f"pip install --force-reinstall --no-deps robustbench=={found.version}"
        )


@contextmanager
def _no_front_door() -> Iterator[None]:
    """An empty parent package while its submodules are imported; afterwards it is gone again."""
    if "robustbench" in sys.modules:  # somebody could import it as a whole
        yield
        return
    spec = find_spec("robustbench")
    assert spec is not None, "it is installed"
    sys.modules["robustbench"] = module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules["robustbench"]
