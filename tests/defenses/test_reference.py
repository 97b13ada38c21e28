"""The grammar of references: who is asked first, and what is said when nobody knows."""

from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

from robench.core import table
from robench.core.errors import InputError
from robench.defenses.reference import load_defense
from robench.defenses.settings import Entry


def _toml(folder, text):
    (folder / "robench.toml").write_text(text)


def test_an_entry_of_robench_toml_says_what_the_file_does_not(here, checkpoint):
    path, _ = checkpoint(dataset="cifar10", eps="8/255", norm="linf")
    _toml(
        here,
        f"[defenses.mine]\nref = '{path.name}'\nnormalize = 'cifar100'\ndataset = 'cifar100'\n"
        "eps = '4/255'\nnorm = 'linf'\n",
    )
    defense = load_defense("mine")
    assert (defense.name, defense.ref, defense.scheme) == ("mine", "mine", "file")
    assert (defense.normalization, defense.dataset) == ("cifar100", "cifar100")
    assert defense.eps == 4 / 255
    assert load_defense("mine", normalize="none").normalization == "none"


def test_robench_toml_goes_before_the_table_and_entries_may_be_chained(here, checkpoint):
    path, _ = checkpoint(width=5)
    _toml(
        here,
        "[defenses.fast-at-resnet18-w32]\nref = 'second'\neps = 0.25\nnorm = 'l2'\n"
        f"[defenses.second]\nref = ' {path.name} '\neps = 0.5\ndataset = 'mine'\n",
    )
    defense = load_defense("fast-at-resnet18-w32")
    assert (defense.name, defense.width) == ("fast-at-resnet18-w32", 5)
    assert (defense.eps, defense.norm, defense.dataset) == (0.25, "l2", "mine")


def test_without_robench_toml_the_table_answers(here):
    assert load_defense("fast-at-resnet18-w32").width == 32


@pytest.mark.parametrize("text", ["[defenses.a]\nref='b'\n[defenses.b]\nref='a'\n"])
def test_entries_that_refer_to_each_other_are_an_error(here, text):
    _toml(here, text)
    with pytest.raises(InputError, match="'a' refers to itself: a -> b -> a"):
        load_defense("a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[defenses.a]\nref='x.pt'\narhc='resnet18'\n", "unknown field `arhc`.*at defenses.a"),
        ("[defenses.a]\narch='resnet18'\n", "missing required field `ref`.*at defenses.a"),
        ("[defenses.a]\nref='x.pt'\nwidth='4'\n", "Expected `int.*at defenses.a.width"),
        ("[defenses.a]\nref='x.pt'\nwidth=0\n", "at defenses.a.width"),
        ("[defenses.a]\nref='x.pt'\nclasses=1\n", "at defenses.a.classes"),
        ("[defenses.a]\nref='x.pt'\nnorm='l1'\n", "at defenses.a.norm"),
        ("[defenses.a]\nref='x.pt'\neps='8/0'\n", "cannot read '8/0'.*at defenses.a"),
        ("[defenses.a]\nref='x.pt'\neps=8\n", "did you mean 8/255.*at defenses.a"),
        ("[defenses.a]\nref='x.pt'\nnormalize='cifar'\n", "'cifar10'.*at defenses.a"),
        ("[defenses]\na = 'x.pt'\n", "Expected `object`, got `str`.*at defenses.a"),
        ("defenses = 3\n", "defenses is no table"),
        ("[defenses.'a/b']\nref='x.pt'\n", "'a/b' is no name for a defense"),
        ("[defenses.a\n", "robench.toml is no TOML file: .*line 1"),
    ],
)
def test_errors_in_robench_toml_name_the_place(here, text, message):
    _toml(here, text)
    with pytest.raises(InputError, match=message) as caught:
        load_defense("a")
    assert str(caught.value).startswith("robench.toml") and "\n" not in str(caught.value)


def test_other_sections_of_robench_toml_are_left_alone(here):
    _toml(here, "[eval]\nn = 5\n")
    assert load_defense("fast-at-resnet18-w32").width == 32


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("fast-at-resnet18-w23", "did you mean 'fast-at-resnet18-w32'"),
        ("my-trads", "did you mean 'my-trades'"),
        ("something", "unknown defense 'something': expected a name .robench list defenses"),
        ("", "unknown defense ''"),
        ("zoo:Wang2023Better", "unknown scheme 'zoo' .*: expected file, python, robustbench"),
        ("runs/x/best", "runs/x/best does not exist: expected a checkpoint file"),
        ("x.ckpt", "x.ckpt does not exist"),
        (".", "is a folder: expected a checkpoint file"),
        ("a" * 5000, "unknown defense"),
        ("a\0b", "unknown defense"),
    ],
)
def test_what_names_nothing_is_an_input_error_with_a_hint(here, ref, message):
    _toml(here, "[defenses.my-trades]\nref = 'x.pt'\n")
    with pytest.raises(InputError, match=message):
        load_defense(ref)


@pytest.mark.parametrize("thing", [None, 3, nn.Linear, lambda x: x])
def test_what_is_no_network_is_refused(thing):
    with pytest.raises(InputError, match=r"expected an object of torch\.nn\.Module"):
        load_defense(thing)


def test_a_module_is_used_as_it_is_but_for_evaluation_mode():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 5))
    defense = load_defense(network, input_shape=(3, 2, 2), dataset="mine")
    assert defense.model is network and not network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert (defense.name, defense.scheme, defense.ref) == ("Sequential", "module", "Sequential")
    assert (defense.num_classes, defense.parameters, defense.width) == (5, 65, None)
    assert (defense.dataset, defense.source) == ("mine", None)


def test_a_module_may_get_a_normalisation():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    defense = load_defense(network, normalize="0.5/0.25", input_shape=(3, 2, 2))
    images = torch.rand(4, 3, 2, 2)
    assert torch.equal(defense.model(images), network((images - 0.5) / 0.25))
    assert defense.normalization == "0.5/0.25"


class _Package(EntryPoint):
    """An entry point that gives what it was made with."""

    def load(self):
        return PROVIDED[self.value]


PROVIDED = {
    "entry": lambda: Entry(ref="small.safetensors", dataset="theirs"),
    "module": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)),
    "loop": lambda: Entry(ref="loop"),
}


@pytest.fixture
def packages(monkeypatch):
    points = [_Package(name, name, "robench.defenses") for name in PROVIDED]

    def entry_points(group, name=None):
        found = points if group == "robench.defenses" else []
        return [point for point in found if name in (None, point.name)]

    monkeypatch.setattr(table, "entry_points", entry_points)


def test_other_packages_give_entries_or_networks(packages, checkpoint):
    checkpoint()
    defense = load_defense("entry")
    assert (defense.name, defense.dataset, defense.scheme) == ("entry", "theirs", "file")
    assert (load_defense("module").name, load_defense("module").num_classes) == ("module", 4)
    with pytest.raises(InputError, match="'loop' refers to itself"):
        load_defense("loop")


@pytest.mark.parametrize(
    ("metadata", "entry", "eps", "norm"),
    [
        ({"eps": "8/255"}, "", 8 / 255, None),
        ({"eps": "0.5", "norm": "l2"}, "", 0.5, "l2"),
        ({"eps": "0.5", "norm": "l2"}, "eps = '8/255'", 8 / 255, "linf"),
        ({"eps": "8/255"}, "norm = 'l2'", None, "l2"),
        ({"eps": "8/255"}, "norm = 'linf'", 8 / 255, "linf"),
        ({"eps": "8/255", "norm": "linf"}, "norm = 'l2'\neps = 1", 1, "l2"),
        ({"norm": "l2"}, "eps = '4/255'", 4 / 255, "linf"),
    ],
)
def test_a_radius_is_never_joined_with_anothers_norm(here, checkpoint, metadata, entry, eps, norm):
    path, _ = checkpoint(**metadata)
    (here / "robench.toml").write_text(f"[defenses.mine]\nref = '{path.name}'\n{entry}\n")
    defense = load_defense("mine")
    assert (defense.eps, defense.norm) == (eps, norm)
