"""Sets of weights in a checkpoint: found by structure, one of them taken, the others named.

A set is a mapping from names to tensors, at whatever depth; or, in a flat file, the names below one
prefix. Training scripts keep several: raw and averaged weights, a student and its teacher.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from robench.core.errors import InputError
from robench.core.names import did_you_mean
from robench.models.keys import CONSTANTS, unwrap

_SECOND = {
    *("ema", "swa", "wa", "avg", "average", "averaged", "polyak", "shadow", "unaveraged"),
    *("teacher", "target", "discriminator"),
}
"""Words in the names of weights that stand beside the network's own."""
_NETWORK = ("state_dict", "model", "model_state_dict", "net", "network", "student", "module")
"""What the network's own weights are called, where others are plain names, too."""
_OPTIMISER = {"optimizer", "optimiser", "optim", "opt", "scheduler", "scaler", "momentum"}
_CONSTANTS = {name for pair in CONSTANTS for name in pair}
_DEPTH = 6
_SHOWN, _LENGTH = 6, 60

Path = tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """The set that was taken. tensors: by its own names. rules: how it was found.

    name: what to type for it after `#`; empty for weights without a prefix. others: the sets that
    were left, by what to type for each.
    """

    tensors: Mapping[str, Tensor]
    rules: tuple[str, ...] = ()
    name: str = ""
    others: tuple[str, ...] = ()


def take(content: object, what: str | None, file: str, inside: str = "") -> Taken:
    """One set of weights of a file's content; no tensors where it holds none.

    what: a container's key, nested ones with dots between, or a prefix of names; None: what
    training scripts call the network's own. file: named in errors. inside: what leads to `content`.
    Raises: InputError for a `what` that the file does not hold, and for several sets of which none
    is plainly the network.
    """
    found = dict(_sets(content))
    default, rules = unwrap(content)
    if not _tensors(default) and found:
        name = _plain_network([_joined(path) for path in found])
        if name is None and what is None:
            raise InputError(_several([_joined(path) for path in found], file, inside))
        if name is not None:
            default = next(tensors for path, tensors in found.items() if _joined(path) == name)
            rules = [f"unwrap {name}"]
    tensors = _tensors(default)
    groups = _groups(tensors)
    names = [] if groups is None else groups.names
    # A container whose names fall into groups is no set beside them.
    containers = {_joined(path): tensors for path, tensors in found.items() if path}
    known = [name for name, held in containers.items() if not (names and held is default)]
    if what is not None:
        taken = _named(content, what, file) or _named(default, what, file)
        if taken is None:
            raise InputError(_holds_none(what, [*known, *names], file))
    elif groups is None:
        place = next((name for name, held in containers.items() if held is default), "")
        taken = Taken(tensors, tuple(rules), place)
    elif groups.network is None:
        raise InputError(_several(names, file, inside))
    else:
        own = _below(tensors, groups.network) if groups.network else _without(tensors, names)
        taken = Taken(own.tensors, (*rules, *own.rules), groups.network)
    same = {id(tensor) for tensor in taken.tensors.values()}
    others = [
        name
        for name in dict.fromkeys([*known, *names])
        if name != taken.name and not _is_same(containers.get(name), same)
    ]
    return replace(taken, others=tuple(others))


def _is_same(content: object, taken: set[int]) -> bool:
    """Whether these are the very tensors that were taken, under another name."""
    tensors = _tensors(content)
    return bool(tensors) and {id(tensor) for tensor in tensors.values()} == taken


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _matrices(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of linear and convolutional layers: what every network has."""
    return {k: v for k, v in tensors.items() if v.dim() > 1 and not _is_constant(k, v)}


def _is_constant(name: str, tensor: Tensor) -> bool:
    """Whether it may be the mean or the deviation of a normalisation."""
    return name.rpartition(".")[2] in _CONSTANTS and tensor.numel() in (1, 3)


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _joined(path: Path) -> str:
    return ".".join(path)


def _sets(
    content: object, path: Path = (), seen: set[int] | None = None
) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """Every mapping with weights of two layers or more, by the keys that lead to it."""
    seen = set() if seen is None else seen
    if not isinstance(content, Mapping) or len(path) > _DEPTH or id(content) in seen:
        return
    seen.add(id(content))
    if "param_groups" in content or (path and _words(path[-1]) & _OPTIMISER):
        return
    if len(_matrices(_tensors(content))) > 1:
        yield path, content
    for key, value in content.items():
        if isinstance(key, str):
            yield from _sets(value, (*path, key), seen)


def _plain_network(names: Sequence[str]) -> str | None:
    """The name that is plainly the network's own weights, or None."""
    plain = [name for name in names if not _words(name) & _SECOND]
    called = [name for name in plain if name.rpartition(".")[2] in _NETWORK]
    return next((few[0] for few in (names, plain, called) if len(few) == 1), None)


@dataclass(frozen=True)
class _Groups:
    """Sets of one flat mapping. names: prefixes. network: one of them, "" for names without a
    prefix, or None where none is plainly the network."""

    names: list[str]
    network: str | None


def _groups(tensors: Mapping[str, Tensor]) -> _Groups | None:
    """The sets that share a flat mapping; None for one network, whatever its layers are called."""
    parts = {name: name.split(".") for name in _matrices(tensors)}
    before: list[str] = []
    while parts and len({tuple(p[:1]) for p in parts.values()}) == 1 and _longer(parts):
        before.append(next(iter(parts.values()))[0])
        if _words(before[-1]) & _SECOND:
            return _Groups([_joined(tuple(before))], _joined(tuple(before)))
        parts = {name: rest[1:] for name, rest in parts.items()}
    below: dict[str, dict[str, object]] = {}
    for name, (first, *rest) in parts.items():
        below.setdefault(first, {})[".".join(rest)] = tensors[name].shape
    second = [name for name in below if _words(name) & _SECOND and len(below[name]) > 1]
    plain = [name for name in below if name not in second]
    if second and plain:
        return _with_second(below, second, plain, before)
    several = second or plain
    if len(several) < 2 or len(below[several[0]]) < 2:
        return None
    if second or all(below[name] == below[several[0]] for name in several):
        return _Groups([_joined((*before, name)) for name in several], None)
    return None


def _longer(parts: Mapping[str, list[str]]) -> bool:
    return all(len(rest) > 1 for rest in parts.values())


def _with_second(
    below: Mapping[str, Mapping[str, object]],
    second: Sequence[str],
    plain: Sequence[str],
    before: Sequence[str],
) -> _Groups | None:
    def typed(names: Sequence[str]) -> list[str]:
        return [_joined((*before, name)) for name in names]

    bare = {".".join(filter(None, (first, rest))) for first in plain for rest in below[first]}
    if any({_bare(name) for name in below[group]} == bare for group in second):
        return _Groups(typed(second), "")
    network = _plain_network(plain) if len(plain) > 1 else plain[0]
    return None if network is None else _Groups(typed([network, *second]), typed([network])[0])


def _bare(name: str) -> str:
    return name.removeprefix("module.")


def _named(content: object, what: str, file: str) -> Taken | None:
    """The set of that name: a container's key, or a prefix within one."""
    wanted = what.strip().rstrip(".")
    if not isinstance(content, Mapping) or not wanted:
        return None
    inner = content.get(wanted)
    if isinstance(inner, Mapping):
        taken = take(inner, None, file, wanted)
        return Taken(taken.tensors, (f"unwrap {wanted}", *taken.rules), wanted)
    tensors = _tensors(content)
    if any(name.startswith(f"{wanted}.") for name in tensors):
        return _below(tensors, wanted)
    for key, value in content.items():
        if isinstance(key, str) and wanted.startswith(f"{key}.") and isinstance(value, Mapping):
            found = _named(value, wanted.removeprefix(f"{key}."), file)
            if found is not None:
                return Taken(found.tensors, (f"unwrap {key}", *found.rules), wanted)
    return None


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Taken:
    """What is named below a prefix, and the constants of a normalisation that belong to no set."""
    depth = prefix.count(".") + 1

    def branch(name: str) -> str:
        return ".".join(name.split(".")[:depth])

    own = {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if branch(k) == prefix}
    others = {name: tensor for name, tensor in tensors.items() if branch(name) != prefix}
    sets = {branch(name) for name in _matrices(others)}
    kept = {k: v for k, v in others.items() if _is_constant(k, v) and branch(k) not in sets}
    left = dict.fromkeys(branch(name) for name in others if name not in kept)
    return Taken({**kept, **own}, (f"take {prefix}", *_left_out(list(left))), prefix)


def _without(tensors: Mapping[str, Tensor], prefixes: Sequence[str]) -> Taken:
    """What is named below none of the prefixes."""
    below = tuple(f"{name}." for name in prefixes)
    own = {k: v for k, v in tensors.items() if not k.startswith(below)}
    return Taken(own, tuple(_left_out(prefixes)))


def _left_out(names: Sequence[str]) -> list[str]:
    return [f"leave out {shown(names)}"] if names else []


def _several(names: Sequence[str], file: str, inside: str) -> str:
    full = [".".join(filter(None, (inside, name))) for name in names]
    return (
        f"{file} holds {len(full)} sets of weights, {shown(full)}, and none is plainly the "
        f"network: say which one, as {file}#{full[0]}"
    )


def _holds_none(what: str, names: Sequence[str], file: str) -> str:
    if not names:
        return f"{file} holds one set of weights and no {what[:_LENGTH]!r}: give {file} alone"
    hint = did_you_mean(what, names) or ":"
    return f"{file} holds no weights {what[:_LENGTH]!r}{hint} it holds {shown(names)}"


def shown(names: Sequence[str]) -> str:
    """Names on one line, the first few of them."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:_LENGTH] for name in names[:_SHOWN]) + more
