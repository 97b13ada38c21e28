"""Plans: which layer wins, what every method's recipes amount to, and how errors are worded."""

import itertools
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from robench.core.errors import InputError
from robench.training import METHODS, layers
from robench.training.plan import build_method, flat, recipe_toml, resolve_recipe
from robench.training.recipe import Recipe, Teacher
from robench.training.schedule import Schedule
from robench.training.vocabulary import Vocabulary

DATASETS = ("cifar10", "cifar100", "tiny-imagenet", "elsewhere")
FAMILY = ("mtard-baseline", "mtard-ebb", "mtard", "bmtard")


def _teachers(method: str) -> list[str]:
    return [f"{role}={role}.safetensors" for role in METHODS.load(method).roles]


def _recipe(method: str, dataset: str = "cifar10", **options: Any) -> Recipe:
    teachers = _teachers(method) if dataset != "cifar10" else []
    return resolve_recipe(method, dataset, **{"teachers": teachers, **options})


def _every_plan() -> list[tuple[str, str, str]]:
    return [
        (method, dataset, preset)
        for method, dataset in itertools.product(METHODS.lines, DATASETS)
        for preset in layers.shipped(dataset).presets(method)
    ]


def _rates(recipe: Recipe) -> list[tuple[int, float]]:
    """The first epoch at each learning rate."""
    schedule = Schedule(recipe.optimizer, recipe.epochs, 1)
    rates = {e: round(schedule.rate(e, 1), 9) for e in range(1, recipe.epochs + 1)}
    return [(e, rate) for e, rate in rates.items() if rates.get(e - 1) != rate]


@pytest.mark.parametrize(("method", "dataset", "preset"), _every_plan())
def test_every_recipe_is_complete_and_reads_back(method: str, dataset: str, preset: str) -> None:
    recipe = _recipe(method, dataset, preset=preset)
    built = build_method(recipe)
    words = Vocabulary(method, METHODS.load(method))
    assert {name: getattr(built, name) for name in words.parameters} == recipe.parameters
    assert set(recipe.teachers) == set(words.method.roles)
    assert (recipe.method, recipe.dataset, recipe.preset) == (method, dataset, preset)
    assert msgspec.convert(tomllib.loads(recipe_toml(recipe)), Recipe) == recipe


@pytest.mark.parametrize("method", METHODS.lines)
def test_a_written_recipe_given_back_is_the_same_recipe(method: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "preset": "small",
        "seed": 3,
        "student": "mobilenet_v2",
        "changes": ["inner.eps=4/255"],
    }
    recipe = _recipe(method, **asked)
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_toml(recipe), encoding="utf-8")
    assert resolve_recipe(method, "cifar10", file=file) == recipe


@pytest.mark.parametrize("dataset", DATASETS)
def test_shipped_recipes_have_no_key_that_no_method_takes(dataset: str) -> None:
    words = {name: Vocabulary(name, METHODS.load(name)) for name in METHODS.lines}
    taken = {path for each in words.values() for path in each.keys}
    for file in layers.shipped(dataset).files:
        shared = [file.table, *file.table.get("presets", {}).values()]
        shared += file.table.get("students", {}).values()
        for table in shared:
            own = {k: v for k, v in table.items() if k not in ("presets", "methods", "students")}
            assert set(flat(own)) <= taken
        assert set(file.table.get("methods", {})) <= set(words)


def test_the_common_schedule() -> None:
    recipe = _recipe("bmtard")
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.weight_decay) == (300, 128, 2e-4)
    assert (recipe.optimizer.momentum, recipe.optimizer.nesterov) == (0.9, False)
    assert _rates(recipe) == [(1, 0.1), (216, 0.01), (261, 0.001), (286, 0.0001)]
    inner = recipe.inner
    assert (inner.radius, inner.step, inner.steps) == (8 / 255, 2 / 255, 10)
    assert (inner.start, inner.craft_mode) == ("gauss1e-3", "eval")
    assert (recipe.selection.part, recipe.selection.images) == ("validation", 1000)
    assert (recipe.student.arch, recipe.student.width, recipe.label) == ("resnet18", None, "")


def test_the_schedules_of_single_methods() -> None:
    assert _rates(_recipe("natural")) == [(1, 0.1), (76, 0.01), (91, 0.001)]
    assert _rates(_recipe("trades")) == [(1, 0.1), (76, 0.01), (91, 0.001), (101, 0.0001)]
    assert _rates(_recipe("trades", preset="released")) == [(1, 0.1), (75, 0.01)]
    assert _rates(_recipe("sat", preset="sat-rice"))[1:] == [(101, 0.01), (151, 0.001)]
    assert _recipe("sat").inner.start == "uniform"
    fast = _recipe("fast-at")
    assert (fast.epochs, fast.optimizer.lr, fast.optimizer.schedule) == (12, 0.2, "one-cycle")
    assert (fast.inner.craft_mode, fast.inner.steps) == ("train", 1)
    assert (fast.optimizer.weight_decay, fast.batch_size) == (5e-4, 128)


def test_tiny_imagenet_has_its_own_schedule_and_student() -> None:
    recipe = _recipe("bmtard", "tiny-imagenet")
    assert (recipe.epochs, recipe.batch_size) == (100, 32)
    assert _rates(recipe) == [(1, 0.1), (76, 0.01), (91, 0.001)]
    assert recipe.student.arch == "preactresnet18"
    assert _rates(_recipe("sat", "tiny-imagenet"))[0] == (1, 0.01)
    assert _rates(_recipe("trades", "tiny-imagenet")) == _rates(recipe)


@pytest.mark.parametrize("method", METHODS.lines)
@pytest.mark.parametrize(
    ("dataset", "arch"), [("cifar10", "resnet18"), ("tiny-imagenet", "preactresnet18")]
)
def test_small_is_small_for_every_method(method: str, dataset: str, arch: str) -> None:
    recipe = _recipe(method, dataset, preset="small")
    assert (recipe.epochs, recipe.batch_size) == (8, 128)
    assert (recipe.student.arch, recipe.student.width) == (arch, 16)
    optimizer = recipe.optimizer
    assert (optimizer.lr, optimizer.schedule, optimizer.peak) == (0.2, "one-cycle", 0.3)
    assert optimizer.weight_decay == 5e-4
    assert recipe.parameters.get("kl_scale", "batchmean") == "batchmean"
    one_step = method in ("natural", "fast-at")
    style = "reconstruction, " if method.endswith("-style") else ""
    assert recipe.label == style + ("small-scale" if one_step else "small-scale, 5-step")
    assert recipe.inner.steps == (1 if method == "fast-at" else 5)
    if method in FAMILY:
        balances = METHODS.load(method).entropy_balance
        expected = 0.001 * 300 / 8 if balances else 0.001
        assert recipe.parameters["temperature_rate"] == pytest.approx(expected, rel=1e-12)


def test_the_label_follows_the_number_of_steps() -> None:
    assert _recipe("sat", preset="small", changes=["inner.steps=3"]).label == "small-scale, 3-step"


@pytest.mark.parametrize("method", ["rslad", *FAMILY])
def test_released_sets_the_switches_of_the_published_code(method: str) -> None:
    released = _recipe(method, preset="released")
    assert released.parameters["kl_eps"] == 1e-5
    assert released.parameters["kl_scale"] == "batchmean/10"
    assert (released.selection.part, released.selection.images) == ("test", 10000)
    assert _recipe(method).parameters["kl_eps"] == 0.0


def test_published_variants_of_single_methods() -> None:
    trades = _recipe("trades", preset="released")
    assert trades.parameters["double_forward"] is True
    assert (trades.inner.radius, trades.inner.step) == (0.031, 0.007)
    assert trades.selection.every == trades.epochs  # no choice: the last epoch
    wong = _recipe("fast-at", preset="wong")
    assert wong.parameters == {"start_radius": 1.0, "step_factor": 1.25, "project": True}
    madry = _recipe("sat", preset="sat-madry")
    assert (madry.inner.craft_mode, madry.optimizer.weight_decay) == ("train", 2e-4)
    assert [rate for _, rate in _rates(madry)] == [0.1, 0.01, 0.001]
    steps = [391 * (epoch - 1) for epoch, _ in _rates(madry)]  # of 391 an epoch
    assert steps == pytest.approx([0, 40_000, 60_000], abs=391)
    for dataset, normalization in [("cifar100", "cifar100"), ("elsewhere", "none")]:
        rice = _recipe("sat", dataset, preset="sat-rice")
        assert (rice.student.arch, rice.student.normalize) == ("preactresnet18", normalization)
        assert (rice.inner.craft_mode, rice.optimizer.weight_decay) == ("train", 5e-4)
        assert (rice.selection.part, rice.epochs) == ("test", 200)


@pytest.mark.parametrize(("method", "weighted"), [("iad-i", False), ("iad-ii", None)])
def test_iad_as_released(method: str, weighted: bool | None) -> None:
    """Batch statistics while crafting, one drop instead of two, the best epoch by the test set."""
    released = _recipe(method, preset="released")
    assert _rates(released) == [(1, 0.1), (101, 0.01)]
    assert (released.inner.craft_mode, released.inner.start) == ("train", "uniform")
    assert (released.epochs, released.batch_size) == (200, 128)
    assert (released.selection.part, released.selection.images) == ("test", 10000)
    assert released.parameters.get("weight_teacher") is weighted


def test_score_and_ard_as_released() -> None:
    score = _recipe("score", preset="released")
    assert (score.student.arch, score.student.normalize) == ("preactresnet18", "cifar10")
    assert (score.selection.part, score.selection.images) == ("test", 10000)
    sizes = [_recipe("ard", d, preset="released").batch_size for d in ("cifar10", "cifar100")]
    assert sizes == [128, 256]


@pytest.mark.parametrize("method", ["mtard-ebb", "bmtard"])
def test_mobilenet_on_cifar10_starts_at_temperature_2(method: str) -> None:
    assert _recipe(method, student="mobilenet_v2").parameters["temperature"] == 2.0
    assert _recipe(method).parameters["temperature"] == 1.0
    changes = ["student.arch=mobilenet_v2", "parameters.temperature=3"]
    assert _recipe(method, changes=changes).parameters["temperature"] == 3.0
    assert _recipe(method, "cifar100", student="mobilenet_v2").parameters["temperature"] == 1.0


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 20\nseed = 5\n[optimizer]\nlr = 0.3\n[parameters]\nbeta = 4\n")
    options: dict[str, Any] = {"preset": "small", "file": file}
    recipe = _recipe("bmtard", seed=6, changes=["epochs=30", "epochs=31"], **options)
    assert (recipe.epochs, recipe.seed) == (31, 6)
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (0.3, 5e-4)
    assert recipe.parameters["beta"] == 4.0
    assert recipe.parameters["temperature_rate"] == 0.0375


def test_options_reach_their_keys() -> None:
    recipe = _recipe("sat", student="wrn34_10", width=2, seed=7, precision="bf16")
    assert (recipe.student.arch, recipe.student.width) == ("wrn34_10", 2)
    assert (recipe.seed, recipe.precision) == (7, "bf16")
    # 16 channels of resnet18 say nothing of how wide a wrn34_10 should be.
    assert _recipe("sat", preset="small", student="wrn34_10").student.width is None


def test_teachers_come_from_the_data_set_for_the_roles_that_the_method_has() -> None:
    clean = Teacher(ref="natural-resnet18", clean=0.9422)
    robust = Teacher(ref="fast-at-resnet18-w32", clean=0.7158, robust=0.455)
    assert _recipe("bmtard").teachers == {"clean": clean, "robust": robust}
    assert _recipe("rslad").teachers == {"robust": robust}
    assert _recipe("sat").teachers == {}
    mine = _recipe("bmtard", teachers=["clean=mine.safetensors"]).teachers
    assert mine == {"clean": Teacher(ref="mine.safetensors"), "robust": robust}


def test_a_parameter_is_read_in_the_type_of_its_field() -> None:
    parameters = _recipe("bmtard", changes=["parameters.beta=2", "parameters.weight_rate=1/40"])
    assert repr(parameters.parameters["beta"]) == "2.0"
    assert parameters.parameters["weight_rate"] == 0.025


def test_a_method_is_built_with_its_parameters_and_fresh_state() -> None:
    recipe = _recipe("mtard-ebb", changes=["parameters.temperature=2"])
    table = METHODS.load("mtard-ebb")
    first: Any = build_method(recipe)
    first.decay(0.1)
    second: Any = build_method(recipe)
    assert (second.temperature, second.tau_nat, second.r_tau) == (2.0, 2.0, 0.001)
    assert (second.entropy_balance, second.loss_balance) == (True, False)
    assert table.temperature == 1.0 and table.r_tau == 0.001


def test_a_stored_recipe_with_a_foreign_parameter_builds_nothing() -> None:
    wrong = msgspec.structs.replace(_recipe("rslad"), parameters={"beta": 1.0})
    with pytest.raises(InputError, match="recipe: rslad has no parameter 'beta'"):
        build_method(wrong)


REFUSED = [
    ("lr=0.2", "a recipe has no key 'lr': did you mean 'optimizer.lr'?"),
    ("beta=2", "a recipe has no key 'beta': did you mean 'parameters.beta'?"),
    ("optimizer.lrr=1", "a recipe has no key 'optimizer.lrr': did you mean 'optimizer.lr'?"),
    ("optimizer=3", "optimizer is a table: set a key in it, as optimizer.lr"),
    ("optimzer={}", "a recipe has no key 'optimzer': did you mean 'optimizer'?"),
    ("optimizer.lr.x=1", "Expected `float`, got `object` (at optimizer.lr)"),
    ("optimizer.lr=fast", "Expected `float`, got `str` (at optimizer.lr)"),
    ("epochs=0", "Expected `int` >= 1 (at epochs)"),
    ("optimizer.milestones=[0.5,1.5]", "Expected `float` < 1.0 (at optimizer.milestones[1])"),
    ("optimizer.milestones=[0.9,0.5]", "milestones must increase, unlike [0.9, 0.5]"),
    ("inner.eps=8", "eps must be above 0 and at most 1, as 8/255, not 8"),
    (
        "inner.start=unifrm",
        "unknown value 'unifrm': did you mean 'uniform'? expected gauss1e-3, uniform",
    ),
    ("parameters.bta=2", "bmtard has no parameter 'bta': did you mean 'beta'? it takes "),
    ("parameters.tau_nat=2", "bmtard has no parameter 'tau_nat': it takes temperature, "),
    ("parameters.beta=two", "cannot read 'two' as a number"),
    ("parameters.beta=[1]", "Expected `float`, got `array` (at parameters.beta)"),
    ("parameters.beta=nan", "expected a finite number (at parameters.beta)"),
    (
        "parameters.kl_scale=batchmeann",
        "unknown value 'batchmeann': did you mean 'batchmean' or 'batchmean/C'? expected batch",
    ),
    (
        "parameters.entropy_balance=false",
        "entropy_balance is what tells bmtard from mtard-baseline and mtard: choose the method by",
    ),
    ("teachers.clean=x", "teachers.clean is a table: set a key in it, as teachers.clean.ref"),
    ("teachers.sniper.ref=x", "bmtard takes no teacher 'sniper': it takes clean and robust"),
]


@pytest.mark.parametrize(("change", "problem"), REFUSED)
def test_changes_that_cannot_be_say_so_in_one_line(change: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        _recipe("bmtard", changes=[change])
    assert str(caught.value).startswith(f"--set {change}: {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "options", "problem"),
    [
        ("bmtrd", {}, "unknown method 'bmtrd': did you mean 'bmtard'?"),
        ("bmtard", {"preset": "smal"}, "unknown preset 'smal': did you mean 'small'? bmtard has "),
        ("bmtard", {"preset": "sat-rice"}, "unknown preset 'sat-rice': bmtard has paper, small"),
        ("sat", {"teachers": ["clean=x"]}, "--teacher clean=x: sat takes no teacher 'clean': "),
        ("sat", {"student": "resnet19"}, "unknown architecture 'resnet19': did you mean "),
        ("sat", {"width": 0}, "--width 0: Expected `int` >= 1 (at student.width)"),
        ("sat", {"precision": "fp64"}, "--precision fp64: unknown value 'fp64': "),
        ("sat", {"changes": ["student.normalize=cifar"]}, "unknown normalization 'cifar'"),
        (
            "sat",
            {"changes": ["optimizer.momentum=0", "optimizer.nesterov=true"]},
            "--set optimizer.nesterov=true: nesterov needs a momentum above 0",
        ),
        (
            "bmtard",
            {"changes": ["parameters.temperature=11"]},
            "parameters of bmtard: temperature=11.0: expected 1 to 10",
        ),
    ],
)
def test_options_that_cannot_be_say_so(method: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_recipe(method, "cifar10", **options)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("changes", [[], ["teachers.clean.clean=0.9"]])
def test_a_missing_teacher_is_named_with_how_to_give_it(changes: list[str]) -> None:
    with pytest.raises(InputError, match=r"needs a clean teacher: give one as --teacher clean=REF"):
        resolve_recipe("bmtard", "pictures", teachers=["robust=x"], changes=changes)


@pytest.mark.parametrize("alias", ["iad", "lmtn", "vfd-style"])
def test_names_of_published_tables_are_aliases(alias: str, tmp_path: Path) -> None:
    ours = {"iad": "iad-i", "lmtn": "lmtn-style", "vfd-style": "vfd-adv-style"}[alias]
    recipe = resolve_recipe(alias, "cifar10", preset="small")
    assert recipe.method == ours and recipe == resolve_recipe(ours, "cifar10", preset="small")
    file = tmp_path / "mine.toml"
    file.write_text(f'method = "{alias}"')
    assert resolve_recipe(ours, "cifar10", preset="small", file=file) == recipe


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tiny-imagenet"])
@pytest.mark.parametrize("preset", ["paper", "small"])
@pytest.mark.parametrize("method", ["natural", "trades", "fast-at"])
def test_these_methods_make_teachers(method: str, preset: str, dataset: str) -> None:
    teacher = resolve_recipe(method, dataset, preset=preset, role="teacher")
    student = resolve_recipe(method, dataset, preset=preset)
    assert (teacher.role, student.role) == ("teacher", "student")
    if preset == "small":
        assert teacher.epochs == {"natural": 40}.get(method, 20) and teacher.student.width == 16
        assert student.epochs == 8
        assert teacher.selection.every == (5 if method == "natural" else None)


@pytest.mark.parametrize("dataset", ["cifar100", "tiny-imagenet"])
@pytest.mark.parametrize("preset", ["paper", "released", "small"])
def test_default_teachers_are_what_teacher_recipes_make(preset: str, dataset: str) -> None:
    recipe = resolve_recipe("bmtard", dataset, preset=preset)
    for teacher in recipe.teachers.values():
        method, _, role = teacher.ref.partition("[")
        assert role == "role=teacher]"
        made = "small" if preset == "small" else "paper"
        assert resolve_recipe(method, dataset, preset=made, role="teacher").role == "teacher"


def test_the_role_of_a_file_is_taken_and_a_method_without_a_teacher_recipe_is_told(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('role = "teacher"\npreset = "small"')
    assert resolve_recipe("natural", "cifar10", file=file).epochs == 40
    with pytest.raises(InputError, match="--role teacher with natural or fast-at or trades"):
        resolve_recipe("bmtard", "cifar10", role="teacher")
    with pytest.raises(InputError, match="natural as techer on cifar10"):
        resolve_recipe("natural", "cifar10", role="techer")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('method = "trades"', "is a recipe of method 'trades', not 'sat': give the same method"),
        ('dataset = "cifar100"', "is a recipe of dataset 'cifar100', not 'cifar10'"),
        ('preset = "smll"', "unknown preset 'smll': did you mean 'small'?"),
        ("epoch = 3", "a recipe has no key 'epoch': did you mean 'epochs'?"),
        ("optimizer = 3", "optimizer is a table"),
        ("[optimzer]", "a recipe has no key 'optimzer': did you mean 'optimizer'?"),
        ("[inner]\neps = 1979-05-27", r"\(at inner.eps\)"),
        ("[teachers.clean]\nref = 'x'", "sat takes no teacher 'clean': it takes none"),
    ],
)
def test_files_that_cannot_be_say_so(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=problem):
        resolve_recipe("sat", "cifar10", file=file)


def test_the_preset_of_a_file_is_the_one_below_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "small"\nseed = 4\n')
    recipe = resolve_recipe("sat", "cifar10", file=file)
    assert (recipe.preset, recipe.epochs, recipe.seed) == ("small", 8, 4)
    assert resolve_recipe("sat", "cifar10", preset="small", file=file) == recipe
    with pytest.raises(InputError, match="is a recipe of preset 'small', not 'sat-rice'"):
        resolve_recipe("sat", "cifar10", preset="sat-rice", file=file)
