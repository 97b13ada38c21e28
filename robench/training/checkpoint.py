"""What a run leaves on disk: a state to go on from, and the best weights, which eval finds.

Both are safetensors files, replaced whole or not at all.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from robench.core.errors import InputError, RunError
from robench.models.weights import read_weights, write_weights
from robench.training.history import MeansState

STATE_FILE, BEST_FILE, HISTORY_FILE, RECIPE_FILE = (
    "state.safetensors",
    "best.safetensors",
    "history.csv",
    "recipe.toml",
)
_PROGRESS, _MOMENTUM = "progress", "momentum."


class Best(msgspec.Struct, kw_only=True):
    """The best epoch so far, by the recipe's selection."""

    epoch: int
    clean: float
    robust: float


class Progress(msgspec.Struct, kw_only=True):
    """Where a run stands; with weights and momentum, all that its future depends on."""

    epoch: int = 1
    """The epoch that is being run, from 1; epochs + 1: finished."""
    step: int = 0
    """Steps of it that are done."""
    method: dict[str, Any] = {}
    """State fields of the method."""
    means: MeansState = msgspec.field(default_factory=lambda: MeansState(count=0, sums={}))
    """The epoch's means so far."""
    seconds: float = 0.0
    """Of the epoch so far."""
    sittings: int = 1
    best: Best | None = None


def save_state(
    path: Path, learners: nn.ModuleDict, optimizer: torch.optim.SGD, progress: Progress
) -> None:
    """Weights, running statistics, momentum and progress. Raises: RunError on a full disk."""
    tensors: dict[str, Tensor] = dict(learners.state_dict())
    for name, parameter in learners.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"{_MOMENTUM}{name}"] = momentum
    write_weights(path, tensors, {_PROGRESS: msgspec.json.encode(progress).decode()})


def load_state(path: Path, learners: nn.ModuleDict, optimizer: torch.optim.SGD) -> Progress:
    """Put weights and momentum back; where the run stood.

    Raises: InputError for a file that is damaged or of another network.
    """
    tensors, metadata = read_weights(path)
    try:
        progress = msgspec.json.decode(metadata[_PROGRESS], type=Progress)
        weights = {k: v for k, v in tensors.items() if not k.startswith(_MOMENTUM)}
        learners.load_state_dict(weights)
    except (KeyError, RuntimeError, msgspec.DecodeError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no state of this run: {message}") from error
    for name, parameter in learners.named_parameters():
        momentum = tensors.get(_MOMENTUM + name)
        if momentum is not None:
            value = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = value
    return progress


def save_best(path: Path, network: nn.Module, metadata: Mapping[str, str]) -> None:
    """The network's weights, with what a reader must know. Raises: RunError on a full disk."""
    write_weights(path, network.state_dict(), metadata)


def mark_finished(path: Path) -> None:
    """Say in the best weights that their run came to an end, and when; once."""
    tensors, metadata = read_weights(path)
    if "finished" not in metadata:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_weights(path, tensors, {**metadata, "finished": now})


def check_finite(values: Mapping[str, float], epoch: int, step: int) -> None:
    """Raises: RunError naming the first loss or measure that is no number, and where."""
    for name, value in values.items():
        if not abs(value) < float("inf"):
            raise RunError(
                f"{name} is {value} at epoch {epoch}, step {step}: stopped; the last good state is "
                "kept, a lower optimizer.lr or precision=fp32 may help"
            )
