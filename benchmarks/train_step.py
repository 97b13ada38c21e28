"""The released RSLAD training step against `robench train` with the same method: images per second.

Same student class, first weights, teachers, augmented images and threads in one process; rounds
alternate, medians are compared. Theirs is float32 in the faster of two memory formats and gets its
batches ready-made; ours augments inside the clock. The first steps are not timed: both sides take
them from the same starting noise, and their losses are printed beside the ratio. A gradient sign
that rounding flips parts even two float32 runs: by 1e-4 at 16 images, less with more.

"derived" is their step with a second teacher's forward pass, against our bmtard: two methods of
equal cost, so no losses and no bar. `make bench-train BENCH_OPTIONS="--peer RSLAD"`, or
`python -m benchmarks.train_step --help`.
"""

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from benchmarks import rslad_peer
from benchmarks.comparison import met
from benchmarks.contest import wait
from benchmarks.tf32 import HELP, pinned
from robench.data.class_names import class_order
from robench.data.evalset import EvalSet
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense
from robench.models.build import build
from robench.models.passes import (
    cpu_class,
    device_kind,
    exact_float32,
    hardware,
    resolve_device,
    resolve_precision,
)
from robench.numerics.random import BatchDraws
from robench.training import METHODS
from robench.training.engine import Trainer
from robench.training.images import TrainingImages
from robench.training.recipe import Recipe, Student, Teacher
from robench.training.student import new_network
from robench.training.teachers import load_teachers

BARS = {"avx512_bf16": 2.3, "amx_bf16": 3.0}
AIM = 5.0
AGREED = 2
"""Steps that are compared, not timed: the second one starts from weights that the first moved."""
EPOCH = 1
FORMATS = {"default": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Batch:
    """images: (B, 3, 32, 32) float32 in [0, 1]. noise: what they start from; None is their own."""

    rows: Tensor
    images: Tensor
    labels: Tensor
    noise: Tensor | None


@dataclass(frozen=True)
class Side:
    """A contestant. run: trains on a batch and gives its loss."""

    label: str
    run: Callable[[Batch], float]
    losses: list[float] = field(default_factory=list)
    """Of the first steps."""
    rates: list[float] = field(default_factory=list)
    """Images per second, a round each."""

    def warm_up(self, batches: Sequence[Batch]) -> None:
        """Take the first steps and keep their losses."""
        self.losses.extend(self.run(batch) for batch in batches)

    def time(self, batches: Sequence[Batch], device: torch.device) -> None:
        """Train on the batches and keep the rate."""
        started = time.perf_counter()
        for batch in batches:
            self.run(batch)
        wait(device)
        images = sum(len(batch.rows) for batch in batches)
        self.rates.append(images / (time.perf_counter() - started))

    @property
    def rate(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.rates)


@dataclass(frozen=True)
class Setting:
    """What both sides share."""

    peer: Path
    device: torch.device
    width: int
    teachers: dict[str, str]
    train: EvalSet
    batches: tuple[Batch, ...]

    @property
    def first(self) -> tuple[Batch, ...]:
        """The batches of the steps whose losses are compared."""
        return self.batches[:AGREED]

    @property
    def timed(self) -> tuple[Batch, ...]:
        """The batches of a round."""
        return self.batches[AGREED:]


def ours(setting: Setting, method: str, precision: str) -> Side:
    """The step of `robench train`, augmentation included; precision: auto, fp32 or bf16."""
    chosen = resolve_precision(precision, setting.device)
    recipe = our_recipe(setting, method)
    student = new_network(recipe, setting.train.num_classes).to(setting.device)
    teachers = load_teachers(
        recipe.teachers,
        setting.train,
        recipe.dataset,
        class_order(setting.train.class_names),
        setting.device,
        chosen,
    )
    kind = replace(METHODS.load(method), **recipe.parameters)
    images = TrainingImages.of(setting.train, setting.device)
    trainer = Trainer(recipe, student, kind, teachers, images, chosen)

    def run(batch: Batch) -> float:
        with exact_float32():  # as `robench train` runs it
            return trainer.step(batch.rows, EPOCH, 1)["loss"]

    return Side(f"robench {method} {chosen}", run)


def our_recipe(setting: Setting, method: str) -> Recipe:
    """The paper's recipe, but for the student's width and the teachers.

    kl_eps: as released, so that the losses are the same number; it changes no gradient.
    """
    plain = method == "rslad"
    roles = ("robust",) if plain else ("clean", "robust")
    return Recipe(
        method=method,
        dataset="cifar10",
        batch_size=len(setting.batches[0].rows),
        student=Student(arch="resnet18", width=setting.width),
        teachers={role: Teacher(ref=setting.teachers[role]) for role in roles},
        parameters={"kl_eps": 1e-5} if plain else {},
    )


def theirs(setting: Setting, name: str, *extra: rslad_peer.Change) -> Side:
    """The released step in the memory format of that name; extra: further changes."""
    code = rslad_peer.released(setting.peer, setting.device, *extra)
    own_class = setting.width == rslad_peer.WIDTH
    student = code.resnet18() if own_class else build("resnet18", 10, setting.width)
    first = new_network(our_recipe(setting, "rslad"), setting.train.num_classes)
    student.load_state_dict(first.state_dict())
    step = rslad_peer.PeerStep(
        code,
        student.to(setting.device),
        {"teacher": teacher(setting, "robust"), "clean_teacher": teacher(setting, "clean")},
        FORMATS[name],
    )

    def run(batch: Batch) -> float:
        images = batch.images.contiguous(memory_format=FORMATS[name])
        if batch.noise is None:
            return float(step(images, batch.labels))
        with rslad_peer.same_noise(batch.noise):
            return float(step(images, batch.labels))

    added = " + 2nd teacher" if extra else ""
    return Side(f"released, {name}{added}", run)


def teacher(setting: Setting, role: str) -> nn.Module:
    """A copy, because its memory format will be changed."""
    network = load_defense(setting.teachers[role]).model
    return copy.deepcopy(network).to(setting.device).eval()


def make_batches(
    train: EvalSet, size: int, steps: int, draws: BatchDraws, device: torch.device
) -> tuple[Batch, ...]:
    """The first images, in order, augmented as ours augments them in its first epoch."""
    pool = TrainingImages.of(train, device)
    batches = []
    for k in range(AGREED + steps):
        rows = torch.arange(k * size, (k + 1) * size, device=device)
        images, ids = pool.batch(rows, draws, augment=True), pool.ids[rows]
        noise = draws.normal(ids, images.shape[1:], purpose="start") if k < AGREED else None
        batches.append(Batch(rows, images, pool.labels[rows], noise))
    return tuple(batches)


def contest(sides: Sequence[Side], setting: Setting, rounds: int) -> None:
    """First steps of every side, then rounds in turn."""
    for side in sides:
        side.warm_up(setting.first)
    for _ in range(rounds):
        for side in sides:
            side.time(setting.timed, setting.device)


def measure(setting: Setting, rounds: int) -> None:
    """Both contests of one width, printed."""
    rivals = {name: theirs(setting, name) for name in FORMATS}
    mine, exact = ours(setting, "rslad", "auto"), ours(setting, "rslad", "fp32")
    contest([*rivals.values(), mine], setting, rounds)
    exact.warm_up(setting.first)
    fastest = max(rivals, key=lambda name: rivals[name].rate)
    report([*rivals.values(), mine, exact], rivals[fastest])
    report_bar(mine.rate / rivals[fastest].rate, setting.device)
    derived = theirs(setting, fastest, rslad_peer.SECOND_TEACHER)
    both = ours(setting, "bmtard", "auto")
    contest([derived, both], setting, rounds)
    typer.echo("  derived: the released step with a second teacher's forward pass; no bar")
    report([derived, both], derived, losses=False)


def report(sides: Sequence[Side], reference: Side, losses: bool = True) -> None:
    """One line a side: rate and its range, ratio to the reference, losses and their distance."""
    for side in sides:
        words = f"    {side.label:40}" + _rate(side, reference)
        if losses:
            pairs = zip(side.losses, reference.losses, strict=True)
            words += "  loss " + ", ".join(f"{own:.6f} ({own - r:+.1e})" for own, r in pairs)
        typer.echo(words)


def _rate(side: Side, reference: Side) -> str:
    if not side.rates:
        return f"{'not timed':>32}       "
    spread = f"({min(side.rates):.1f}-{max(side.rates):.1f})"
    return f"{side.rate:8.1f} images/s {spread:>15} {side.rate / reference.rate:5.2f}x"


def report_bar(ratio: float, device: torch.device) -> None:
    """The ratio against what is asked for on this device."""
    bar = BARS.get(cpu_class()) if device.type == "cpu" else None
    asked = "no bar here" if bar is None else f"bar {bar:g}x: {met(ratio >= bar)}, aim {AIM:g}x"
    typer.echo(f"  rslad {ratio:.2f}x the faster of theirs; {asked}")


def report_peer(folder: Path, device: torch.device) -> None:
    """What of theirs runs, and every line that is not as they wrote it."""
    typer.echo(f"released step: zibojia/RSLAD at {rslad_peer.revision(folder)}, float32, changed:")
    changes = rslad_peer.released(folder, device, rslad_peer.SECOND_TEACHER).changes
    for change in changes:
        typer.echo(f"  {change.file}{'' if change is not changes[-1] else ' (derived only)'}")
        typer.echo(f"    - {change.old}\n    + {change.new}")
    typer.echo(f"  not run: {rslad_peer.NOT_RUN}")


def widths(text: str) -> list[int]:
    """Of "16,64". Raises: typer.BadParameter for anything but numbers."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"--width {text!r}: expected numbers with commas, such as 16,64")
    return [int(part) for part in parts]


def main(
    peer: Annotated[
        Path, typer.Option(help="A checkout: git clone https://github.com/zibojia/RSLAD.")
    ],
    width: Annotated[str, typer.Option(help="Of the student ResNet-18, with commas.")] = "16,64",
    steps: Annotated[int, typer.Option(min=1, help="Training steps in a round.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Alternating; medians are printed.")] = 3,
    batch: Annotated[int, typer.Option(min=2, help="Images in a step.")] = 128,
    threads: Annotated[int | None, typer.Option(help="Of both; default PyTorch's.")] = None,
    robust: Annotated[str, typer.Option(help="Robust teacher.")] = "fast-at-resnet18-w32",
    clean: Annotated[str, typer.Option(help="Clean teacher, derived only.")] = "natural-resnet18",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tf32: Annotated[bool, typer.Option("--tf32", help=HELP)] = False,
) -> None:
    """Print images per second of both, their ratio, and how far their losses agree."""
    warnings.filterwarnings("ignore", "size_average and reduce", UserWarning)  # in their loss
    if threads:
        torch.set_num_threads(threads)
    where, teachers = resolve_device(device), {"robust": robust, "clean": clean}
    facts = ", ".join(f"{key} {value}" for key, value in hardware(where).items())
    typer.echo(f"{facts}; {device_kind(where, 'auto')}; teachers {robust}, derived {clean}")
    report_peer(peer, where)
    train = load_evalset("cifar10", "train").first((AGREED + steps) * batch)
    draws = BatchDraws(Recipe(method="rslad", dataset="cifar10").seed, EPOCH)
    batches = make_batches(train, batch, steps, draws, where)
    for size in widths(width):
        whose = "their own class there" if size == rslad_peer.WIDTH else "our class on both sides"
        typer.echo(f"\nresnet18 width {size} ({whose}), batch {batch}, {steps} x {rounds} steps")
        with pinned(where, tf32) as said:
            typer.echo(f"  {said}")
            measure(Setting(peer, where, size, teachers, train, batches), rounds)


if __name__ == "__main__":
    typer.run(main)
