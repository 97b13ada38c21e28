"""PGD-20 against foolbox LinfPGD and torchattacks PGD: time ratio and verdict difference.

Same model, images, eps, step size and steps; each peer at its best batch size (measured first);
rounds alternate, medians are compared. Ours is the whole measurement: clean and verification
passes, judging and the record. `make bench`, or `python -m benchmarks.pgd --help`.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from benchmarks.tf32 import HELP, pinned
from robench import evaluate
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense
from robench.models.passes import device_kind, hardware, resolve_device

EPS, STEP_SIZE, STEPS = 8 / 255, 2 / 255, 20
BATCH_SIZES = {"cpu": (32, 64, 128), "cuda": (256, 512, 1024)}


@dataclass(frozen=True)
class Timed:
    """Seconds, and robust verdicts (N,) under the rule "last iterate, clean-wrong is broken".

    set_up: seconds before the first image: loading, checks of the defense, the search copy.
    """

    seconds: float
    survived: Tensor
    set_up: float = 0.0


def foolbox_pgd(model: nn.Module, batch: int, device: torch.device) -> Callable[..., Tensor]:
    """Candidates of foolbox's LinfPGD, as its documentation runs it."""
    import os

    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
    search = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=True)
    return lambda x, y: search(wrapped, x, y, epsilons=EPS)[1]


def torchattacks_pgd(model: nn.Module, batch: int, device: torch.device) -> Callable[..., Tensor]:
    """Candidates of torchattacks' PGD, as its documentation runs it."""
    import torchattacks

    search = torchattacks.PGD(model, eps=EPS, alpha=STEP_SIZE, steps=STEPS, random_start=True)
    return lambda x, y: search(x, y)


def run_peer(
    make: Callable[..., Callable[..., Tensor]], model: nn.Module, x: Tensor, y: Tensor, batch: int
) -> Timed:
    """The peer over all images; its verdicts are counted afterwards, outside the clock."""
    search = make(model, batch, x.device)
    started = time.perf_counter()
    candidates = torch.cat(
        [search(x[i : i + batch], y[i : i + batch]).detach() for i in range(0, len(x), batch)]
    )
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    with torch.no_grad():
        right = [
            (model(z[i : i + 64]).argmax(1) == y[i : i + 64])
            for z in (x, candidates)
            for i in range(0, len(x), 64)
        ]
    clean, robust = torch.cat(right).reshape(2, -1)
    return Timed(seconds, (clean & robust).cpu())


def run_ours(name: str, n: int, precision: str, stop: str, device: str) -> Timed:
    """The whole of `robench eval` in this process, records on disk included."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = evaluate(
            name,
            f"pgd_sat[steps={STEPS}]",
            dataset="cifar10",
            n=n,
            eps=EPS,
            precision=precision,
            stop=stop,
            device=device,
            out=Path(folder),
        )
    whole = time.perf_counter() - started
    seconds = result.records[0].cost.seconds
    return Timed(seconds, torch.tensor(result.records[0].verdicts.survived), whole - seconds)


def best_batch(
    make: Callable[..., Callable[..., Tensor]], model: nn.Module, x: Tensor, y: Tensor
) -> int:
    """The batch size at which the peer is fastest per image, on one batch of the largest size."""
    sizes = BATCH_SIZES[x.device.type]
    part = slice(0, max(sizes))
    times = {size: run_peer(make, model, x[part], y[part], size).seconds for size in sizes}
    return min(times, key=lambda size: times[size])


def main(
    defense: Annotated[
        list[str] | None, typer.Option(help="Default: a robust and a natural network.")
    ] = None,
    n: Annotated[int, typer.Option(help="First n CIFAR-10 test images.")] = 512,
    rounds: Annotated[int, typer.Option(help="Alternating rounds; medians are printed.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    peer_batch: Annotated[
        int | None, typer.Option(help="Of both peers, where it is known; default measured.")
    ] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help=HELP)] = False,
) -> None:
    """Print seconds, ratios to the faster peer, and robust accuracies."""
    where = resolve_device(device)
    facts = ", ".join(f"{k} {v}" for k, v in hardware(where).items())
    typer.echo(f"{facts}; {device_kind(where, 'auto')}; n {n}, {STEPS} steps, {rounds} rounds")
    with pinned(where, tf32) as said:
        typer.echo(said)
        for name in defense or ["fast-at-resnet18-w32", "natural-resnet18"]:
            compare(name, n, rounds, where, peer_batch)


def compare(name: str, n: int, rounds: int, where: torch.device, peer_batch: int | None) -> None:
    """One defense: peers and our three settings, alternating."""
    model = load_defense(name).model.to(where)
    images = load_evalset("cifar10").first(n)
    x = torch.from_numpy(images.images).to(where).float() / 255
    y = torch.from_numpy(images.labels).to(where)
    peers = {"foolbox": foolbox_pgd, "torchattacks": torchattacks_pgd}
    batches = {peer: peer_batch or best_batch(make, model, x, y) for peer, make in peers.items()}
    runs: dict[str, list[Timed]] = {}
    for _ in range(rounds):
        for peer, make in peers.items():
            runs.setdefault(f"{peer} (batch {batches[peer]})", []).append(
                run_peer(make, model, x, y, batches[peer])
            )
        for precision, stop in (("auto", "any"), ("auto", "last"), ("fp32", "last")):
            label = f"robench {precision} {stop}"
            runs.setdefault(label, []).append(run_ours(name, n, precision, stop, str(where)))
    report(name, runs)


def report(name: str, runs: dict[str, list[Timed]]) -> None:
    """One line per contestant: median seconds, ratio to the faster peer, robust accuracy."""
    medians = {label: statistics.median(r.seconds for r in timed) for label, timed in runs.items()}
    fastest = min((m, label) for label, m in medians.items() if not label.startswith("robench"))[1]
    reference = runs[fastest][0].survived
    typer.echo(f"\n{name} (faster peer: {fastest})")
    for label, timed in runs.items():
        spread = f"{min(t.seconds for t in timed):.1f}-{max(t.seconds for t in timed):.1f}"
        robust = timed[0].survived
        ratio = medians[fastest] / medians[label]
        typer.echo(
            f"  {label:26} {medians[label]:7.1f} s ({spread})  {ratio:5.2f}x"
            f"  robust {robust.float().mean():.4f}"
            f"  only here {int((robust & ~reference).sum())},"
            f" only there {int((reference & ~robust).sum())}"
            + (f"  set-up {timed[0].set_up:.1f} s" if timed[0].set_up else "")
        )


if __name__ == "__main__":
    typer.run(main)
