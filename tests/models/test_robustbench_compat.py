"""Importing RobustBench past the parts of it that do not import."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from robench.core.errors import InputError
from robench.models import robustbench_compat
from robench.models.robustbench_compat import import_robustbench, inside_robustbench

FAKE = {
    "__init__.py": "import no_such_evaluator\n",
    "utils.py": "import warnings\nwarnings.warn('old')\nprint('hello')\nall_models = {}\n",
    "late.py": "loaded = True\n",
}


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A package `robustbench` whose `__init__` fails, as the published one's does."""
    before = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "robustbench"}
    for name in before:
        del sys.modules[name]
    (tmp_path / "robustbench").mkdir()
    for name, code in FAKE.items():
        (tmp_path / "robustbench" / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(robustbench_compat, "_check_installed", lambda: None)
    monkeypatch.setattr(robustbench_compat, "import_torchvision", lambda: None)
    yield tmp_path / "robustbench"
    for name in [name for name in sys.modules if name.split(".")[0] == "robustbench"]:
        del sys.modules[name]
    sys.modules.update(before)


def test_the_loader_imports_although_the_package_does_not(fake, capsys):
    assert import_robustbench().all_models == {}
    assert "robustbench" not in sys.modules  # whoever imports the whole gets its own error
    with pytest.raises(ModuleNotFoundError, match="no_such_evaluator"):
        import robustbench  # noqa: F401
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")  # machine output stays clean, and no warning was raised


def test_what_it_imports_late_imports_too(fake):
    import_robustbench()
    with inside_robustbench():
        from robustbench.late import loaded
    assert loaded


def test_an_import_that_fails_says_what_to_install(fake):
    (fake / "utils.py").write_text("import no_such_gdown\n")
    with pytest.raises(InputError, match=r"no_such_gdown.*pip install 'robench\[robustbench\]'"):
        import_robustbench()


def test_what_torchattacks_brings_is_not_robustbench(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(robustbench_compat, "distribution", missing)
    with pytest.raises(InputError, match=r"^robustbench is not installed: pip install [^\n]*$"):
        import_robustbench()


def test_files_that_another_package_overwrote_are_noticed(monkeypatch, tmp_path):
    (tmp_path / "robustbench/model_zoo").mkdir(parents=True)
    (tmp_path / "robustbench/model_zoo/cifar10.py").write_text("an old copy\n")

    class Installed:
        version = "1.1.1"
        files = (metadata.PackagePath("robustbench/model_zoo/cifar10.py"),)

    Installed.files[0].size, Installed.files[0].dist = 40_000, Installed
    Installed.locate_file = staticmethod(lambda path: Path(tmp_path, path))
    monkeypatch.setattr(robustbench_compat, "distribution", lambda name: Installed)
    with pytest.raises(InputError, match=r"robustbench 1.1.1 was overwritten.*--no-deps robustb"):
        import_robustbench()
