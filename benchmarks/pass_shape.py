"""Which fixed pass shape? Milliseconds per image of gradient and judge passes, by rows.

The constants of `robench.models.passes.pass_shape` rest on this. Shapes alternate, medians count.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from robench.defenses.reference import load_defense
from robench.models.passes import exact_float32, hardware, resolve_device
from robench.models.prepare import SearchModel, prepare
from robench.models.view import ModelView, forward_padded
from robench.numerics.losses import cross_entropy

ROWS = (8, 16, 32, 48, 64, 96)
IMAGES = 192  # a whole number of passes of each shape


def main(
    defense: Annotated[list[str] | None, typer.Option()] = None,
    rounds: Annotated[int, typer.Option()] = 9,
    device: Annotated[str, typer.Option()] = "auto",
) -> None:
    """Print one line per defense and kind of pass."""
    where = resolve_device(device)
    typer.echo(", ".join(f"{k} {v}" for k, v in hardware(where).items()))
    for name in defense or ["fast-at-resnet18-w32", "natural-resnet18"]:
        measure(name, rounds, where)


def measure(name: str, rounds: int, device: torch.device) -> None:
    """Medians over rounds in which every shape has its turn."""
    model = load_defense(name).model.to(device)
    images = torch.rand(IMAGES, 3, 32, 32, device=device)
    labels = torch.zeros(IMAGES, dtype=torch.long, device=device)
    ids = torch.arange(IMAGES, device=device)
    kinds: dict[str, Callable[[int], object]] = {}
    clean = torch.zeros(IMAGES, 10, device=device)

    def seen(copy: SearchModel, rows: int) -> ModelView:
        return ModelView(copy, model, rows, ids, clean, lambda *_: None, {})

    for precision in ("bf16", "fp32"):
        copy = prepare(model, images[:16], precision)

        def gradient(rows: int, copy: SearchModel = copy) -> object:
            return seen(copy, rows).loss_gradient(cross_entropy, images, labels, ids)

        def forward(rows: int, copy: SearchModel = copy) -> object:
            return seen(copy, rows).logits(images, ids)

        kinds[f"forward {precision}"] = forward
        kinds[f"gradient {precision}"] = gradient
    kinds["judge"] = lambda rows: forward_padded(model, images, rows)
    times: dict[tuple[str, int], list[float]] = {}
    with exact_float32():
        for _ in range(rounds):
            for kind, run in kinds.items():
                for rows in ROWS:
                    started = time.perf_counter()
                    run(rows)
                    if device.type == "cuda":
                        torch.cuda.synchronize()
                    seconds = time.perf_counter() - started
                    times.setdefault((kind, rows), []).append(1e3 * seconds / IMAGES)
    for kind in kinds:
        shown = "  ".join(f"{r}: {statistics.median(times[kind, r]):.2f}" for r in ROWS)
        typer.echo(f"{name:22} {kind:14} ms/image  {shown}")


if __name__ == "__main__":
    typer.run(main)
