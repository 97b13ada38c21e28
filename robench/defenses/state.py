"""The state of a network: its parameters, its buffers, and whatever else its state dict holds."""

import hashlib
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


def state_of(network: nn.Module) -> dict[str, object]:
    """Values by name. Buffers too: those that are not persistent change the function as well."""
    return {**dict(network.named_buffers()), **network.state_dict()}


def add_state(digest: "hashlib._Hash", network: nn.Module) -> None:
    """Hash names, types, shapes and bytes, in the order of the names.

    A state dict may hold more than tensors: packed weights of quantised layers, extra state.
    """
    state = state_of(network)
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            add_texts(digest, name, str(value.dtype), str(tuple(value.shape)))
            digest.update(tensor_bytes(value))
        else:
            add_texts(digest, name, without_addresses(repr(value)))
            # A printed tensor leaves most of its values out.
            for tensor in _tensors_in(value):
                digest.update(tensor_bytes(tensor))


def state_digest(network: nn.Module) -> str:
    """Hex SHA-256 of all of the state."""
    digest = hashlib.sha256()
    add_state(digest, network)
    return digest.hexdigest()


def _tensors_in(value: object, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping) and depth < 8:
        for one in value.values():
            yield from _tensors_in(one, depth + 1)
    elif isinstance(value, list | tuple) and depth < 8:
        for one in value:
            yield from _tensors_in(one, depth + 1)
    elif isinstance(value, torch.ScriptObject) and hasattr(value, "unpack"):
        yield from _tensors_in(value.unpack(), depth + 1)


def add_texts(digest: "hashlib._Hash", *texts: str) -> None:
    """Hash texts; their lengths keep them apart."""
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)


def tensor_digest(tensor: Tensor) -> str:
    """Hex SHA-256 of type, shape and bytes."""
    digest = hashlib.sha256()
    add_texts(digest, str(tensor.dtype), str(tuple(tensor.shape)))
    digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The values of any tensor, in C order."""
    tensor = tensor.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return tensor.view(torch.uint8).numpy().tobytes()


def without_addresses(text: str) -> str:
    """Printed objects without the places in memory at which they happen to lie."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
