"""Published figures of a RobustBench network beside ours of the same network."""

import msgspec
import pytest

from robench.boards.agreement import agreements
from robench.boards.compare import compare_with
from robench.boards.compare_text import render_markdown
from robench.boards.published import names
from robench.core.threat import ThreatModel

ID = "Sehwag2021Proxy_R18"  # published: clean 84.59, AutoAttack 55.54


@pytest.fixture
def loaded(record):
    """A record of a network that was loaded from RobustBench; counts are of 100 images."""

    def make(clean=85, survived=50, *, board="cifar10/Linf", name=ID, **changes):
        bits = ["1" * n + "0" * (100 - n) for n in (clean, survived)]
        parameters = dict(names.ATTACKS["autoattack"].parameters)
        fields = {"attack": "autoattack", "stop": "any", "parameters": parameters} | changes
        made = record(name, clean=bits[0], survived=bits[1], **fields)
        made.defense = msgspec.structs.replace(
            made.defense, architecture=f"robustbench:{board}/{name}", parameters=11_173_962
        )
        return made

    return make


def test_figures_within_the_interval_agree(loaded):
    # Wilson: 85 of 100 is [76.7, 90.7], 50 of 100 is [40.4, 59.6].
    assert agreements([loaded()]) == [
        f"{ID}: published clean 84.59 %, ours 85.00 % [76.7, 90.7]: agrees",
        f"{ID}: published AutoAttack 55.54 %, ours 50.00 % [40.4, 59.6]: agrees",
    ]


def test_figures_outside_differ(loaded):
    clean, attack = agreements([loaded(clean=95, survived=40)])
    assert clean.endswith("ours 95.00 % [88.8, 97.8]: differs")
    assert attack.endswith("ours 40.00 % [30.9, 49.8]: differs")


def test_other_attacks_say_clean_accuracy_once(loaded):
    records = [loaded(attack=attack, parameters={}) for attack in ("fgsm", "pgd_sat")]
    assert len(agreements(records)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"threat": ThreatModel("linf", 4 / 255)}, "it is of linf eps 8/255, ours of linf eps 4/2"),
        ({"parameters": {"version": "rand"}}, "version=rand (published standard)"),
    ],
)
def test_another_attack_is_not_compared(loaded, changes, reason):
    _, attack = agreements([loaded(**changes)])
    assert f"its published AutoAttack figure is not comparable: {reason}" in attack


def test_nothing_is_said_of_other_defenses_and_images(record, loaded):
    assert agreements([record(ID, "autoattack")]) == []  # by that name, but not loaded from there
    assert agreements([loaded(dataset="tiny-imagenet")]) == []
    assert agreements([loaded(status="partial")]) == []
    assert agreements([loaded(dataset="cifar10-sample")]) != []


def test_the_norm_tells_which_row(loaded):
    # 89.76 and 74.41 on the L2 board.
    clean, _ = agreements([loaded(board="cifar10/L2")])
    assert "published clean 89.76 %" in clean


def test_compare_puts_a_network_beside_its_own_row(found, loaded):
    # By its size, which is not the published one here, it would stay apart.
    peculiar = "Huang2020Self"
    measured = loaded(name=peculiar, threat=ThreatModel("linf", 0.031))
    (placement,) = compare_with(found(measured), peculiar, "robustbench")
    assert peculiar in [row.name for row in placement.rows]
    text = render_markdown([placement])
    assert f"{peculiar}: published clean 83.48 %, ours 85.00 %" in text
