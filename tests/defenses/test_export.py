"""Half-precision checkpoints: what is kept, what is halved, what is refused."""

from pathlib import Path

import pytest
import torch

from robench.core.errors import InputError
from robench.defenses.export import export_half
from robench.defenses.reference import load_defense
from robench.models.build import build
from robench.models.weights import read_weights, write_weights


def checkpoint(path: Path, scale: float = 1.0) -> Path:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        state = build("resnet18", 10, 4).state_dict()
    state["linear.weight"] = state["linear.weight"] * scale
    write_weights(path, state, {"method": "sat", "dataset": "cifar10", "eps": "8/255"})
    return path


def test_weights_are_rounded_once_and_metadata_kept(tmp_path: Path) -> None:
    source, target = checkpoint(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    export_half(load_defense(str(source)), target)
    (before, said), (after, again) = read_weights(source), read_weights(target)
    assert again == said
    for name, tensor in before.items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(after[name], expected)
    assert target.stat().st_size < 0.6 * source.stat().st_size
    one, other = load_defense(str(source)), load_defense(str(target))
    assert one.fingerprint != other.fingerprint and other.eps == one.eps


def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a.safetensors", scale=1e7)
    with pytest.raises(InputError, match=r"linear\.weight .* beyond half precision"):
        export_half(load_defense(str(source)), tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def test_a_module_has_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="comes from no checkpoint file"):
        export_half(load_defense(build("resnet18", 10, 2)), tmp_path / "b.safetensors")
