"""robench.toml: where records go, and what cannot be read."""

from pathlib import Path

import pytest

from robench.core.errors import InputError
from robench.core.project import records_default, section


def test_records_go_where_the_file_says(tmp_path: Path) -> None:
    assert records_default(tmp_path) is None
    (tmp_path / "robench.toml").write_text('[eval]\nout = "mine"\n')
    assert records_default(tmp_path) == tmp_path / "mine"
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
        records_default(tmp_path)
