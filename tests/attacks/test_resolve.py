"""From text to attacks: parameters, presets, groups, and what cannot be read."""

import dataclasses

import pytest

from robench.attacks import ATTACKS
from robench.attacks.resolve import resolve_attacks
from robench.attacks.transfer import Transfer
from robench.core.errors import InputError


def test_parameters_are_typed_by_the_fields() -> None:
    (named,) = resolve_attacks("pgd_sat[steps=50,step_size=1/255,start=none]")
    assert named.attack.steps == 50 and named.attack.step_size == 1 / 255
    assert named.info.parameters == {
        "steps": 50,
        "step_size": 1 / 255,
        "loss": "cross_entropy",
        "start": "none",
        "restarts": 1,
    }


def test_groups_expand_and_later_entries_override() -> None:
    named = resolve_attacks("white-box,pgd_sat[steps=7],fgsm")
    assert [n.name for n in named] == ATTACKS.group("white-box")
    assert next(n for n in named if n.name == "pgd_sat").attack.steps == 7


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("pgd_trades[preset=trades-nostart]", "start", "none"),
        ("pgd_trades[preset=trades-gauss]", "start", "gauss1e-3"),
        ("cw_inf[preset=cw-003]", "step_size", 0.003),
        ("cw_inf[preset=cw-003,steps=5]", "steps", 5),
    ],
)
def test_presets(text: str, field: str, value: object) -> None:
    assert getattr(resolve_attacks(text)[0].attack, field) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pgd_sta", "did you mean 'pgd_sat'"),
        ("pgd_sat[step=3]", "did you mean 'steps'"),
        ("pgd_sat[steps=three]", r"pgd_sat\[steps=three\]"),
        ("pgd_sat[steps=0]", "above 0"),
        ("pgd_sat[step_size=-1/255]", "above 0"),
        ("pgd_sat[step_size=nan]", "not a finite number"),
        ("pgd_sat[start=middle]", "start=middle"),
        ("pgd_sat[loss=cross_entorpy]", "did you mean 'cross_entropy'"),
        ("pgd_sat[preset=x]", "has no preset 'x'"),
        ("white-box[steps=3]", "is a group"),
        ("pgd_sat[steps=3", "brackets"),
        ("", "no attack given"),
        ("fools:LinfPGD", "unknown adapter"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_attacks(text)


def test_a_value_of_a_fixed_list_is_named_with_the_list() -> None:
    with pytest.raises(InputError, match=r"\[version=stanard\]: .*did you mean 'standard'.*plus"):
        resolve_attacks("autoattack[version=stanard]")


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_is_a_frozen_dataclass_with_its_declarations(name: str) -> None:
    attack = ATTACKS.load(name)
    assert dataclasses.is_dataclass(attack) and type(attack).__dataclass_params__.frozen
    assert set(attack.norms) <= {"linf", "l2"} and set(attack.stops) <= {"last", "any"}
    for stage in attack.stages(name, 10):
        least = 0 if isinstance(attack, Transfer) else 1  # its passes are the surrogate's
        assert stage.forward_passes >= least and stage.backward_passes >= 0 and stage.width >= 1
    assert 10 < len(ATTACKS.help(name)) < 90
