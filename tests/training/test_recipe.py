"""Recipes: what contradicts is refused, TOML reads back, differences name the key."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robench.core.errors import InputError
from robench.training.plan import differences, flat, read_recipe, recipe_toml, toml_value
from robench.training.recipe import Inner, Optimizer, Recipe, Student, Teacher

RECIPE = Recipe(
    method="bmtard",
    dataset="cifar10",
    student=Student(width=16),
    optimizer=Optimizer(milestones=[0.5, 0.75]),
    teachers={"clean": Teacher(ref="natural-resnet18", clean=0.9422)},
    parameters={"beta": 1.0, "kl_scale": "batchmean/10"},
)


def _read(text: str) -> Recipe:
    return msgspec.convert(tomllib.loads(text), Recipe)


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        (Optimizer, {"milestones": [0.9, 0.5]}, r"milestones must increase, unlike \[0.9, 0.5\]"),
        (Optimizer, {"milestones": [0.5, 0.5]}, "milestones must increase"),
        (Optimizer, {"nesterov": True, "momentum": 0.0}, "nesterov needs a momentum above 0"),
        (Optimizer, {"lr": float("inf")}, "must be finite"),
        (Optimizer, {"weight_decay": float("inf")}, "must be finite"),
        (Optimizer, {"lr": float("nan")}, r"> 0.0 - at `\$.lr`"),
        (Optimizer, {"decay": 0.0}, r"> 0.0 - at `\$.decay`"),
        (Inner, {"eps": 0}, "eps must be above 0 and at most 1, as 8/255, not 0"),
        (Inner, {"eps": 8}, "eps must be above 0 and at most 1, as 8/255, not 8"),
        (Inner, {"eps": float("nan")}, "eps must be above 0"),
        (Inner, {"eps": "eight"}, "cannot read 'eight' as a number"),
        (Inner, {"step_size": 0}, "step_size must be above 0"),
        (Inner, {"step_size": "-2/255"}, "step_size must be above 0, as 2/255, not -2/255"),
        (Inner, {"step_size": float("inf")}, "step_size must be above 0"),
        (Inner, {"steps": 0}, r">= 1 - at `\$.steps`"),
        (Teacher, {"ref": "x", "clean": 94.22}, r"<= 1.0 - at `\$.clean`"),
    ],
)
def test_what_cannot_be_is_refused(kind: Any, values: dict[str, Any], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.convert(values, kind)


def test_a_schedule_of_steps_without_milestones_is_a_constant_rate() -> None:
    assert msgspec.convert({"schedule": "steps", "milestones": []}, Optimizer).milestones == []


def test_pixel_units_are_read_from_both_forms() -> None:
    assert Inner(eps="8/255", step_size=0.007).radius == 8 / 255
    assert Inner(eps=0.031, step_size="2/255").step == 2 / 255
    assert Inner(eps=0.031, step_size=0.007).radius == 0.031


def test_toml_says_every_value_with_tables_last() -> None:
    text = recipe_toml(RECIPE)
    assert text.startswith('method = "bmtard"\ndataset = "cifar10"\npreset = "paper"\n')
    assert "\n[optimizer]\nlr = 0.1\nmomentum = 0.9\nweight_decay = 0.0002\n" in text
    assert "\nmilestones = [0.5, 0.75]\n" in text
    assert '\n[teachers.clean]\nref = "natural-resnet18"\nclean = 0.9422\n' in text
    assert "[teachers]" not in text
    assert "None" not in text
    assert set(flat(tomllib.loads(text))) == {
        path for path, value in flat(msgspec.to_builtins(RECIPE)).items() if value is not None
    }


def test_toml_reads_back_to_the_same_recipe() -> None:
    assert _read(recipe_toml(RECIPE)) == RECIPE
    assert _read(recipe_toml(Recipe(method="sat", dataset="cifar10"))) == Recipe(
        method="sat", dataset="cifar10"
    )


@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    number=st.floats(allow_nan=False),
    whole=st.integers(-(2**63), 2**63 - 1),
)
def test_toml_reads_back_any_value(text: str, number: float, whole: int) -> None:
    parameters = {"text": text, "numbers": [number, whole], text: True, "table": {text: number}}
    recipe = Recipe(method=text, dataset="\x7f\n\"\\'é😀", parameters=parameters)
    assert _read(recipe_toml(recipe)) == recipe


def test_a_recipe_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_toml(RECIPE), encoding="utf-8")
    assert read_recipe(file) == RECIPE
    file.write_text('method = "sat"\n')
    with pytest.raises(InputError, match=r"recipe\.toml is no whole recipe: .*`dataset`"):
        read_recipe(file)


def test_toml_leaves_out_tables_without_values() -> None:
    recipe = Recipe(method="sat", dataset="cifar10", parameters={"only": {"none": None}})
    assert "only" not in recipe_toml(recipe)


def test_truth_values_are_not_numbers_in_toml() -> None:
    assert [toml_value(value) for value in (True, False, 1, 1e-5)] == [
        "true",
        "false",
        "1",
        "1e-05",
    ]


def test_differences_name_the_key_and_both_values() -> None:
    optimizer = Optimizer(lr=0.2, milestones=[0.5])
    new = msgspec.structs.replace(
        RECIPE,
        label="longer",
        student=Student(),
        optimizer=optimizer,
        teachers={},
        parameters={"beta": 2.0, "kl_scale": "batchmean/10", "kl_eps": 1e-5},
    )
    assert differences(RECIPE, new) == [
        'label: "" before, "longer" now',
        "student.width: 16 before, none now",
        "optimizer.lr: 0.1 before, 0.2 now",
        "optimizer.milestones: [0.5, 0.75] before, [0.5] now",
        'teachers.clean.ref: "natural-resnet18" before, none now',
        "teachers.clean.clean: 0.9422 before, none now",
        "parameters.beta: 1.0 before, 2.0 now",
        "parameters.kl_eps: none before, 1e-05 now",
    ]
    assert differences(RECIPE, RECIPE) == []
