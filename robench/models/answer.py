"""The logits among what a network answers: many return a tuple, a mapping or an object."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from robench.core.errors import InputError


class Member(nn.Module):
    """The network with one member of its answer as its logits.

    key: place in a tuple, key of a mapping, or name of an attribute.
    """

    def __init__(self, network: nn.Module, key: int | str) -> None:
        super().__init__()
        self.network, self.key = network, key
        self.training = getattr(network, "training", False)  # a frozen TorchScript one has none

    def forward(self, x: Tensor) -> Any:
        return member(self.network(x), self.key)


def member(answer: Any, key: int | str | None) -> Any:
    """What `key` names in an answer; the answer itself for None."""
    if key is None:
        return answer
    if isinstance(key, str) and not isinstance(answer, Mapping):
        return getattr(answer, key)
    return answer[key]


def find_logits(answer: Any, rows: int, classes: int | None, size: str) -> int | str | None:
    """Which member of an answer to `rows` images holds the logits; None: the answer itself does.

    classes: how many are expected; None: not known. size: of the images, for errors. A member
    called `logits` goes before the others that fit; of a tuple's the first is taken, as networks
    with auxiliary heads have it.
    Raises: InputError ("gives ...") where no member fits, or several of a mapping do.
    """
    if isinstance(answer, Tensor):
        _check_tensor(answer, rows, size)
        return None
    members = _members(answer)
    fitting = [key for key, member in members if _fits(member, rows, classes)]
    if "logits" in fitting:
        return "logits"
    if not fitting or (len(fitting) > 1 and isinstance(answer, Mapping)):
        raise InputError(_unfit(answer, members, rows, classes))
    return fitting[0]


def _members(answer: Any) -> list[tuple[int | str, Any]]:
    if isinstance(answer, Mapping):
        return [(key, member) for key, member in answer.items() if isinstance(key, str)]
    if isinstance(answer, tuple | list):
        return list(enumerate(answer))
    return [("logits", answer.logits)] if hasattr(answer, "logits") else []


def _fits(member: Any, rows: int, classes: int | None) -> bool:
    return (
        isinstance(member, Tensor)
        and member.is_floating_point()
        and member.dim() == 2
        and member.shape[0] == rows
        and (member.shape[1] == classes if classes else member.shape[1] > 1)
    )


def _unfit(answer: Any, members: list[tuple[int | str, Any]], rows: int, classes: object) -> str:
    shown = [f"{key}: {_size(m)}" for key, m in members[:4] if isinstance(m, Tensor)]
    has = f"; it has {', '.join(shown)}" if shown else ""
    wanted = f"expected a tensor of logits, or one member of {rows} x {classes or 'classes'}"
    return f"gives {type(answer).__name__}: {wanted}{has}"


def _check_tensor(logits: Tensor, rows: int, size: str) -> None:
    given = f"gives {_size(logits)} for {rows} images of {size}"
    if not logits.is_floating_point():
        kind = str(logits.dtype).removeprefix("torch.")
        raise InputError(f"{given} in {kind}: expected logits, which are floating-point numbers")
    if logits.dim() in (1, 2) and logits.numel() == rows:
        raise InputError(
            f"{given}, one number an image: expected {rows} x classes; of a single logit z stack "
            "(0, z), as torch.cat([torch.zeros_like(z), z], 1) does"
        )
    if logits.dim() != 2 or logits.shape[0] != rows or logits.shape[1] < 2:
        raise InputError(f"{given}: expected {rows} x classes")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
