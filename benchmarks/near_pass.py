"""What does Square gain from computing only what a window can have changed? Per architecture.

Milliseconds of a pass on one thread, whole and near a point, and the largest difference of their
logits. Weights are drawn: neither time depends on them.
"""

from typing import Annotated

import torch
import typer
from torch import fx

from benchmarks.pass_bound import median
from robench.models.build import build
from robench.models.near import Surroundings, plan_near
from robench.models.normalize import normalized, parse_normalization
from robench.models.passes import exact_float32, hardware, pass_shape
from robench.models.prepare import prepare

SIZE = 32


def main(
    arch: Annotated[list[str] | None, typer.Option(help="Of `robench list architectures`.")] = None,
    width: Annotated[int, typer.Option(help="Of all.")] = 64,
    normalize: Annotated[str, typer.Option(help="As in `robench eval`.")] = "none",
    side: Annotated[list[int] | None, typer.Option(help="Pixels along a window.")] = None,
) -> None:
    """One line for each architecture, precision and side of the window."""
    torch.set_num_threads(1)
    typer.echo(", ".join(f"{k} {v}" for k, v in hardware(torch.device("cpu")).items()))
    with exact_float32(), torch.no_grad():
        for name in arch or ["resnet18", "preactresnet18"]:
            network = normalized(build(name, 10, width), parse_normalization(normalize)).eval()
            for precision in ("fp32", "bf16"):
                copy = prepare(network, torch.rand(16, 3, SIZE, SIZE), precision)
                assert isinstance(copy.forward, fx.GraphModule), f"{name} cannot be traced"
                for pixels in side or [3, 5, 7]:
                    found = compare(copy.forward, pixels)
                    typer.echo(f"{name} {width} {copy.precision}, window {pixels}: {found}")


def compare(copy: fx.GraphModule, side: int) -> str:
    """Both passes over the same proposals, windows all over the images."""
    rows = torch.arange(pass_shape(torch.device("cpu"), 3 * SIZE**2).search)
    x = torch.rand(len(rows), 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    corners = torch.randint(SIZE - side + 1, (len(rows), 2))
    plan = plan_near(copy, x[:1], side)
    if plan is None:
        return f"runs whole, {median(lambda: copy(x)):.1f} ms"
    z = x.clone()
    for image, (down, across) in zip(z, corners.tolist(), strict=True):
        image[:, down : down + side, across : across + side] = torch.rand(3, side, side)
    around = Surroundings(copy, plan, len(rows))
    around.hold(rows, x)
    apart = (around.logits(rows, z, corners).logits - copy(z).float()).abs().max().item()
    whole, near = median(lambda: copy(z)), median(lambda: around.logits(rows, z, corners))
    return f"{whole:.1f} -> {near:.1f} ms, {whole / near:.2f}x, logits {apart:.1g} apart"


if __name__ == "__main__":
    typer.run(main)
