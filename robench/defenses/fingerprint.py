"""The identity of a defense: equal fingerprints mean the same function, by all that can be read."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from robench.defenses.own_code import qualified
from robench.defenses.state import add_state, add_texts, without_addresses

_LIBRARIES = ("torch", "torchvision")
"""Their layers count by name: their source changes with every release, their function does not."""


@dataclass(frozen=True)
class Code:
    """text: what stands for the architecture. unread: names of classes whose source was not to be
    had; they count by name."""

    text: str
    unread: tuple[str, ...] = ()


def fingerprint(network: nn.Module, code: Code, normalization: str) -> str:
    """Hex SHA-256 over names, types, shapes and bytes of the weights, the code, the normalisation.

    network: without a normalisation that `normalization` names. Names count in sorted order.
    """
    digest = hashlib.sha256()
    add_texts(digest, code.text, normalization)
    add_state(digest, network)
    return digest.hexdigest()


def own_code(architecture: str, width: int | None, num_classes: int) -> Code:
    """A registered network is known by its name and size."""
    return Code(f"{architecture} width={width} classes={num_classes}")


def foreign_code(network: nn.Module, factory: Callable[..., object] | None = None) -> Code:
    """The source of every module class, its bases and the factory, and the printed structure.

    The structure holds what neither weights nor sources show: strides, paddings, dropout.
    """
    kinds = {type(module) for module in network.modules()}
    classes = {base for kind in kinds for base in kind.__mro__ if issubclass(base, nn.Module)}
    things: list[Callable[..., object]] = sorted(classes, key=qualified)
    texts, unread = [], []
    for thing in [*things, *([factory] if factory else [])]:
        text = _source(thing)
        texts.append(text or qualified(thing))
        if text is None:
            unread.append(qualified(thing))
    return Code("\n".join([*texts, without_addresses(repr(network))]), tuple(unread))


def _source(thing: Callable[..., object]) -> str | None:
    """Its source; its name for a layer of torch; None where neither is to be had."""
    if qualified(thing).split(".")[0] in _LIBRARIES:
        return qualified(thing)
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return None
