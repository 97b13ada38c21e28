"""Names of weights: from what checkpoints in circulation have to what our networks have.

Named rules, each recorded where it was applied. Nothing is guessed from values: after the rules
every name and every shape must fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robench.core.errors import InputError
from robench.models.build import Layout, layout
from robench.models.normalize import LISTED, Normalization

WRAPPERS = ("state_dict", "net", "model", "model_state_dict")
"""Keys under which training scripts store the state dict."""
PREFIXES = ("module.", "model.", "basic_net.", "_orig_mod.", "network.", "0.", "1.")
"""What wrappers put before every name; 0. and 1. come from Sequential(normalise, network)."""
CONSTANTS = (("mean", "std"), ("mu", "sigma"))
"""Last parts of the names under which networks store their normalisation."""
SAME_LAYER = (("linear", "fc", "logits"), ("shortcut", "downsample", "convShortcut"))
"""Names of one layer in different families."""

_SHOWN = 3

Tensors = dict[str, Tensor]


def unwrap(content: object) -> tuple[object, list[str]]:
    """The innermost state dict of a checkpoint, and the rules that found it."""
    rules: list[str] = []
    seen: set[int] = set()  # a crafted file may contain itself
    while isinstance(content, Mapping) and id(content) not in seen:
        seen.add(id(content))
        key = next((k for k in WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if key is None:
            break
        content = content[key]
        rules.append(f"unwrap {key}")
    return content, rules


def _drop_unused(tensors: Tensors) -> Tensors:
    """TRADES' WideResNet stores a block that its forward never calls."""
    return {k: v for k, v in tensors.items() if not k.startswith("sub_block1.")}


def _drop_counters(tensors: Tensors) -> Tensors:
    """Averaged networks store beside their layers how many states they averaged."""
    layers = any("." in name and tensor.dim() > 1 for name, tensor in tensors.items())
    return {k: v for k, v in tensors.items() if not (layers and "." not in k and v.numel() == 1)}


def _strip(prefix: str) -> Callable[[Tensors], Tensors]:
    def strip(tensors: Tensors) -> Tensors:
        if not tensors or not all(name.startswith(prefix) for name in tensors):
            return tensors
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    return strip


RULES: tuple[tuple[str, Callable[[Tensors], Tensors]], ...] = (
    *((f"strip {prefix}", _strip(prefix)) for prefix in PREFIXES),
    ("drop sub_block1", _drop_unused),
    ("drop counters", _drop_counters),
)
"""name, rule: each gives the tensors under new names, or unchanged where it does not apply."""


@dataclass(frozen=True)
class Cleaned:
    """tensors: the network's own, by bare names. normalization: what the checkpoint held, if it
    held one. rules: those applied, in order."""

    tensors: Tensors
    normalization: Normalization | None
    rules: tuple[str, ...]


def clean(tensors: Mapping[str, Tensor]) -> Cleaned:
    """Take off what wrappers added, until no rule applies.

    Raises: InputError when the stored normalisation cannot be read.
    """
    rest, normalization = _split_constants(dict(tensors))
    applied = ["constants into the normalisation"] if len(rest) < len(tensors) else []
    changed = True
    while changed:
        changed = False
        for name, rule in RULES:
            after = rule(rest)
            if after.keys() != rest.keys():
                rest, changed = after, True
                applied.append(name)
    return Cleaned(rest, normalization, tuple(applied))


def _split_constants(tensors: Tensors) -> tuple[Tensors, Normalization | None]:
    found: list[Normalization] = []
    rest = dict(tensors)
    for name in tensors:
        parent, dot, last = name.rpartition(".")
        for mean, std in CONSTANTS:
            pair = (name, f"{parent}{dot}{std}")
            if last == mean and all(k in rest and rest[k].numel() in (1, 3) for k in pair):
                found.append(_normalization(rest.pop(pair[0]), rest.pop(pair[1])))
    if len(set(found)) > 1:
        raise InputError("the checkpoint holds two normalisations that differ: give --normalize")
    return rest, found[0] if found else None


def _normalization(mean: Tensor, std: Tensor) -> Normalization:
    # 7 digits give back the decimal that was written before it became float32.
    values = [tuple(float(f"{v:.7g}") for v in t.flatten().tolist()) for t in (mean, std)]
    width = max(map(len, values))
    means, stds = (v if len(v) == width else v * width for v in values)
    stored = Normalization(means, stds)
    return LISTED["none"] if stored.is_identity else stored


def canonical(name: str) -> str:
    """The name with every layer that has several names under the first of them."""
    return ".".join(
        next((names[0] for names in SAME_LAYER if part in names), part) for part in name.split(".")
    )


def fit(tensors: Mapping[str, Tensor], wanted: Layout) -> tuple[Tensors, list[str]]:
    """Rename layers to the names that `wanted` has, where that is unambiguous."""
    renamed: Tensors = {}
    rules: list[str] = []
    by_canonical = {canonical(name): name for name in wanted}
    for name, tensor in tensors.items():
        target = name if name in wanted else by_canonical.get(canonical(name), name)
        if target != name and (target in tensors or target in renamed):
            target = name  # both names are there: leave them to the strict comparison
        if target != name:
            rules += _renamings(name, target)
        renamed[target] = tensor
    renamed, filled = _with_counters(renamed, wanted)
    return renamed, [*dict.fromkeys(rules), *filled]


def _renamings(name: str, target: str) -> list[str]:
    pairs = zip(name.split("."), target.split("."), strict=True)
    return [f"{old} -> {new}" for old, new in pairs if old != new]


def _with_counters(tensors: Tensors, wanted: Layout) -> tuple[Tensors, list[str]]:
    """Batch counters that torch before 0.4.1 did not store; evaluation never reads them."""
    counters = [k for k in wanted if k.endswith(".num_batches_tracked") and k not in tensors]
    if not counters:
        return tensors, []
    return {**tensors, **{k: torch.tensor(0) for k in counters}}, ["add num_batches_tracked"]


def differences(tensors: Mapping[str, Tensor], wanted: Layout) -> list[str]:
    """What does not fit, most telling first; empty where every name and shape fits."""
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    misshaped = [
        f"{name} {_size(tensors[name].shape)} instead of {_size(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
    return [f"{kind}: {_first(names)}" for kind, names in kinds if names]


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:80] for name in names[:_SHOWN]) + more


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], what: str) -> list[str]:
    """Put every tensor into `network` (which may be on meta); the rules that renamed layers.

    The network takes the tensors themselves, no copy. what: names the network in errors.
    Raises: InputError with the first missing, unexpected and misshaped names.
    """
    wanted = layout(network)
    fitted, rules = fit(tensors, wanted)
    wrong = differences(fitted, wanted)
    if wrong:
        raise InputError(f"the weights do not fit {what}: {'; '.join(wrong)}")
    network.load_state_dict(fitted, strict=True, assign=True)
    return rules
