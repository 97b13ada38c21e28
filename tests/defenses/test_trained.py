"""Trained methods by name: which checkpoint answers, in which place, and what is said when none."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robench.core.errors import InputError
from robench.core.folders import home, runs_folder
from robench.core.names import split_list
from robench.defenses import trained
from robench.defenses.reference import load_defense, names_method
from robench.models.build import build
from robench.models.weights import write_weights

Write = Callable[..., Path]
SMALL = "bmtard[dataset=cifar10,student=resnet18,width=2]"
OTHER = "bmtard[dataset=tiny-imagenet,student=resnet18,width=2]"


@pytest.fixture(scope="session")
def tensors() -> dict[str, Tensor]:
    """A ResNet-18 of width 2, which no test changes."""
    torch.manual_seed(0)
    return build("resnet18", 10, 2).state_dict()


@pytest.fixture
def package(here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Path:
    """An empty folder instead of the repository around the package."""
    folder = tmp_path_factory.mktemp("package")
    monkeypatch.setattr(trained, "_AROUND_PACKAGE", folder)
    return folder


@pytest.fixture
def write(package: Path, tensors: dict[str, Tensor]) -> Write:
    """A function that writes a checkpoint of bmtard as training does, in the runs or elsewhere."""

    def write_one(path: str | Path, **changed: str | None) -> Path:
        said: dict[str, str | None] = {
            "method": "bmtard",
            "architecture": "resnet18",
            "width": "2",
            "classes": "10",
            "dataset": "cifar10",
            "normalization": "none",
            "eps": "8/255",
            "norm": "linf",
        }
        metadata = {k: v for k, v in (said | changed).items() if v is not None}
        place = runs_folder() / path
        write_weights(place, tensors, metadata)
        return place

    return write_one


def _chosen(ref: str, **options: str | int) -> str:
    return str(load_defense(ref, **options).source["path"])


def _refused(ref: str, **options: str | int) -> str:
    with pytest.raises(InputError) as caught:
        load_defense(ref, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_method_gives_the_weights_of_its_run_and_says_which(
    write: Write, tensors: dict[str, Tensor]
) -> None:
    path = write("a/best.safetensors", run="a-17", class_order="f00d")
    defense = load_defense(" bmtard ")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (defense.name, defense.ref, defense.scheme) == ("bmtard", "bmtard", "file")
    assert defense.source == {"path": str(path), "sha256": sha256}
    note = f"bmtard: runs/a/best.safetensors, run a-17, sha256 {sha256[:12]}"
    assert defense.notes == (note,)
    assert (defense.dataset, defense.eps, defense.width) == ("cifar10", 8 / 255, 2)
    expected = build("resnet18", 10, 2).eval()
    expected.load_state_dict(tensors)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(defense.model(images), expected(images))


def test_a_full_name_stays_as_it_was_typed_and_whole_in_lists(write: Write) -> None:
    write("a/best.safetensors")
    typed = "bmtard[ width=2, student=resnet18,dataset=cifar10 ]"
    assert split_list(f"x.pt,{typed}") == ["x.pt", typed]
    defense = load_defense(typed)
    assert (defense.name, defense.ref) == ("bmtard", typed)


@pytest.mark.parametrize("argument", ["dataset=cifar10", "student=resnet18", "width=2"])
def test_each_argument_tells_checkpoints_apart(write: Write, argument: str) -> None:
    mine = write("mine/best.safetensors")
    write("other/best.safetensors", dataset="cifar100", architecture="resnet56", width="3")
    assert _chosen(f"bmtard[{argument}]") == str(mine)


@pytest.mark.parametrize("option", [{"dataset": "cifar10"}, {"arch": "resnet18"}, {"width": 2}])
def test_options_tell_them_apart_where_arguments_do_not(
    write: Write, option: dict[str, str | int]
) -> None:
    mine = write("mine/best.safetensors")
    write("other/best.safetensors", dataset="cifar100", architecture="resnet56", width="3")
    assert _chosen("bmtard", **option) == str(mine)


def test_an_argument_goes_before_the_option_and_metadata_tell_the_data_set(write: Write) -> None:
    mine = write("mine/best.safetensors")
    write("other/best.safetensors", dataset="cifar100")
    defense = load_defense("bmtard[dataset=cifar10]", dataset="cifar100")
    assert (defense.dataset, defense.source["path"]) == ("cifar10", str(mine))


def test_a_teacher_is_found_only_when_it_is_asked_for(write: Write) -> None:
    teacher = write("teacher/best.safetensors", role="teacher")
    assert "no checkpoint of bmtard fits role=student: there is" in _refused("bmtard")
    assert "role=teacher]" in _refused("bmtard")
    student = write("student/best.safetensors", role="student")
    older = write("older/best.safetensors", dataset="cifar100")  # says no role, as files did before
    assert _chosen("bmtard[role=teacher]") == str(teacher)
    assert _chosen("bmtard[dataset=cifar10]") == str(student)
    assert _chosen("bmtard[dataset=cifar100]") == str(older)
    assert "role is 'techer', expected student or teacher" in _refused("bmtard[role=techer]")


def test_an_alias_finds_the_method(write: Write) -> None:
    path = write("iad/best.safetensors", method="iad-i")
    assert _chosen("iad") == _chosen("iad-i") == str(path)


def test_other_methods_and_checkpoints_of_no_method_do_not_fit(write: Write) -> None:
    write("sat/best.safetensors", method="sat", finished="2030-01-01T00:00:00Z")
    write("none/best.safetensors", method=None, finished="2030-01-01T00:00:00Z")
    mine = write("mine/best.safetensors", finished="2020-01-01T00:00:00Z")
    assert _chosen("bmtard") == str(mine)


def test_of_one_kind_the_newest_is_taken_by_what_it_says_then_by_the_files_time(
    write: Write,
) -> None:
    first = write("z/best.safetensors", finished="2026-03-01T10:30:00+02:00")
    second = write("a/best.safetensors", finished="2026-03-01T09:00:00Z")  # half an hour later
    third = write("m/best.safetensors")
    os.utime(first, (4e9, 4e9))
    os.utime(third, (1e9, 1e9))
    assert _chosen("bmtard") == str(second)
    os.utime(third, (3e9, 3e9))
    assert _chosen("bmtard") == str(second), "a run that is not finished hides none that is"


def test_equal_times_are_decided_by_the_last_path(write: Write) -> None:
    time = {"finished": "2026-03-01T09:00:00"}
    write("2026-02/best.safetensors", **time)
    last = write("2026-03/deeper/best.safetensors", **time)
    write("2026-01/best.safetensors", **time)
    assert _chosen("bmtard") == str(last)


def test_the_time_of_a_committed_file_says_nothing(write: Write, here: Path) -> None:
    folder = here / "leaderboards" / "checkpoints" / "cifar10"
    dated = write(folder / "a.safetensors", finished="2026-03-01T09:00:00Z")
    write(folder / "b.safetensors")  # a checkout wrote it just now
    assert _chosen("bmtard") == str(dated)


def test_kinds_that_differ_are_an_ambiguity_with_every_candidate(write: Write) -> None:
    write("a/best.safetensors")
    write("b/best.safetensors")
    write("c/best.safetensors", dataset="tiny-imagenet")
    assert _refused("bmtard") == (
        f"checkpoints of several kinds fit bmtard: say {SMALL} or {OTHER}"
    )
    for ref in (SMALL, OTHER):
        assert load_defense(ref).name == "bmtard"


def test_a_candidate_that_no_arguments_can_name_is_listed_by_its_path(write: Write) -> None:
    write("a/best.safetensors")
    unnamed = write("b/best.safetensors", dataset=None)
    assert f"say {unnamed} or {SMALL}" in _refused("bmtard")


def test_places_are_asked_in_order_and_later_ones_only_when_none_fits(
    write: Write, here: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = here / "robench" / "defenses" / "weights"
    monkeypatch.setattr(trained, "_BUNDLED", bundled)
    late = {"finished": "2040-01-01T00:00:00Z", "dataset": "cifar100"}
    committed = Path("leaderboards") / "checkpoints" / "cifar10"
    paths = [
        write("run/best.safetensors"),
        write(here / committed / "one.safetensors", **late),
        write(package / committed / "two.safetensors", **late),
        write(bundled / "three.safetensors", **late),
    ]
    assert _chosen("bmtard[dataset=cifar100]") == str(paths[1])
    for path in paths:
        assert _chosen("bmtard") == str(path)
        path.unlink()
    assert "unknown defense 'bmtard'" in _refused("bmtard")


def test_only_the_best_weights_of_a_run_count_and_nothing_half_written(write: Write) -> None:
    mine = write("a/best.safetensors")
    late = {"finished": "2040-01-01T00:00:00Z"}
    write("a/state.safetensors", **late)
    write(".copying/best.safetensors", **late)
    (runs_folder() / "a" / ".best.safetensors.x1").write_bytes(b"half")
    assert _chosen("bmtard") == str(mine)
    assert len(load_defense("bmtard").notes) == 1


def test_a_half_written_committed_file_is_not_even_looked_at(write: Write, here: Path) -> None:
    folder = here / "leaderboards" / "checkpoints" / "cifar10"
    mine = write(folder / "a.safetensors")
    (folder / ".b.safetensors").write_bytes(b"half")
    defense = load_defense("bmtard")
    assert defense.source["path"] == str(mine)
    assert defense.notes[0].startswith(
        "bmtard: leaderboards/checkpoints/cifar10/a.safetensors, sha"
    )


def test_robench_toml_the_table_and_files_go_before_trained_methods(
    write: Write, here: Path
) -> None:
    write("a/best.safetensors")
    write("b/best.safetensors", method="fast-at-resnet18-w32")
    toml = here / "robench.toml"
    elsewhere = write(here / "mine.safetensors", method="sat", eps="4/255")
    toml.write_text("[defenses.bmtard]\nref = 'mine.safetensors'\n")
    assert load_defense("bmtard").eps == 4 / 255
    assert not names_method("bmtard") and names_method(SMALL)
    toml.unlink()
    assert load_defense("fast-at-resnet18-w32").width == 32
    elsewhere.rename(here / "bmtard")
    assert load_defense("bmtard").eps == 4 / 255
    assert not names_method("bmtard") and not names_method("fast-at-resnet18-w32")


def test_a_folder_called_like_the_method_does_not_hide_it(write: Write, here: Path) -> None:
    mine = write("a/best.safetensors")
    (here / "bmtard").mkdir()
    (here / "sat").mkdir()
    assert _chosen("bmtard") == str(mine) and names_method("bmtard")
    assert "sat is a folder: expected a checkpoint file" in _refused("sat")


def test_an_entry_may_name_a_method_and_say_which_of_its_checkpoints(
    write: Write, here: Path
) -> None:
    mine = write("a/best.safetensors")
    write("b/best.safetensors", dataset="cifar100")
    (here / "robench.toml").write_text(
        "[defenses.one]\nref = 'bmtard'\ndataset = 'cifar10'\n"
        f"[defenses.two]\nref = '{SMALL}'\nnormalize = 'cifar10'\n"
    )
    one, two = load_defense("one"), load_defense("two")
    assert (one.name, one.ref, one.source["path"]) == ("one", "one", str(mine))
    assert (two.name, two.normalization, two.source["path"]) == ("two", "cifar10", str(mine))


@pytest.mark.parametrize(
    ("ref", "options", "message"),
    [
        (
            "bmtard[dataset=cifar100]",
            {},
            f"no checkpoint of bmtard fits dataset=cifar100: there is {SMALL} or {OTHER}; "
            "robench train bmtard --dataset cifar100 makes one",
        ),
        (
            "bmtard",
            {"dataset": "cifar100"},
            f"no checkpoint of bmtard fits dataset=cifar100: there is {SMALL} or {OTHER}; "
            "robench train bmtard --dataset cifar100 makes one",
        ),
        (
            "bmtard[dataset=tiny-imagenet,width=64]",
            {},
            f"no checkpoint of bmtard fits dataset=tiny-imagenet,width=64: there is {OTHER}; "
            "robench train bmtard --dataset tiny-imagenet makes one",
        ),
        (
            "bmtard[width=3]",
            {},
            f"no checkpoint of bmtard fits width=3: there is {SMALL} or {OTHER}; "
            "robench train bmtard --dataset cifar10 makes one",
        ),
    ],
)
def test_where_none_fits_the_nearest_are_named_and_the_command_that_makes_one(
    write: Write, ref: str, options: dict[str, str], message: str
) -> None:
    write("a/best.safetensors")
    write("b/best.safetensors", dataset="tiny-imagenet")
    assert _refused(ref, **options) == message


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (
            "bmtard[studnet=resnet18]",
            "bmtard[studnet=resnet18]: a trained method takes no argument 'studnet': did you mean "
            "'student'? it takes dataset, student, width",
        ),
        ("bmtard[eps=8]", "takes no argument 'eps': it takes dataset, student, width"),
        ("bmtard[width=wide]", "width is 'wide', expected a whole number of at least 1"),
        ("bmtard[width=0]", "width is '0', expected a whole number of at least 1"),
        ("bmtard[width]", "cannot read 'width' in 'bmtard[width]': expected key=value"),
        ("bmtard[width=2,width=2]", "'width' is given twice"),
        ("bmtard[width=2", "cannot read 'bmtard[width=2': expected name or name[key=value,...]"),
    ],
)
def test_misused_arguments_are_named(write: Write, ref: str, message: str) -> None:
    write("a/best.safetensors")
    assert message in _refused(ref)


@pytest.mark.parametrize("ref", ["bmtrad", "bmtrad[width=2]"])
def test_a_misspelt_method_gets_the_nearest_one_that_was_trained(write: Write, ref: str) -> None:
    write("a/best.safetensors")
    assert _refused(ref).startswith(f"unknown defense {ref!r}: did you mean 'bmtard'? expected")


def test_a_method_that_nobody_trained_is_unknown_and_the_command_is_named(package: Path) -> None:
    assert "a method that was trained (robench list methods; robench train METHOD)" in _refused(
        "bmtard"
    )
    assert "'natural-resnet18' takes no arguments" in _refused("natural-resnet18[width=2]")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _headless(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncated, _headless, _empty])
def test_a_damaged_file_is_passed_over_and_named(
    write: Write, damage: Callable[[Path], None]
) -> None:
    damage(write("broken/best.safetensors"))
    named = "passed over: runs/broken/best.safetensors is no whole safetensors file ("
    assert named in _refused("bmtard")
    mine = write("good/best.safetensors")
    defense = load_defense("bmtard")
    assert defense.source["path"] == str(mine)
    assert len(defense.notes) == 2 and defense.notes[1].startswith(named)
    assert named in _refused("bmtard[width=3]")
    write("other/best.safetensors", width="3")
    assert named in _refused("bmtard")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"finished": "yesterday"}, "finished is 'yesterday', expected an ISO time"),
        ({"width": "wide"}, "metadata of runs/a/best.safetensors: Expected `int"),
    ],
)
def test_metadata_that_cannot_be_are_damage(
    write: Write, said: dict[str, str], message: str
) -> None:
    write("a/best.safetensors", **said)
    write("b/best.safetensors")
    assert message in load_defense("bmtard").notes[1]


def test_many_damaged_files_are_counted(write: Write) -> None:
    for number in range(5):
        _empty(write(f"{number}/best.safetensors"))
    message = _refused("bmtard")
    assert message.count("is no whole") == 3 and message.endswith("and 2 more")


def test_choosing_reads_no_tensors(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a/best.safetensors", finished="2026-01-01T00:00:00Z")
    last = write("b/best.safetensors", finished="2026-02-01T00:00:00Z")
    monkeypatch.setattr(Path, "read_bytes", None)
    found = trained.find("bmtard", trained.Settings())
    assert found is not None and found[0].path == last


def test_of_the_bundled_runs_the_whole_one_answers(here: Path, package: Path) -> None:
    defense = load_defense("fast-at")
    assert defense.fingerprint == load_defense("fast-at-resnet18-w32").fingerprint
    assert defense.notes[0].startswith(
        "fast-at: robench/defenses/weights/fast-at-resnet18-w32.safetensors, sha256 "
    )


def test_the_runs_lie_below_home() -> None:
    assert runs_folder() == home() / "runs"
