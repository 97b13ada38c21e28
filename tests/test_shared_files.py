"""What is committed for others holds no absolute path of the machine that made it."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robench.core.record import read_record
from robench.defenses.export import portable_metadata
from robench.defenses.reference import load_defense
from robench.models.weights import write_weights

ROOT = Path(__file__).parents[1]
TEXT = {".json", ".csv", ".html", ".md", ".toml", ".py", ".css", ".js"}
MACHINE = re.compile(
    rb"(?<![\w.])/(?:work|root|tmp|mnt|scratch|(?:home|Users)/\w)[\w./-]*|\b[A-Z]:\\+Users\b"
)
CHECKPOINTS = sorted((ROOT / "leaderboards" / "checkpoints").rglob("*.safetensors"))


def _content(path: Path) -> bytes:
    """The text of a file; of a checkpoint its header."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return content[8 : 8 + int.from_bytes(content[:8], "little")]
    return content


def paths_of_machines(folder: Path) -> list[str]:
    """Every absolute path of a machine in files below `folder`, with the file."""
    return [
        f"{path}: {found.group().decode(errors='replace')}"
        for path in sorted(folder.rglob("*"))
        if path.suffix in TEXT | {".safetensors"} and path.is_file()
        for found in MACHINE.finditer(_content(path))
    ]


@pytest.mark.parametrize("folder", ["leaderboards", "robench", "docs"])
def test_nothing_committed_says_where_it_was_made(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert paths_of_machines(ROOT / folder) == []


@pytest.mark.parametrize(
    "path", ["/work/x", "/root/.venv/x.pt", "/tmp/w/x", "/home/me/x", "/Users/me/x", r"C:\Users\me"]
)
def test_a_planted_path_is_found(tmp_path: Path, path: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.json").write_text(json.dumps({"ref": path}))
    metadata = {"teachers": json.dumps({"clean": {"path": path}})}
    write_weights(tmp_path / "a" / "x.safetensors", {"w": torch.ones(1)}, metadata)
    (tmp_path / "page.html").write_text("see https://x.org/home/me and docs/tmp/x")
    assert len(paths_of_machines(tmp_path)) == 2


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_committed_weights_are_those_of_their_records(path: Path) -> None:
    """Records name the file as it was before its paths went; the fingerprint is of its tensors."""
    records = sorted((ROOT / "leaderboards" / "records" / "cifar10" / path.stem).glob("*.json"))
    fingerprint = load_defense(str(path)).fingerprint
    assert records and {read_record(r).defense.fingerprint for r in records} == {fingerprint}
    assert {t.dtype for t in load_file(path).values()} == {torch.float16, torch.int64}


def test_metadata_lose_paths_and_nothing_else() -> None:
    teachers = {
        "clean": {"ref": "natural-resnet18", "path": "/root/site-packages/x.pt", "sha256": "1"},
        "robust": {"ref": "/data/t.pt", "path": "/data/t.pt", "fingerprint": "2"},
    }
    said = {"method": "ard", "recipe": 'ref = "/data/t.pt"', "teachers": json.dumps(teachers)}
    found = portable_metadata(said)
    assert json.loads(found.pop("teachers")) == {
        "clean": {"ref": "natural-resnet18", "sha256": "1"},
        "robust": {"ref": "t.pt", "fingerprint": "2"},
    }
    assert found == {"method": "ard", "recipe": 'ref = "t.pt"'}
    for other in ({}, {"teachers": "two of them"}, {"teachers": '["a"]'}, {"method": "sat"}):
        assert portable_metadata(other) == other
