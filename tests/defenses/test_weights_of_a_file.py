"""`PATH#WHAT`: one of several sets of weights in a file, wherever references are understood."""

from functools import cache

import pytest
import torch

from robench.core.errors import InputError
from robench.defenses.export import export_half
from robench.defenses.reference import load_defense
from robench.models.build import build
from robench.models.weights import read_weights, write_weights

RAW = (
    "weights of state_dict; the file also holds state_dict_ema: "
    "score it as timm.pth.tar#state_dict_ema"
)


@cache
def _network(seed):
    torch.manual_seed(seed)
    return build("resnet18", 10, 2).eval()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The fingerprint of each network when it is alone in a file."""
    path = tmp_path_factory.mktemp("alone") / "alone.safetensors"

    def fingerprint(seed):
        write_weights(path, _network(seed).state_dict(), {})
        return load_defense(str(path)).fingerprint

    return [fingerprint(seed) for seed in range(3)]


@pytest.fixture
def two(here, alone):
    """A file with raw and averaged weights, and the fingerprint of each."""
    raw, averaged = _network(0), _network(1)
    content = {"arch": "x", "state_dict": raw.state_dict(), "state_dict_ema": averaged.state_dict()}
    torch.save(content, here / "timm.pth.tar")
    write_weights(here / "alone.safetensors", raw.state_dict(), {})
    return alone[:2]


def test_which_weights_were_taken_is_said(two):
    defense = load_defense("timm.pth.tar")
    assert defense.fingerprint == two[0] and defense.notes == (RAW,)
    assert defense.name == "timm.pth" and "weights" not in defense.source


@pytest.mark.parametrize("ref", ["timm.pth.tar#state_dict_ema", "file:timm.pth.tar#state_dict_ema"])
def test_the_others_are_scored_by_their_name(two, ref):
    defense = load_defense(ref)
    assert defense.fingerprint == two[1] and defense.ref == ref
    assert defense.name == "timm.pth-state_dict_ema"
    assert defense.key_rules == ("unwrap state_dict_ema",)
    assert defense.notes[0].startswith(
        "weights of state_dict_ema; the file also holds state_dict: "
    )


def test_robench_toml_names_one_of_them(two, here):
    entry = f"[defenses.ema]\nref = '{here}/timm.pth.tar#state_dict_ema'\n"
    (here / "robench.toml").write_text(entry)
    defense = load_defense("ema")
    assert defense.fingerprint == two[1] and defense.name == "ema"
    assert str(here) not in " ".join(defense.notes)


def test_an_unknown_name_is_answered_with_those_of_the_file(two):
    for ref, message in (
        (
            "timm.pth.tar#state_dict_eva",
            "did you mean 'state_dict_ema' or 'state_dict'. it holds state_dict, ",
        ),
        ("timm.pth.tar#last", "holds no weights 'last': it holds state_dict, state_dict_ema"),
        ("gone.pt#ema", "gone.pt does not exist"),
        ("alone.safetensors#ema", "alone.safetensors holds one set of weights and no 'ema'"),
    ):
        with pytest.raises(InputError, match=message):
            load_defense(ref)


def test_a_file_of_the_whole_name_goes_before_the_mark(here, alone):
    write_weights(here / "x.pt", _network(0).state_dict(), {})
    write_weights(here / "x.pt#ema", _network(1).state_dict(), {})
    assert load_defense("x.pt#ema").fingerprint == alone[1]


def test_prefixes_of_a_safetensors_file_are_sets_as_well(here, alone):
    one, other = _network(0).state_dict(), _network(1).state_dict()
    content = {f"student.{k}": v for k, v in one.items()}
    content |= {f"teacher.{k}": v for k, v in other.items()}
    write_weights(here / "both.safetensors", content, {})
    assert load_defense("both.safetensors").notes[0].startswith("weights of student; ")
    for ref in ("both.safetensors#teacher", "both.safetensors#teacher."):
        assert load_defense(ref).name == "both-teacher"
        assert load_defense(ref).fingerprint == alone[1]


def test_an_ensemble_is_not_guessed(here, alone):
    content = {f"net{n}.{k}": v for n in (1, 2) for k, v in _network(n).state_dict().items()}
    torch.save(content, here / "two.pt")
    with pytest.raises(InputError, match=r"none is plainly the network: .* as two\.pt#net1$"):
        load_defense("two.pt")
    assert load_defense("two.pt#net2").fingerprint == alone[2]


def test_an_averaged_model_loads_without_its_counter(here, alone):
    network = _network(0)
    averaged = torch.optim.swa_utils.AveragedModel(network)
    averaged.update_parameters(network)
    torch.save({"epoch": 1, "state_dict": averaged.state_dict()}, here / "swa.pt")
    defense = load_defense("swa.pt")
    assert defense.key_rules == ("unwrap state_dict", "drop counters", "strip module.")
    assert defense.fingerprint == alone[0]


def test_export_writes_the_set_that_was_asked_for(two, here):
    for ref, seed in (("timm.pth.tar", 0), ("timm.pth.tar#state_dict_ema", 1)):
        export_half(load_defense(ref), here / "half.safetensors")
        tensors, _ = read_weights(here / "half.safetensors")
        expected = _network(seed).state_dict()
        assert tensors.keys() == expected.keys()
        assert torch.equal(tensors["conv1.weight"], expected["conv1.weight"].half().float())
