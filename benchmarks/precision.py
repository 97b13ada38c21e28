"""Does the precision of the search change the number? bf16 against float32, and both against peers.

PGD_sat (20 steps of 2/255, uniform start, rule `last`) on the first n CIFAR-10 test images: five
float32 seeds, the bf16 search at the first seed and four more, foolbox and torchattacks once each.
The bar: |bf16 - float32| at most max(range of the float32 seeds, 0.3 points), McNemar p above 0.05.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.pgd import foolbox_pgd, run_peer, torchattacks_pgd
from robench import evaluate
from robench.core.record import Record
from robench.core.statistics import mcnemar
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense

PEER_BATCH = 64


def record(name: str, n: int, precision: str, seed: int) -> Record:
    """One measurement, its record kept nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        result = evaluate(
            name,
            "pgd_sat",
            dataset="cifar10",
            n=n,
            precision=precision,
            seed=seed,
            out=Path(folder),
        )
    return result.records[0]


def main(
    defense: Annotated[str, typer.Option()] = "fast-at-resnet18-w32",
    n: Annotated[int, typer.Option(help="First n CIFAR-10 test images.")] = 1000,
    seeds: Annotated[int, typer.Option()] = 5,
) -> None:
    """Print robust accuracies, their range, and the paired test."""
    figures: dict[str, list[Record]] = {
        precision: [record(defense, n, precision, seed) for seed in range(seeds)]
        for precision in ("fp32", "bf16")
    }
    accuracies = {
        precision: [100 * r.summary().robust_accuracy for r in records]
        for precision, records in figures.items()
    }
    for precision, values in accuracies.items():
        listed = " ".join(f"{value:.1f}" for value in values)
        typer.echo(f"{precision}: {listed}  range {max(values) - min(values):.1f} points")
    exact, low = figures["fp32"][0], figures["bf16"][0]
    test = mcnemar(exact.verdicts.survived, low.verdicts.survived)
    difference = accuracies["bf16"][0] - accuracies["fp32"][0]
    typer.echo(
        f"seed 0: difference {difference:+.1f} points, robust only "
        f"in float32 {test.only_first}, only in bf16 {test.only_second}, McNemar p {test.p:.2f}"
    )
    model = load_defense(defense).model
    images = load_evalset("cifar10").first(n)
    x, y = torch.from_numpy(images.images).float() / 255, torch.from_numpy(images.labels)
    for peer, make in (("foolbox", foolbox_pgd), ("torchattacks", torchattacks_pgd)):
        survived = run_peer(make, model, x, y, PEER_BATCH).survived
        test = mcnemar(exact.verdicts.survived, survived.tolist())
        typer.echo(
            f"{peer}: {100 * survived.float().mean():.1f}  against float32 seed 0: "
            f"{test.only_first} / {test.only_second} discordant, McNemar p {test.p:.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
