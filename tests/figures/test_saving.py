"""Figures as files: equal bytes for equal data, and the digest of the data inside."""

from pathlib import Path

import pytest

from robench.core.errors import InputError
from robench.figures.saving import (
    FORMATS,
    digest,
    format_of,
    rendered,
    stale,
    stored_digest,
    write_all,
)
from robench.figures.style import blank, styled


def _drawn(data: list[float]) -> dict[str, bytes]:
    with styled():
        figure = blank(2, 2)
        figure.add_subplot().plot(data)
    return rendered(figure, FORMATS, data)


def test_every_format_holds_the_digest_and_repeats_to_the_byte(tmp_path: Path) -> None:
    data = [1.0, 3.0, 2.0]
    first = _drawn(data)
    assert first == _drawn(data)
    paths = {tmp_path / f"x.{name}": content for name, content in first.items()}
    write_all(paths)
    assert {stored_digest(path) for path in paths} == {digest(data)}


def test_a_file_of_other_data_is_stale_and_a_missing_one_too(tmp_path: Path) -> None:
    here, missing = tmp_path / "a.svg", tmp_path / "b.svg"
    write_all({here: _drawn([1.0, 2.0])["svg"]})
    assert stale([here, missing], [1.0, 2.0]) == [missing]
    assert stale([here, missing], [1.0, 2.5]) == [here, missing]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("x.pgn", "did you mean 'png'"), ("x", "no suffix"), ("x.jpeg", "unknown suffix '.jpeg'")],
)
def test_other_suffixes_are_refused(name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        format_of(Path(name))
