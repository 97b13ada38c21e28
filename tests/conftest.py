"""What every test gets: a home of its own, and one thread for networks too small to share."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


EXTRAS = ("foolbox", "gdown", "matplotlib", "pyautoattack", "scipy", "torchattacks", "torchvision")


def pytest_configure(config: pytest.Config) -> None:
    """Where a machine decides, a missing extra is a failure and not a skip."""
    missing = [name for name in EXTRAS if find_spec(name) is None]
    if missing and os.environ.get("CI"):
        raise pytest.UsageError(f"CI needs every extra, {', '.join(missing)} missing: make setup")


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small passes on two busy cores spend their time waiting for each other's threads."""
    before = torch.get_num_threads()
    if request.node.get_closest_marker("slow") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(one_thread: None) -> None:
    """For tests of what threads do; `one_thread` takes them back."""
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def own_home(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """No test reads or writes the user's records; slow tests may read the user's data sets."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("ROBENCH_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def shared() -> Path:
    """The folder of development data and models beside the repository, or a skip that says so."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no shared/ folder beside the repository")
    return folder
