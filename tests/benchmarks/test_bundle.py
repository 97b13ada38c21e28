"""The bundle: what is in it, what is not, and that it cannot grow past its limit."""

import zipfile
from pathlib import Path

import pytest

from benchmarks import bundle


def test_it_holds_what_the_check_reads_and_no_boards() -> None:
    names = bundle.tracked()
    assert {"benchmarks/gpu_check.py", "robench/data/cifar10_sample.png", "pyproject.toml"} <= {
        *names
    }
    assert any(name.startswith("robench/defenses/weights/fast-at-resnet18-w32") for name in names)
    assert "tests/harness.py" in names
    assert not any(name.startswith(("leaderboards/", "docs/")) for name in names)
    size = sum((bundle.ROOT / name).stat().st_size for name in names)
    assert size < bundle.MOST - 40 * 2**20  # the packages take some 15 MiB


def test_files_go_to_the_same_places(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.py").write_text("1")
    bundle.copy_files(["a/b/c.py"], tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b" / "c.py").read_text() == "1"


def test_weights_stay_behind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        for name in ("pyautoattack/square.py", "pyautoattack/examples/model_test.pt"):
            archive.writestr(name, "x")
        archive.writestr("robustbench/__init__.py", "x")
    bundle.unpack(tmp_path / "x.whl", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["square.py"]


def test_one_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"123")
    assert bundle.checked_size(tmp_path) == 3
    monkeypatch.setattr(bundle, "MOST", 2)
    with pytest.raises(SystemExit, match="at most"):
        bundle.checked_size(tmp_path)
