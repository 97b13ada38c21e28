"""AutoAttack by its authors' code and by ours on one network and its images; parts are kept."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from benchmarks.tf32 import pinned
from robench import ThreatModel, evaluate
from robench.attacks.adapters.reference import adapt
from robench.core.files import atomic_write
from robench.core.names import parse_call
from robench.core.record import Component
from robench.data.evalset import EvalSet
from robench.defenses.defense import Defense
from robench.evaluation.judge import Judge

# attacks.md 8.1: passes of the authors' code on an image that nothing breaks.
MODEL_FORWARD, MODEL_BACKWARD = 7857, 1910
JUDGE_ROWS = 16
BATCH_SIZES = {"cpu": (32, 50, 100), "cuda": (100, 250, 500)}


class Side(msgspec.Struct, kw_only=True):
    """What one contestant says of some images, and what it took."""

    ids: list[int]
    robust: list[bool]
    margin: list[float | None]
    """Label logit minus the largest other one in float32: ours on the candidate that was judged
    last or broke the image, theirs on the returned candidate, which is the clean image where they
    found none. None where it is not finite."""
    seconds: float
    set_up: float = 0.0
    """Ours: seconds beside those of the search, spent once per call: checks, the search copy."""
    forward: int
    """Rows that went forward through the network, verification included."""
    backward: int
    unconfirmed: int = 0
    """Theirs: images that it counts as broken and our float32 judge does not."""
    components: list[Component] = []
    precision: str = "fp32"
    device_kind: str = ""
    search_model: str = ""
    hardware: dict[str, str] = {}
    versions: dict[str, str] = {}


class CountingNetwork(nn.Module):
    """A network that counts the rows of its forward and backward passes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.forward_rows, self.backward_rows = network, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        self.forward_rows += len(x)
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def _count(self, seed: Tensor) -> None:
        self.backward_rows += len(seed)


@dataclass(frozen=True)
class Contest:
    """Two contestants on one network and one threat; every finished part is a file in `keep`.

    images: all of them. attack: ours by name. reference: the authors' by the name after
    `reference:`. batch_size, tf32: of the reference. Delete a file to have its part measured again.
    """

    defense: Defense
    images: EvalSet
    threat: ThreatModel
    device: torch.device
    precision: str
    attack: str
    reference: str
    batch_size: int
    keep: Path
    tf32: bool = False
    network: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", self.defense.model.to(self.device).eval())

    def theirs(self, name: str, ids: Sequence[int], seed: int) -> Side:
        """The reference on the images `ids`, from `keep` where it is there."""
        return kept(self.keep / f"{name}-reference.json", ids, lambda: self._theirs(ids, seed))

    def ours(self, name: str, ids: Sequence[int], seed: int, attack: str = "") -> Side:
        """Ours (or another of our attacks) on the images `ids`, from `keep` where it is there."""
        path = self.keep / f"{name}-ours-{self.precision}.json"
        return kept(path, ids, lambda: self._ours(ids, seed, attack or self.attack))

    def _theirs(self, ids: Sequence[int], seed: int) -> Side:
        """As its documentation runs it, TF32 aside; judged outside the clock."""
        x, y = tensors(self.images.select(ids), self.device)
        network = CountingNetwork(self.network)
        search = adapt(*parse_call(self.reference))
        suite = search.suite(network, self.threat, seed, self.images.num_classes, self.device)
        judge = Judge(self.network, self.threat, JUDGE_ROWS)
        clean = judge.logits(x).argmax(dim=1) == y  # and a GPU's kernels are warm
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), pinned(self.device, self.tf32):
            started = time.perf_counter()
            candidates, predictions = suite.run_standard_evaluation(
                x, y, batch_size=self.batch_size
            )
            wait(self.device)
            seconds = time.perf_counter() - started
        robust = predictions == y
        judgement = judge.verify(x, candidates.detach(), y)
        return Side(
            ids=list(ids),
            robust=robust.tolist(),
            margin=judgement.margin.tolist(),
            seconds=seconds,
            forward=network.forward_rows,
            backward=network.backward_rows,
            unconfirmed=int((~robust & clean & ~judgement.broken).sum()),
        )

    def _ours(self, ids: Sequence[int], seed: int, attack: str) -> Side:
        """The whole of `robench eval` in this process, record on disk included."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            result = evaluate(
                self.network,
                attack,
                dataset=self.images.select(ids),
                norm=self.threat.norm,
                eps=self.threat.eps,
                precision=self.precision,
                device=str(self.device),
                seed=seed,
                out=Path(folder),
            )
        whole = time.perf_counter() - started
        if not result.records:
            raise RuntimeError(f"{attack}: {result.rows[0].reason}")
        (record,) = result.records
        by_id = {verdict.id: verdict for verdict in record.verdicts}
        verdicts = [by_id[i] for i in ids]
        return Side(
            ids=list(ids),
            robust=[v.survived for v in verdicts],
            margin=[v.margin for v in verdicts],
            seconds=record.cost.seconds,
            set_up=whole - record.cost.seconds,
            forward=sum(v.forward_passes for v in verdicts),
            backward=sum(v.backward_passes for v in verdicts),
            components=record.components,
            precision=record.precision,
            device_kind=record.device_kind,
            search_model=record.search_model,
            hardware=record.hardware,
            versions=record.versions,
        )


def kept(path: Path, ids: Sequence[int], run: Callable[[], Side]) -> Side:
    """The side in the file, or that of `run`, then kept there. Other images: run again."""
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Side)
        if found.ids == list(ids):
            return found
    atomic_write(path, msgspec.json.encode(run()))
    return msgspec.json.decode(path.read_bytes(), type=Side)


def check_settings(keep: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder whose parts were measured with other settings."""
    path = keep / "settings.json"
    if path.exists():
        before = msgspec.json.decode(path.read_bytes())
        apart = sorted(k for k, v in settings.items() if before.get(k) != v)
        if apart:
            said = ", ".join(f"{k} {before.get(k)} there, {settings[k]} here" for k in apart)
            raise SystemExit(f"{keep} holds another benchmark ({said}): give another --keep")
        return
    atomic_write(path, msgspec.json.encode(settings))


def best_batch(
    keep: Path, network: nn.Module, images: EvalSet, device: torch.device, most: int
) -> int:
    """The reference's fastest batch size of those up to `most`, in the shares of its passes.

    Measured once per folder: the least of three times per image, most of them forward only.
    """
    path = keep / "batch.json"
    if path.exists():
        return int(msgspec.json.decode(path.read_bytes())["batch_size"])
    sizes = sorted({min(size, most, len(images)) for size in BATCH_SIZES[device.type]})
    x, y = tensors(images.first(max(sizes)), device)
    per_image = {size: _cost(network, x[:size], y[:size]) / size for size in sizes}
    best = min(per_image, key=lambda size: per_image[size])
    timed = {str(size): seconds for size, seconds in per_image.items()}
    atomic_write(path, msgspec.json.encode({"batch_size": best, "seconds_an_image": timed}))
    return best


def _cost(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Seconds of a batch under the cost model: gradients include their own forward pass."""

    def forward() -> None:
        with torch.no_grad():
            network(x)

    def gradient() -> None:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(nn.functional.cross_entropy(network(leaf), y), leaf)

    alone = MODEL_FORWARD - MODEL_BACKWARD
    return alone * _fastest(forward, x.device) + MODEL_BACKWARD * _fastest(gradient, x.device)


def _fastest(run: Callable[[], None], device: torch.device) -> float:
    times = []
    for _ in range(4):  # the first pays for allocation and kernel choice
        started = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def tensors(images: EvalSet, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels (N, C, H, W) float32 in [0, 1], and labels (N,)."""
    x = torch.from_numpy(images.images).to(device).float() / 255
    return x, torch.from_numpy(images.labels).to(device)


def wait(device: torch.device) -> None:
    """Until everything that was asked of a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
