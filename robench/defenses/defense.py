"""Defense: a classifier to be scored, and what a record must know about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robench.core.errors import InputError
from robench.core.threat import Norm
from robench.models.global_rng import kept_global_rng


@dataclass(frozen=True, eq=False)
class Defense:
    """Network, weights and input convention. Only the judge and the searches call `model`."""

    name: str
    """Short name for tables and file names."""
    scheme: str
    """How it was loaded: file, python, torchvision, module."""
    ref: str
    """The reference as it was given; the class name for a module object."""
    model: nn.Module
    """Pixels in [0, 1], (B, C, H, W) float32 -> logits (B, num_classes); in evaluation mode."""
    architecture: str
    """A registered name, or the qualified name of foreign code."""
    width: int | None
    """As the family counts it; None for foreign code."""
    num_classes: int
    parameters: int
    """Number of trainable and frozen parameters, buffers not counted."""
    normalization: str
    """Name or MEAN/STD of the normalisation in front of the network; "none"."""
    fingerprint: str
    """Hex SHA-256 of weights, code and normalisation: `robench.defenses.fingerprint`."""
    dataset: str | None = None
    """What it was trained for, where that is known."""
    class_order: str | None = None
    """Digest of its class names in the order of its logits, where that is known."""
    eps: float | None = None
    """Radius it was trained for, pixel units of [0, 1]."""
    norm: Norm | None = None
    label: str | None = None
    """What every result must say of how it was trained, such as "small-scale, 5-step"."""
    source: dict[str, str] | None = None
    """{"path", "sha256"} of the checkpoint file; "weights": the set that was asked for."""
    key_rules: tuple[str, ...] = ()
    """Rules that were applied to names in the checkpoint, in order."""
    notes: tuple[str, ...] = ()
    """What a reader of the record should know about the loading."""
    rows: int | None = None
    """Rows of every pass, where it takes no other number; None: any."""
    refused: str | None = None
    """Why a network failed on its first images, in one line; it cannot be scored on such."""


@contextmanager
def foreign(doing: str) -> Iterator[None]:
    """Run code of others: what it raises becomes an InputError, what it draws is given back."""
    try:
        with kept_global_rng():
            yield
    except InputError:
        raise
    # Everything: nobody knows what foreign code raises, and its sys.exit must not end our run.
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(f"{doing} raised {type(error).__name__}: {message}") from error


def ready(model: Any, what: str) -> nn.Module:
    """The model itself, in evaluation mode.

    what: names it in errors.
    Raises: InputError for what is no nn.Module, or stays in training mode.
    """
    if isinstance(model, type) or not isinstance(model, nn.Module):
        kind = model.__name__ if isinstance(model, type) else type(model).__name__
        raise InputError(f"{what}: expected an object of torch.nn.Module, got {kind}")
    with foreign(f"{what}: eval()"):
        _put_in_evaluation_mode(model)
    training = [type(m).__name__ for m in model.modules() if getattr(m, "training", False)]
    if training:
        raise InputError(
            f"{what} cannot be put in evaluation mode: {training[0]} stays in training"
        )
    return model


def _put_in_evaluation_mode(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError:
        # What torch.export makes has no modes, nor has a network around it: it computes as it was
        # exported.
        for module in model.modules():
            module.training = False


def weights_advice(model: nn.Module, what: str) -> str | None:
    """One line where a network that failed on float32 images has weights of another type."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.dtype is not torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            return f"{what} has {kind} weights ({name}): give model.float()"
    return None


def count_parameters(model: nn.Module) -> int:
    """Number of scalars in all parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
