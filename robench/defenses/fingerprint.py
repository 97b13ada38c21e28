"""The identity of a defense: equal fingerprints mean the same function, by all that can be read."""

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    _add(digest, code.text, normalization)
    # Buffers too: foreign constants that are not persistent change the function as weights do.
    state = {**dict(network.named_buffers()), **network.state_dict()}
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            _add(digest, name, str(value.dtype), str(tuple(value.shape)))
            digest.update(_bytes(value))
        else:
            _add(digest, name, _without_addresses(repr(value)))
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
    things: list[Callable[..., object]] = sorted(classes, key=_qualified)
    texts, unread = [], []
    for thing in [*things, *([factory] if factory else [])]:
        text = _source(thing)
        texts.append(text or _qualified(thing))
        if text is None:
            unread.append(_qualified(thing))
    return Code("\n".join([*texts, _without_addresses(repr(network))]), tuple(unread))


def _source(thing: Callable[..., object]) -> str | None:
    """Its source; its name for a layer of torch; None where neither is to be had."""
    if _qualified(thing).split(".")[0] in _LIBRARIES:
        return _qualified(thing)
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return None


def _qualified(thing: Callable[..., object]) -> str:
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _add(digest: "hashlib._Hash", *texts: str) -> None:
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)  # lengths keep texts apart


def _bytes(tensor: Tensor) -> bytes:
    tensor = tensor.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return tensor.view(torch.uint8).numpy().tobytes()
