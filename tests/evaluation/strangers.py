"""Networks in the styles that people write, for images (B, 3, 8, 8) and four classes."""

import copy
import sys
import threading
import warnings
from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from tests.harness import small_cnn

CLASSES = 4
Forward = Callable[[Any, Tensor], Any]
Answer = namedtuple("Answer", ["scores", "aux"])


class Stranger(nn.Module):
    """The small network, asked in a manner of its own: `how` is given the module and the images."""

    def __init__(self, how: Forward, **members: Any) -> None:
        super().__init__()
        self.net, self.how = small_cnn(CLASSES), how
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            for name, member in members.items():
                made = (
                    member() if callable(member) and not isinstance(member, nn.Module) else member
                )
                setattr(self, name, made)

    def forward(self, x: Tensor) -> Any:
        return self.how(self, x)


def net(how: Forward, **members: Any) -> Callable[[], nn.Module]:
    return lambda: Stranger(how, **members).eval()


def features(s: Any, x: Tensor) -> Tensor:
    """(B, 16, 4, 4) contiguous or not, as its input is."""
    for layer in list(s.net)[:7]:
        x = layer(x)
    return x


def linear(inputs: int = 192) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(inputs, CLASSES)


def row(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return nn.Sequential(*(layer() for layer in layers)).eval()

    return make


def changed(change: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    """The small network after `change`, which may return another."""

    def make() -> nn.Module:
        network = small_cnn(CLASSES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch: older ways of making networks
            made = change(network)
        return made if isinstance(made, nn.Module) and made is not network[0] else network

    return make


class Branching(nn.Module):
    """Its path depends on its input: nothing traces it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_cnn(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.view(x.size(0), 3, 8, 8)) if x.sum() > 0 else self.net(-x)  # type: ignore[no-any-return]


class Extra(Branching):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


class Proxy(nn.Module):
    """What it does not have, its network has."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_cnn(CLASSES)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Patches, a class token, one layer of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.layer(tokens)[:, 0])  # type: ignore[no-any-return]


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError("no way back")


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w + w.flip(-1)


def first_call(s: Any, x: Tensor) -> Tensor:
    f = features(s, x).flatten(1)
    if s.head is None:
        s.head = nn.Linear(f.shape[1], CLASSES)
    return s.head(f)  # type: ignore[no-any-return]


def last_answer(s: Any, x: Tensor) -> Tensor:
    """What it answered the last time."""
    z = s.net(x)
    before, s.before = s.before, z.detach()
    return z if before is None or before.shape != z.shape else before + 0 * z  # type: ignore[no-any-return]


def counts(s: Any, x: Tensor) -> Tensor:
    s.calls += 1
    return s.net(x)  # type: ignore[no-any-return]


def writes_data(s: Any, x: Tensor) -> Tensor:
    x.data = x.data - 0.4
    return s.net(x)  # type: ignore[no-any-return]


def no_grad_inside(s: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return s.net(x)  # type: ignore[no-any-return]


def locked(s: Any, x: Tensor) -> Tensor:
    with s.lock:
        return s.net(x)  # type: ignore[no-any-return]


def speaks(s: Any, x: Tensor) -> Tensor:
    print("forward", len(x))  # noqa: T201
    return s.net(x)  # type: ignore[no-any-return]


def looped(s: Any, x: Tensor) -> Tensor:
    for layer in s.layers:
        x = F.relu(layer(x)) + x
    return s.net(x)  # type: ignore[no-any-return]


def patch_attention(s: Any, x: Tensor) -> Tensor:
    patches = x.view(-1, 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 48)
    return s.head(s.attention(patches, patches, patches)[0].mean(1))  # type: ignore[no-any-return]


def by_checkpoint(s: Any, x: Tensor) -> Tensor:
    return s.net[7:](checkpoint(lambda y: features(s, y), x, use_reentrant=False))  # type: ignore[no-any-return]


def frozen_parts(network: nn.Module) -> None:
    network[0].requires_grad_(False)  # type: ignore[index]


def hooked(network: nn.Module) -> None:
    network[2].register_forward_hook(lambda module, x, y: y.clamp(max=0.5))  # type: ignore[index]
    network[0].register_full_backward_hook(lambda *_: None)  # type: ignore[index]


def quantised(network: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)


def traced(network: nn.Module) -> nn.Module:
    return torch.jit.trace(network, torch.rand(2, 3, 8, 8))  # type: ignore[no-any-return]


def exported(network: nn.Module) -> nn.Module:
    return torch.export.export(network, (torch.rand(16, 3, 8, 8),)).module()


class WithoutModes(Branching):
    """As what torch.export makes: it cannot be put in another mode."""

    def train(self, mode: bool = True) -> nn.Module:
        raise NotImplementedError("Calling train() is not supported yet.")


class Half(nn.Module):
    """float32 outside, fewer bits inside."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.head = dtype, nn.Linear(192, CLASSES).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1).to(self.dtype)).float()  # type: ignore[no-any-return]


RUN: dict[str, Callable[[], nn.Module]] = {
    "view of features": net(lambda s, x: s.net[8](features(s, x).view(-1, 256))),
    "view by size": net(lambda s, x: s.net[8](features(s, x).view(x.size(0), -1))),
    "view of the input": net(lambda s, x: s.head(x.view(x.size(0), -1)), head=linear()),
    "untraced view": Branching,
    "tuple": net(lambda s, x: (s.net(x), features(s, x))),
    "list, features first": net(lambda s, x: [features(s, x), s.net(x)]),
    "dict": net(lambda s, x: {"features": features(s, x), "logits": s.net(x)}),
    "dict, another name": net(lambda s, x: {"out": s.net(x)}),
    "namedtuple": net(lambda s, x: Answer(s.net(x), s.net(x) / 2)),
    "object": net(lambda s, x: SimpleNamespace(logits=s.net(x), loss=None)),
    "auxiliary heads": net(lambda s, x: (s.net(x), (s.net(x), features(s, x)))),
    "bf16 inside": row(lambda: Half(torch.bfloat16)),
    "half inside": row(lambda: Half(torch.float16)),
    "half outputs": net(lambda s, x: s.net(x).half()),
    "float64 inside": net(lambda s, x: s.net(x).double()),
    "extra state": lambda: Extra().eval(),
    "scripted": changed(torch.jit.script),
    "traced": changed(traced),
    "frozen TorchScript": changed(lambda n: torch.jit.freeze(torch.jit.script(n))),
    "TorchScript inside": net(lambda s, x: s.inner(x), inner=changed(torch.jit.script)),
    "without modes": WithoutModes,
    "data parallel": changed(nn.DataParallel),
    "frozen parts": changed(frozen_parts),
    "hooks": changed(hooked),
    "lazy": row(nn.Flatten, lambda: nn.LazyLinear(CLASSES)),
    "layers made at the first call": net(first_call, head=None),
    "transformer": row(Transformer),
    "attention on patches": net(
        patch_attention,
        attention=lambda: nn.MultiheadAttention(48, 2, batch_first=True),
        head=linear(48),
    ),
    "in-place ReLU on the input": net(lambda s, x: s.net(s.relu(x)), relu=nn.ReLU(inplace=True)),
    "subtracts in place": net(lambda s, x: s.net(x.sub_(0.4))),
    "writes .data": net(writes_data),
    "counts": net(counts, calls=0),
    "no parameters": row(lambda: nn.AvgPool2d(4), nn.Flatten, lambda: nn.AvgPool1d(3)),
    "spectral norm": row(
        lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.Flatten, linear(144)
    ),
    "spectral norm, older": row(
        lambda: nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)), nn.Flatten, linear(144)
    ),
    "weight norm": row(
        lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Flatten, linear(144)
    ),
    "parametrised": changed(
        lambda n: parametrize.register_parametrization(n[0], "weight", Symmetric())  # type: ignore[index]
    ),
    "pruned": changed(lambda n: prune.l1_unstructured(n[0], "weight", amount=0.3)),  # type: ignore[index]
    "checkpointed": net(by_checkpoint),
    "channels-last weights": changed(lambda n: n.to(memory_format=torch.channels_last)),
    "SyncBatchNorm": changed(nn.SyncBatchNorm.convert_sync_batchnorm),
    "instance norm": row(
        lambda: nn.Conv2d(3, 4, 3), lambda: nn.InstanceNorm2d(4), nn.Flatten, linear(144)
    ),
    "einsum": net(
        lambda s, x: torch.einsum("bchw,kchw->bk", x, s.w),
        w=lambda: nn.Parameter(torch.randn(CLASSES, 3, 8, 8)),
    ),
    "module list in a loop": net(
        looped, layers=lambda: nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
    ),
    "shared submodule": net(
        lambda s, x: s.net(s.twice(s.twice(x))), twice=lambda: nn.Conv2d(3, 3, 3, padding=1)
    ),
    "forwards attributes": lambda: Proxy().eval(),
    "cannot be copied": net(locked, lock=threading.Lock),
    "prints": net(speaks),
    "bound to sixteen images": net(lambda s, x: s.net(x.reshape(16, 3, 8, 8))),
}
"""Those that run under every attack."""

RUN_SLOWLY = {
    "exported": changed(exported),
    "compiled": changed(lambda n: torch.compile(n, backend="eager")),
}
"""Those that load PyTorch's compiler, which takes seconds."""

FLAGGED = {
    "half outputs": (RUN["half outputs"], "half_outputs"),
    "batch statistics": (
        net(lambda s, x: s.net(x - x.mean((0, 2, 3), keepdim=True))),
        "batch_statistics",
    ),
    "noise": (net(lambda s, x: s.net(x + 0.05 * torch.randn_like(x))), "randomised"),
    "last answer": (net(last_answer, before=None), "stateful"),
}
"""Those that run, and the flag that says what must be known."""

NO_GRADIENT = {
    "quantised": changed(quantised),
    "detached": net(lambda s, x: s.net(x.detach())),
    "no_grad inside": net(no_grad_inside),
    "one of the classes": net(lambda s, x: F.one_hot(s.net(x).argmax(1), CLASSES).float()),
    "numpy inside": net(lambda s, x: torch.from_numpy(s.net(x).detach().numpy() * 2)),
    "numpy that takes no gradient": net(lambda s, x: torch.from_numpy(s.net(x).numpy())),
    "backward raises": net(lambda s, x: s.net(NoWayBack.apply(x))),
}
"""Those whose logits have no gradient."""


def recursive(s: Any, x: Tensor) -> Tensor:
    return recursive(s, x)


REFUSED = {
    "one logit": (net(lambda s, x: s.net(x)[:, :1]), "stack"),
    "one logit, flat": (net(lambda s, x: s.net(x)[:, 0]), "stack"),
    "float64 weights": (changed(lambda n: n.double()), "give model.float()"),
    "half weights": (changed(lambda n: n.half()), "give model.float()"),
    "no data": (changed(lambda n: copy.deepcopy(n).to("meta")), "no data"),
    "integers": (net(lambda s, x: s.net(x).argmax(1)), "floating-point"),
    "feature map": (net(features), "classes"),
    "other number of classes": (net(lambda s, x: s.net(x).repeat(1, 2)), r"expected \(8, 4\)"),
    "another size": (row(nn.Flatten, linear(3072)), "two images of 3x8x8"),
    "exits": (net(lambda s, x: sys.exit(7)), "SystemExit: 7"),
    "recursion": (net(recursive), "RecursionError"),
    "a label is needed": (net(lambda s, x: s.net(x, s.y)), "has no attribute 'y'"),
    "not a number": (net(lambda s, x: s.net(x) * float("nan")), "not finite"),
    "long complaint": (net(lambda s, x: int("x" * 4000)), "invalid literal"),
}
"""Those that cannot be used, and what is said."""
