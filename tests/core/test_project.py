"""robench.toml: where records go, and what cannot be read."""

from pathlib import Path

import pytest

from robench.core.errors import InputError
from robench.core.folders import records_folder
from robench.core.project import TEMPLATE, records_place, section
from robench.defenses.settings import configured


def test_the_template_sets_nothing_and_means_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "robench.toml"
    file.write_text(TEMPLATE)
    assert records_place(tmp_path) == records_folder() and configured(tmp_path) == {}
    lines = (line.removeprefix("# ") for line in TEMPLATE.splitlines())
    file.write_text("\n".join(line for line in lines if line.startswith("[") or " = " in line))
    assert records_place(tmp_path) == tmp_path / "records"
    mine = configured(tmp_path)["mine"]
    assert (mine.ref, mine.arch, mine.width) == ("runs/mine.pt", "resnet18", 32)
    assert (mine.normalize, mine.dataset) == ("cifar10", "cifar10")


def test_records_go_where_the_file_says(tmp_path: Path) -> None:
    assert records_place(tmp_path) == records_folder()
    (tmp_path / "robench.toml").write_text('[eval]\nout = "mine"\n')
    assert records_place(tmp_path) == tmp_path / "mine"
    assert section(tmp_path, "defenses") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[eval]\nput = 3\n", "put"),
        ("[eval]\nout = 3\n", "out"),
        ("eval = 3\n", r"write \[eval\]"),
        ("[eval\n", "no TOML file"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "robench.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        records_place(tmp_path)
