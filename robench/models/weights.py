"""Reading and writing checkpoints. Weights only: nothing in a file is ever executed.

The format is told from the content, not from the suffix: safetensors, or what torch.save wrote.
"""

import hashlib
import io
import json
import pickle
import re
import shlex
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from robench.core.errors import InputError
from robench.core.files import atomic_write
from robench.models.containers import shown, take
from robench.models.keys import unwrap

# What torch's restricted unpickler and zip reader raise on damaged or hostile bytes (found by
# fuzzing); RuntimeError comes from C++, LookupError and the rest from the opcodes' operands.
_DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    MemoryError,
    AssertionError,
    struct.error,
)
_COMMANDS = (
    *(f"{name}." for name in ("posix", "nt", "os", "subprocess", "pty", "socket", "runpy", "sys")),
    *(f"builtins.{name}" for name in ("eval", "exec", "compile", "open", "__import__")),
)
"""What no checkpoint needs: here no command that opens the file is offered."""
_LENGTH = 8
"""Bytes of the little-endian header length that starts a safetensors file."""


@dataclass(frozen=True)
class Checkpoint:
    """A file as read once: hash and weights are of the same bytes.

    tensors: by the names in the file, floating ones float32. metadata: empty but for safetensors.
    sha256: of the file. rules: what was unwrapped to find the state dict. taken, others: names of
    the set of weights that was read and of those beside it, as one types them after `#`.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str
    rules: tuple[str, ...]
    taken: str = ""
    others: tuple[str, ...] = ()

    def said(self, file: str) -> tuple[str, ...]:
        """A note on which weights these are, where the file holds several. file: as it is typed."""
        if not self.others:
            return ()
        taken = f"weights of {self.taken}" if self.taken else "the weights without a prefix"
        return (
            f"{taken}; the file also holds {shown(self.others)}: "
            f"score it as {file}#{self.others[0]}",
        )


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file of ours. Raises: InputError as `read_checkpoint`."""
    content = _read(path)
    if _is_safetensors(content) or path.suffix == ".safetensors":
        tensors, metadata = _parse_safetensors(content, path)
        return _plain(tensors, path), metadata
    return _plain(unwrap(_parse_torch(content, path))[0], path), {}


def read_checkpoint(path: Path, what: str | None = None) -> Checkpoint:
    """A checkpoint file, float32 on the CPU, contained state dict unwrapped.

    what: which of several sets of weights, as `containers.take`; None: the network's own.
    Raises: InputError for a file that is missing, empty, damaged, no checkpoint, or in need of
    pickled objects (with the command that converts it where the file is trusted), and as `take`.
    """
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    stored: object
    if _is_safetensors(content) or path.suffix == ".safetensors":
        stored, metadata = _parse_safetensors(content, path)
    else:
        stored, metadata = _parse_torch(content, path), {}
    taken = take(stored, what, str(path))
    tensors = _plain(taken.tensors, path)
    return Checkpoint(tensors, metadata, digest, taken.rules, taken.name, taken.others)


def check_opens(path: Path) -> str:
    """Hex SHA-256 of a file that `torch.load` opens as weights only, however they are nested.

    For loaders of others, which read the file themselves. Raises: InputError as `read_checkpoint`.
    """
    content = _read(path)
    _parse_torch(content, path)
    return hashlib.sha256(content).hexdigest()


def write_weights(
    path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, whole or not at all; equal content gives equal bytes.

    Raises: RunError when the disk is full or the folder cannot be written.
    """
    # clone: safetensors refuses tensors that share memory.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state_dict.items()}
    atomic_write(path, _with_sorted_header(safetensors.torch.save(tensors, dict(metadata))))


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: expected a checkpoint file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        raise InputError(f"{str(path)!r} is no file name") from None
    _refuse_other_kinds(content, path)
    return content


def is_web_page(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a page that was saved instead of it."""
    return start.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml"))


def _refuse_other_kinds(content: bytes, path: Path) -> None:
    start = content[:512].lstrip().lower()
    if not content:
        raise InputError(f"{path} is empty: download or copy it again")
    if is_web_page(start):
        raise InputError(
            f"{path} is a web page, not a checkpoint: the link it was downloaded from leads to a "
            "page (a log-in, a virus-scan notice); download the file itself"
        )
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the file: run git lfs pull")
    if start.startswith(b"\x89hdf"):
        raise InputError(f"{path} is an HDF5 file: expected a checkpoint of torch or safetensors")


def _is_safetensors(content: bytes) -> bool:
    length = int.from_bytes(content[:_LENGTH], "little")
    return content[_LENGTH : _LENGTH + 1] == b"{" and length <= len(content)


def _parse_safetensors(content: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = safetensors.torch.load(content)
        header: dict[str, dict[str, str]] = json.loads(_header(content))
        metadata = header.pop("__metadata__", {})
        ordered = {name: tensors[name] for name in header}  # the library's order is random
    except (SafetensorError, ValueError, LookupError, RuntimeError) as error:
        raise InputError(
            f"{path} is no whole safetensors file ({_line(error)}): download or copy it again"
        ) from error
    return ordered, metadata


def _header(content: bytes) -> bytes:
    """The JSON text at the start of a safetensors file."""
    return content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")]


def _parse_torch(content: bytes, path: Path) -> object:
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        needed = _needed_objects(str(error))
        if not needed:
            raise InputError(
                f"{path} is no checkpoint that torch.load reads, or it is damaged "
                f"({_reason(error)}): download or copy it again"
            ) from error
        if needed.startswith(_COMMANDS):
            raise InputError(
                f"{path} wants to call {needed} when it is opened: refused; that is no checkpoint "
                "but an attack, delete it"
            ) from error
        raise InputError(
            f"{path} needs pickled objects ({needed}), which could run any code: refused. "
            f"Where you trust it, convert it once: {conversion_command(path)}"
        ) from error


def _needed_objects(message: str) -> str:
    """The class or function that torch's restricted unpickler refused, or an empty text."""
    named = re.search(r"(?:GLOBAL|Unsupported class|instantiate) ([\w.]+)", message)
    if named:
        return named[1]
    return "TorchScript" if "TorchScript archive" in message else ""


def _reason(error: BaseException) -> str:
    """What torch says, less its page of advice."""
    advice = "Weights only load failed"
    return "not what torch.save writes" if advice in str(error) else _line(error)


def conversion_command(path: Path) -> str:
    """The shell line that keeps the tensors of a pickled checkpoint; it executes the file."""
    source, target = (
        json.dumps(str(value), ensure_ascii=False)
        for value in (path, path.with_name(f"{path.stem}-weights.pt"))
    )
    # Every set of weights is kept, under its own keys: which one is scored is decided on reading.
    code = (
        f'import torch; c = torch.load({source}, map_location="cpu", weights_only=False); '
        'state = lambda c: c.state_dict() if hasattr(c, "parameters") else c; '
        "kept = lambda c: c if torch.is_tensor(c) else "
        "{str(k): kept(state(v)) for k, v in c.items()} if isinstance(c, dict) else None; "
        f"torch.save(kept(state(c)), {target})"
    )
    return f"python -c {shlex.quote(code)}"


def _plain(stored: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict: on the CPU, dense, floating ones float32."""
    tensors = (
        {k: v for k, v in stored.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if isinstance(stored, Mapping)
        else {}
    )
    if not tensors:
        raise InputError(f"{path} holds no state dict: expected names with tensors")
    return {name: _float32(name, tensor.detach(), path) for name, tensor in tensors.items()}


def _float32(name: str, tensor: Tensor, path: Path) -> Tensor:
    usable = (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_complex() or tensor.is_nested)
        # An expanded tensor claims more than its storage holds: a few bytes could fill the memory.
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )
    if not usable:
        raise InputError(f"{path}: {name[:80]!r} is no plain tensor (dense, real, unquantised)")
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    # Plain strides: a channels-last weight would choose other kernels, which round differently.
    return tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)


def _with_sorted_header(content: bytes) -> bytes:
    """The same file with its metadata sorted; the library writes it in a random order."""
    before = _header(content)
    header = json.loads(before)
    metadata = dict(sorted(header.pop("__metadata__", {}).items()))
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned to 8 bytes
    return len(text).to_bytes(_LENGTH, "little") + text + content[_LENGTH + len(before) :]


def _line(error: BaseException) -> str:
    """The start of a foreign message on one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
