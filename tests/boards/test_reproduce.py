"""The commands under a board measure what it shows."""

import shlex

import msgspec
import pytest

from robench.boards.rank import build_boards
from robench.boards.reproduce import commands
from robench.core.threat import ThreatModel


def of(found, *records):
    (board,) = build_boards(found(*records))
    return commands(board)


def test_one_command_says_all(found, record):
    measured = record(
        "trades", ref="trades[width=16]", parameters={"steps": 20, "step_size": 2 / 255}
    )
    assert of(found, measured) == [
        "robench eval --defense 'trades[width=16]' --attacks 'pgd_sat[step_size=2/255,steps=20]' "
        "--dataset cifar10 --n 4 --norm linf --eps 8/255 --stop last --precision fp32 --seed 0"
    ]


def test_defenses_measured_alike_share_a_command(found, record):
    records = [record(name, attack) for name in "ab" for attack in ("fgsm", "pgd_sat")]
    (command,) = of(found, *records)
    words = shlex.split(command)
    assert words[words.index("--defense") + 1] == "a,b"
    assert words[words.index("--attacks") + 1] == "fgsm[steps=20],pgd_sat[steps=20]"


@pytest.mark.parametrize(
    ("other", "option"),
    [
        ({"stop": "any"}, "--stop any"),
        ({"precision": "bf16"}, "--precision bf16"),
        ({"seed": 7}, "--seed 7"),
    ],
)
def test_other_settings_take_their_own_command(found, record, other, option):
    lines = of(found, record("a"), record("b", **other))
    assert len(lines) == 2
    assert sum(option in line for line in lines) == 1


def test_threat_and_images(found, record):
    (command,) = of(found, record(threat=ThreatModel("l2", 0.5), ids=[3, 5, 6, 9]))
    assert "--norm l2 --eps 0.5" in command
    assert "--n 4" in command  # the set that was asked for: `ids` of the record, not of a verdict
    listed = record(place="/data/my set")
    listed.images = msgspec.structs.replace(listed.images, ids="3,5-6,9")
    (command,) = of(found, listed)
    assert "--dataset 'my set' --images 3,5-6,9" in command  # where it lies is nobody's affair
    assert "--n " not in command


def test_a_file_is_read_as_it_was(found, record):
    """A bare file does not say what its pixels are normalised by; the constants may be given."""
    measured = [record(name, ref=f"runs/{name}.pt") for name in ("a", "b", "c")]
    measured[1].defense = msgspec.structs.replace(measured[1].defense, normalization="cifar10")
    lines = of(found, *measured, record("d", ref="torchscript:d.pt"))
    size = "--arch resnet18 --width 32"
    assert [line.partition(" --attacks")[0] for line in lines] == [
        f"robench eval --defense runs/a.pt,runs/c.pt {size} --normalize none",
        f"robench eval --defense runs/b.pt {size} --normalize cifar10",
        "robench eval --defense torchscript:d.pt",
    ]


def test_only_finished_records_are_repeated(found, record):
    records = [record("a"), record("a", "fgsm", clean="1", survived="1", n=4, status="partial")]
    (command,) = of(found, *records)
    assert "fgsm" not in command
    assert of(found, records[1]) == []


def test_one_set_of_a_files_weights_is_quoted(found, record):
    measured = [record(ref) for ref in ("a", "b")]
    for one, ref in zip(measured, ("runs/a,b.pth.tar#ema", "/data/runs/x.pt#ema"), strict=True):
        one.defense = msgspec.structs.replace(one.defense, ref=ref)
    first, second = (
        line.partition(" --attacks")[0]
        for line in of(found, *measured[:1]) + of(found, *measured[1:])
    )
    size = "--arch resnet18 --width 32 --normalize none"
    assert first == f"robench eval --defense 'runs/a,b.pth.tar#ema' {size}"
    assert second == f"robench eval --defense 'x.pt#ema' {size}"  # no path of the machine
