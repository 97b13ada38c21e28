"""Tables: names without imports, targets when asked for, typos with the nearest name."""

import sys
from importlib.metadata import EntryPoint

import pytest

from robench.core import table as table_module
from robench.core.errors import InputError
from robench.core.table import Table

TABLE = Table(
    kind="attack",
    lines={
        "fgsm": ("json:dumps", ("white-box", "all"), "one step"),
        "pgd_sat": ("xml.dom.pulldom:parse", ("white-box", "all"), "twenty steps"),
        "square": ("json:loads", ("black-box", "all"), "queries"),
    },
    entry_point_group="robench.test_attacks",
)


@pytest.fixture
def foreign(monkeypatch):
    """Entry points as if another package were installed."""

    def install(**targets):
        points = [
            EntryPoint(name, value, "robench.test_attacks") for name, value in targets.items()
        ]

        def entry_points(group, name=None):
            assert group == "robench.test_attacks"
            return [point for point in points if name in (None, point.name)]

        monkeypatch.setattr(table_module, "entry_points", entry_points)

    return install


def test_names_groups_and_help_in_the_order_of_the_table():
    assert TABLE.names() == ["fgsm", "pgd_sat", "square"]
    assert TABLE.groups() == ["white-box", "all", "black-box"]
    assert TABLE.group("white-box") == ["fgsm", "pgd_sat"]
    assert TABLE.group("nothing") == []
    assert TABLE.help("fgsm") == "one step"
    assert TABLE.plural == "attacks"


def test_listing_imports_no_target():
    sys.modules.pop("xml.dom.pulldom", None)
    assert [TABLE.help(name) for name in TABLE.names()] == ["one step", "twenty steps", "queries"]
    assert "xml.dom.pulldom" not in sys.modules
    assert TABLE.load("pgd_sat").__name__ == "parse"


@pytest.mark.parametrize(
    ("typo", "hint"),
    [
        ("pgd_sta", ": did you mean 'pgd_sat'?"),
        ("PGD-SAT", ": did you mean 'pgd_sat'?"),
        ("fgms", ": did you mean 'fgsm'?"),
        ("whitebox", ": did you mean 'white-box'"),
        ("zzz", "unknown attack 'zzz'. See"),
        ("", "unknown attack ''. See"),
    ],
)
def test_typos(typo, hint):
    with pytest.raises(InputError) as caught:
        TABLE.load(typo)
    assert hint in str(caught.value)
    assert str(caught.value).endswith("See robench list attacks.")


def test_entry_points_add_names_and_never_replace_ours(foreign):
    foreign(theirs="json:JSONDecoder", fgsm="json:JSONEncoder")
    assert TABLE.names() == ["fgsm", "pgd_sat", "square", "theirs"]
    assert TABLE.help("theirs") == "from another package"
    assert TABLE.load("theirs").__name__ == "JSONDecoder"
    assert TABLE.load("fgsm").__name__ == "dumps"


@pytest.mark.parametrize("target", ["no_such_module_here:thing", "json:no_such_attribute"])
def test_a_broken_entry_point_is_named(foreign, target):
    foreign(theirs=target)
    with pytest.raises(InputError, match=f"'theirs' comes from {target}, which does not load"):
        TABLE.load("theirs")


@pytest.mark.parametrize(
    ("target", "what"), [("json:no_such", "not there"), ("json:JSONDecoder", "a class")]
)
def test_a_line_names_an_instance_that_is_there(target, what):
    table = Table("attack", {"mine": (target, (), "something")}, "robench.attacks")
    with pytest.raises(InputError, match=f"'mine': {target} is {what}"):
        table.load("mine")
