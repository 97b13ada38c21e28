"""How much faster than the reference can AutoAttack be here? Passes there, here, and their floor.

Milliseconds per image: the network as PyTorch runs it, our search copy, and the convolutions of the
copy with nothing between them. A gradient pass multiplies twice what a forward pass does. Times
AutoAttack's passes on an image that nothing breaks they say what ratio is left at most.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from benchmarks.contest import MODEL_BACKWARD, MODEL_FORWARD
from robench.defenses.reference import load_defense
from robench.models.convolution import SearchConvolution
from robench.models.passes import (
    exact_float32,
    hardware,
    pass_shape,
    passes_at_once,
    reserved_for_passes,
    side_by_side,
)
from robench.models.prepare import SearchModel, prepare
from robench.models.view import ModelView
from robench.numerics.losses import cross_entropy, margin_of

CPU = torch.device("cpu")
ROUNDS = 15
REPEATS = 10
"""Of a convolution in one call, so that waking the threads does not count."""


def main(
    defense: Annotated[str, typer.Option(help="A defense that can be traced.")] = (
        "fast-at-resnet18-w32"
    ),
) -> None:
    """One line for the reference and one for each precision of ours. CPU only."""
    typer.echo(", ".join(f"{k} {v}" for k, v in hardware(CPU).items()))
    found = load_defense(defense)
    network = found.model.requires_grad_(False)
    settle_memory()
    rows = pass_shape(CPU, 3 * 32 * 32).search
    images = torch.rand(rows * passes_at_once(CPU), 3, 32, 32)
    with exact_float32():
        theirs = eager(network, images, rows)
        show("reference, float32", *theirs, theirs)
        for precision in ("fp32", "bf16"):
            copy = prepare(network, images[:16], precision)
            show(f"ours, {copy.precision}", *ours(copy, network, images, rows), theirs)
            floor = convolutions(copy, images, rows)
            show(f"convolutions, {copy.precision}", floor, 2 * floor, theirs)


def settle_memory() -> None:
    """Let freed memory stay with the process, as it does before long in a run of minutes.

    glibc gives blocks of a size back to the kernel until one of that size has been freed. Without
    this the first to be timed, the reference, would pay a quarter more for fresh pages than it does
    in a whole AutoAttack.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)  # below 32 MiB: larger blocks never stay


def show(what: str, forward: float, gradient: float, theirs: tuple[float, float]) -> None:
    """Both passes, and how many times the reference's time fits into AutoAttack's at this rate."""
    typer.echo(
        f"{what:22} forward {forward:.3f} ms, gradient {gradient:.3f} ms; AutoAttack"
        f" {whole(*theirs) / whole(forward, gradient):.2f}x"
    )


def whole(forward: float, gradient: float) -> float:
    """Milliseconds for an image that nothing breaks; a gradient pass holds a forward pass."""
    return (MODEL_FORWARD - MODEL_BACKWARD) * forward + MODEL_BACKWARD * gradient


def eager(network: nn.Module, images: Tensor, rows: int) -> tuple[float, float]:
    """The reference's passes: all threads on one at a time."""
    labels = torch.zeros(rows, dtype=torch.long)

    def forward() -> None:
        with torch.no_grad():
            network(images[:rows])

    def gradient() -> None:
        x = images[:rows].clone().requires_grad_()
        torch.autograd.grad(margin_of(network(x), labels).sum(), x)

    return median(forward) / rows, median(gradient) / rows


def ours(copy: SearchModel, network: nn.Module, images: Tensor, rows: int) -> tuple[float, float]:
    """As a search asks for them: as many side by side as there are threads."""
    ids, labels = torch.arange(len(images)), torch.zeros(len(images), dtype=torch.long)
    clean = torch.zeros(len(images), 10)
    view = ModelView(copy, network, rows, ids, clean, lambda *_: None, {})
    with reserved_for_passes():
        return (
            median(lambda: view.logits(images, ids)) / len(images),
            median(lambda: view.loss_gradient(cross_entropy, images, labels, ids)) / len(images),
        )


def convolutions(copy: SearchModel, images: Tensor, rows: int) -> float:
    """Each convolution of a forward pass again and again on its own input, all threads at once."""
    assert isinstance(copy.forward, nn.Module), "a traced copy"
    calls: list[tuple[SearchConvolution, tuple[Tensor, ...]]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, SearchConvolution)
        calls.append((module, inputs))

    layers = [m for m in copy.forward.modules() if isinstance(m, SearchConvolution)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    with torch.no_grad():
        copy.forward(images[:rows].contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    times = [median(lambda call=call: together(*call)) for call in calls]  # type: ignore[misc]
    return sum(times) / (REPEATS * len(images))


def together(layer: SearchConvolution, inputs: tuple[Tensor, ...]) -> None:
    """REPEATS passes through a layer in every thread."""

    def run(thread: int) -> None:
        with torch.no_grad():
            for _ in range(REPEATS):
                layer(*inputs)

    list(side_by_side(run, range(passes_at_once(CPU))))


def median(run: Callable[[], object]) -> float:
    """Milliseconds of a call, warmed up."""
    times = []
    for _ in range(ROUNDS + 2):
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[2:])


if __name__ == "__main__":
    typer.run(main)
