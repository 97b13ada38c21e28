"""Several sets of weights in a file: which one is taken, and how the others are named."""

import pytest
import torch

from robench.core.errors import InputError
from robench.models.containers import take
from robench.models.keys import clean


def _net(value=0.0):
    return {
        "conv1.weight": torch.full((2, 3, 1, 1), value),
        "bn.running_mean": torch.ones(2),
        "fc.weight": torch.full((4, 2), value),
    }


def _below(prefix, tensors):
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


RAW, AVERAGED = _net(0.0), _net(1.0)
COUNTER = {"n_averaged": torch.tensor(3)}
NORMALISE = {"normalize.mean": torch.ones(1, 3, 1, 1), "normalize.std": torch.ones(1, 3, 1, 1)}
OPTIMISER = {"state": {0: {"exp_avg": torch.ones(2, 2)}}, "param_groups": [{"lr": 0.1}]}


def _value(taken):
    return clean(taken.tensors).tensors["fc.weight"][0, 0].item()


TWO_SETS = [
    ({"state_dict": RAW, "state_dict_ema": AVERAGED}, "state_dict", "state_dict_ema"),
    ({"ema": AVERAGED, "model": RAW, "optimizer": OPTIMISER}, "model", "ema"),
    (
        {"unaveraged_model_state_dict": AVERAGED, "model_state_dict": RAW},
        "model_state_dict",
        "unaveraged_model_state_dict",
    ),
    ({"weights": RAW, "callbacks": {"swa": AVERAGED}}, "weights", "callbacks.swa"),
    ({"model": {"student": RAW, "teacher": AVERAGED}}, "model.student", "model.teacher"),
    (
        {"state_dict": {**_below("ema_model", AVERAGED), **_below("model", RAW)}},
        "model",
        "ema_model",
    ),
    ({**_below("student", RAW), **_below("teacher", AVERAGED)}, "student", "teacher"),
    (
        {**_below("module.net", RAW), **_below("module.net_ema.module", AVERAGED)},
        "module.net",
        "module.net_ema",
    ),
    (
        {**_below("online_model", RAW), **_below("ema_model", AVERAGED), "step": torch.tensor(1)},
        "online_model",
        "ema_model",
    ),
    ({**RAW, **_below("model_ema.module", AVERAGED)}, "", "model_ema"),
]


@pytest.mark.parametrize(("content", "name", "other"), TWO_SETS)
def test_the_networks_own_weights_are_taken_and_the_others_are_named(content, name, other):
    taken = take(content, None, "x.pt")
    assert (taken.name, taken.others) == (name, (other,))
    assert _value(taken) == 0
    for what in (other, f"{other}."):
        named = take(content, what, "x.pt")
        assert _value(named) == 1 and named.name == other
        assert named.others == ((name,) if name else ())
    if name:
        assert _value(take(content, name, "x.pt")) == 0


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "state_dict_ema": AVERAGED, "optimizer": OPTIMISER},
        {"model_ema": AVERAGED},
        {"ema": {"module": AVERAGED, "updates": 3}},
        {**_below("ema_model", AVERAGED), **COUNTER},
        {"state_dict": {**_below("module", AVERAGED), **COUNTER}},
        {"optimizer": {"momentum": RAW}, "weights": AVERAGED},
        {"sgd": {"param_groups": [], "state": {"fc": RAW}}, "weights": AVERAGED},
    ],
)
def test_averaged_weights_alone_are_found(content):
    taken = take(content, None, "x.pt")
    assert _value(taken) == 1 and taken.others == ()
    assert clean(taken.tensors).tensors.keys() == AVERAGED.keys()


@pytest.mark.parametrize("what", [None, "ema_model"])
def test_a_normalisation_beside_the_sets_goes_with_either(what):
    flat = {**_below("model", RAW), **_below("ema_model", AVERAGED), **NORMALISE}
    assert clean(take(flat, what, "x.pt").tensors).normalization.mean == (1.0, 1.0, 1.0)
    inside = {"model.mean": torch.zeros(3), "model.std": torch.ones(3)}
    own = take({**flat, **inside}, "ema_model", "x.pt")
    assert "model.mean" not in own.tensors and "normalize.mean" in own.tensors


def test_what_is_left_out_is_said():
    content = {
        **_below("model", RAW),
        **_below("ema", AVERAGED),
        "loss.weight": torch.ones(4),
        **COUNTER,
    }
    assert take(content, None, "x.pt").rules == ("take model", "leave out ema, loss, n_averaged")
    assert clean({**_below("module", RAW), **COUNTER}).rules == ("drop counters", "strip module.")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({**_below("net1", RAW), **_below("net2", AVERAGED)}, "net1, net2"),
        ({"0": RAW, "1": AVERAGED, "2": _net(2.0)}, "0, 1, 2"),
        ({"model": {"a": RAW, "b": AVERAGED}}, "model.a, model.b"),
        ({"ema": RAW, "swa": AVERAGED}, "ema, swa"),
    ],
)
def test_none_of_an_ensemble_is_guessed(content, names):
    first = names.partition(",")[0]
    message = f"x.pt holds {names.count(',') + 1} sets of weights, {names}, and none is plainly"
    with pytest.raises(InputError, match=f"^{message}.*, as x.pt#{first}$"):
        take(content, None, "x.pt")
    assert _value(take(content, first, "x.pt")) == 0
    assert take(content, first, "x.pt").others == tuple(names.split(", ")[1:])


@pytest.mark.parametrize(
    ("content", "what", "message"),
    [
        (TWO_SETS[0][0], "state_dict_emma", "did you mean 'state_dict_ema'. it holds state_dict, "),
        (TWO_SETS[0][0], "last", "holds no weights 'last': it holds state_dict, state_dict_ema$"),
        (TWO_SETS[0][0], "", "holds no weights '': it holds"),
        (TWO_SETS[5][0], "ema_mode", "did you mean 'ema_model'"),
        (RAW, "ema", "x.pt holds one set of weights and no 'ema': give x.pt alone"),
        ({f"net{i}": _net() for i in range(9)}, "x" * 999, "net5 and 3 more$"),
    ],
)
def test_an_unknown_set_is_one_line_with_those_that_are_there(content, what, message):
    with pytest.raises(InputError, match=message) as caught:
        take(content, what, "x.pt")
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        RAW,
        _below("module", RAW),
        {**_below("1", RAW), "0.mean": torch.ones(1, 3, 1, 1), "0.std": torch.ones(1, 3, 1, 1)},
        # Blocks of one shape, one of them unused, are layers and no sets.
        {"conv1.weight": torch.ones(2, 2), **_below("block1", RAW), **_below("sub_block1", RAW)},
        {**_below("backbone", RAW), **_below("head.a", RAW), **_below("head.b", RAW)},
        {"layer1.weight": torch.ones(2, 2), "layer2.weight": torch.ones(2, 2)},
        {"net": RAW, "best": {"score": torch.ones(1)}, "loss": {"weight": torch.ones(2, 2)}},
    ],
)
def test_the_layers_of_one_network_are_no_sets(content):
    taken = take(content, None, "x.pt")
    assert taken.others == ()
    assert taken.tensors.keys() == content.get("net", content).keys()


def test_what_contains_itself_comes_to_an_end():
    content: dict[str, object] = {}
    content["model"] = content
    assert take(content, None, "x.pt").tensors == {}
    content["ema"] = AVERAGED
    assert _value(take(content, None, "x.pt")) == 1
