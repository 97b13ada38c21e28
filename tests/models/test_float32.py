"""Float32 products are float32, whichever switches a caller has set, and the switches come back."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from robench.models import float32
from robench.models.float32 import float32_products

OPERATIONS = ("all", "matmul", "conv", "rnn")
NEWER = [("generic", "all"), *((b, o) for b in ("cuda", "mkldnn") for o in OPERATIONS)]


def put(value: str, backend: str = "generic", operation: str = "all") -> None:
    torch._C._set_fp32_precision_setter(backend, operation, value)


def readings() -> list[Any]:
    """What every switch says, an older one that the newer contradict its error."""
    found: list[Any] = [torch._C._get_fp32_precision_getter(*name) for name in NEWER]
    for read in (
        torch.get_float32_matmul_precision,
        lambda: torch.backends.cudnn.allow_tf32,
        lambda: torch.backends.cuda.matmul.allow_tf32,
    ):
        try:
            found.append(read())
        except RuntimeError as error:
            found.append(str(error))
    return found


def fresh() -> None:
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for backend, operation in NEWER:
        if (backend, operation) not in (("cuda", "conv"), ("cuda", "rnn")):
            put("none", backend, operation)


@pytest.fixture(autouse=True)
def fresh_switches() -> Iterator[None]:
    fresh()
    yield
    fresh()


def allow_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


def contradicted() -> None:
    torch.set_float32_matmul_precision("medium")
    put("tf32", "mkldnn", "matmul")


def cudnn_off() -> None:
    torch.backends.cudnn.allow_tf32 = False


SET = {
    "nothing": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "allow_tf32": allow_tf32,
    "cudnn.allow_tf32 off": cudnn_off,
    "all tf32": lambda: put("tf32"),
    "all ieee": lambda: put("ieee"),
    "mkldnn bf16": lambda: put("bf16", "mkldnn"),
    "mkldnn matmul bf16": lambda: put("bf16", "mkldnn", "matmul"),
    "mkldnn conv tf32": lambda: put("tf32", "mkldnn", "conv"),
    "cuda matmul tf32": lambda: put("tf32", "cuda", "matmul"),
    "cuda conv ieee": lambda: put("ieee", "cuda", "conv"),
    "old and new contradict each other": contradicted,
}
LATER = (
    ("none", "mkldnn"),
    ("bf16", "mkldnn"),
    ("bf16", "mkldnn", "matmul"),  # what an older "medium" agrees with
    ("tf32",),
    ("ieee",),
    ("ieee", "cuda"),
)
"""What a caller sets after the block: what follows it must still follow it."""


@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("name", SET)
def test_switches_are_exact_within_and_as_they_were_after(
    name: str, cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float32, "_has_cuda", lambda: cuda)

    def after(block: bool, later: tuple[str, ...]) -> list[list[Any]]:
        fresh()
        SET[name]()
        if block:
            with float32_products():
                check_exact(cuda)
        found = [readings()]
        put(*later)
        return [*found, readings()]

    for later in LATER:
        assert after(True, later) == after(False, later), later


def check_exact(cuda: bool) -> None:
    said = dict(zip(NEWER, readings(), strict=False))
    for backend in ("cuda", "mkldnn") if cuda else ("mkldnn",):
        for operation in OPERATIONS[1:]:
            assert said[backend, operation] in ("ieee", "none")
    # Foreign code may ask: both generations agree.
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cuda.matmul.allow_tf32 is False
    if cuda:
        assert torch.backends.cudnn.allow_tf32 is False


def test_switches_come_back_after_an_error_and_from_blocks_within_blocks() -> None:
    torch.set_float32_matmul_precision("medium")
    before = readings()
    with pytest.raises(ValueError, match="foreign"), float32_products():
        with float32_products():
            pass
        check_exact(cuda=False)
        raise ValueError("foreign")
    assert readings() == before


def test_cudnn_is_left_alone_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it follows as long as nobody has set it, nothing can set again."""
    monkeypatch.setattr(float32, "_has_cuda", lambda: False)
    torch.set_float32_matmul_precision("high")
    touched = recorded(monkeypatch, "_set_fp32_precision_setter")
    cudnn = torch.backends.cudnn.allow_tf32
    with float32_products():
        pass
    assert touched and torch.backends.cudnn.allow_tf32 == cudnn
    assert not [call for call in touched if call[:2] in (("cuda", "conv"), ("cuda", "rnn"))]


def test_cudnn_comes_back_as_it_read_where_it_followed_nothing() -> None:
    """Set to follow, it would be exact from there on."""
    switch = float32._SWITCHES["cuda", "conv"]
    switch.give_back("none", "tf32")
    assert switch.value == "tf32"


def recorded(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    setter: Callable[..., None] = getattr(torch._C, name)

    def spy(*args: Any) -> None:
        calls.append(args)
        setter(*args)

    monkeypatch.setattr(torch._C, name, spy)
    return calls


def test_a_bf16_switch_changes_no_product() -> None:
    x, w = torch.rand(64, 256), torch.rand(256, 64)
    exact = x @ w
    put("bf16", "mkldnn", "matmul")
    with float32_products():
        assert torch.equal(x @ w, exact)
