"""The table of flags: what the package raises, what a gate asks and what the documents say."""

import ast
import re
from pathlib import Path

import pytest

from robench.core.errors import InputError
from robench.core.flags import FLAGS, Level, check_names
from robench.evaluation import flags as made

ROOT = Path(__file__).parents[2]
BY_TABLE = {"evaluation/flags.py": 1, "core/row.py": 1}
"""Calls whose name is a variable: tables that are looked at below, and unions of other flags."""


def _constants(node: ast.expr) -> set[object]:
    if isinstance(node, ast.IfExp):
        return _constants(node.body) | _constants(node.orelse)
    return {node.value if isinstance(node, ast.Constant) else None}


def raised(source: str) -> list[tuple[object, set[object]]]:
    """(name, levels) of each Flag that the source makes; None for what is no constant."""
    calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    keywords = [
        {k.arg: k.value for k in call.keywords}
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "Flag"
    ]
    return [(*_constants(given["name"]), _constants(given["level"])) for given in keywords]


def test_flags_are_found_in_source() -> None:
    source = 'Flag(name="a", level="warn" if x else "fail"); Flag(name=n, level="info")'
    assert raised(source) == [("a", {"warn", "fail"}), (None, {"info"})]


def test_every_flag_of_the_package_is_in_the_table_with_its_levels() -> None:
    found: dict[object, set[object]] = {}
    for path in sorted((ROOT / "robench").rglob("*.py")):
        file, here = path.relative_to(ROOT / "robench").as_posix(), raised(path.read_text())
        assert sum(name is None for name, _ in here) == BY_TABLE.get(file, 0), file
        for name, levels in here:
            found.setdefault(name, set()).update(levels)
    del found[None]
    found |= {name: {"warn", "fail"} for name in made._REFUSED}
    found |= {name: {"info"} for name in made._COUNTED}
    assert found == {name: set(levels) for name, (levels, _) in FLAGS.items()}


def stops(levels: tuple[Level, ...]) -> str:
    if "fail" not in levels:
        return "no"
    return "yes" if levels == ("fail",) else "from a share on"


EXPECTED = {name: stops(levels) for name, (levels, _) in FLAGS.items()}


def test_the_page_on_reading_says_of_every_flag_whether_it_stops_a_gate() -> None:
    text = (ROOT / "docs" / "reading.md").read_text()
    lines = re.findall(r"^\| (`.*?) \| .* \| (yes|no|from a share on) \|$", text, re.MULTILINE)
    said = [(name, stop) for names, stop in lines for name in re.findall(r"`(\w+)`", names)]
    assert len(said) == len(dict(said)) and dict(said) == EXPECTED


def test_the_readme_lists_every_flag_under_what_it_does_to_a_gate() -> None:
    text = (ROOT / "README.md").read_text()
    groups = {"always": "yes", "`fail` where": "from a share on", "never": "no"}
    said = [
        (name, stop)
        for start, stop in groups.items()
        for names in re.findall(rf"^  - {start}[^:]*:((?:.*\n)(?:    .*\n)*)", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert len(said) == len(dict(said)) and dict(said) == EXPECTED


def test_unknown_names_are_told_the_nearest() -> None:
    check_names(["zero_gradient", "stateful"])
    with pytest.raises(InputError, match="unknown flag 'zero_gradients': did you mean 'zero_grad"):
        check_names(["stateful", "zero_gradients"])
    with pytest.raises(InputError, match=r"unknown flag 'xyz': docs/reading\.md lists them"):
        check_names(["xyz"])
