"""torchvision beside a torch that its wheel was not built for."""

import sys
from importlib.util import find_spec

import pytest

from robench.core.errors import InputError
from robench.models import torchvision_compat
from robench.models.torchvision_compat import import_torchvision


def _loaded():
    return {n: m for n, m in sys.modules.items() if n.split(".")[0] == "torchvision"}


@pytest.fixture
def without_torchvision():
    """torchvision not yet imported; what was loaded before is back afterwards."""
    before = _loaded()
    for name in before:
        del sys.modules[name]
    yield
    for name in _loaded():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def fake(without_torchvision, monkeypatch, tmp_path):
    """A function that writes the package `torchvision`."""

    def write(code):
        package = tmp_path / "torchvision"
        package.mkdir()
        (package / "__init__.py").write_text(code)
        (package / "early.py").write_text("loads = []\n")
        monkeypatch.syspath_prepend(tmp_path)

    return write


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_the_installed_torchvision_imports():
    torchvision = import_torchvision()
    assert "resnet18" in torchvision.models.list_models()
    assert import_torchvision() is torchvision


def test_nothing_is_declared_where_the_import_works(fake):
    fake("models = 'whole'\n")
    declared = list(torchvision_compat._declared)
    assert import_torchvision().models == "whole"
    assert torchvision_compat._declared == declared


def test_missing_operators_are_declared_and_the_import_starts_over(fake, monkeypatch):
    code = (
        "import torch, torchvision.early\n"
        "torchvision.early.loads.append(1)\n"
        "if not hasattr(torch.ops.torchvision, 'robench_test'):\n"
        "    raise RuntimeError('operator torchvision::robench_test does not exist')\n"
        "loads = len(torchvision.early.loads)\n"
    )
    fake(code)
    monkeypatch.setattr(torchvision_compat, "_MISSING", {"robench_test": "(Tensor x) -> Tensor"})
    assert import_torchvision().loads == 1  # the submodule of the failed import ran again


def test_an_operator_that_nobody_knows_is_an_error_in_one_line(fake, monkeypatch):
    fake("raise RuntimeError('operator torchvision::new does not exist')\n")
    monkeypatch.setattr(torchvision_compat, "_MISSING", {})
    with pytest.raises(InputError, match=r"does not import beside torch .*torchvision::new"):
        import_torchvision()


def test_without_torchvision_the_extra_is_named(without_torchvision):
    sys.modules["torchvision"] = None  # what import finds where nothing is installed
    with pytest.raises(InputError, match=r"pip install 'robench\[torchvision\]'"):
        import_torchvision()
