"""Gradient estimation against foolbox's estimator: time, queries and verdicts, over several seeds.

Both take the same sign steps of 0.01 from the clean image on the margin z_y - max_{j != y} z_j, by
as many steps of as many probes at sigma 8/255, in float32 on the CPU or one GPU. Foolbox:
`es_gradient_estimator(samples=probes, sigma, clip=False)` around `LinfBasicIterativeAttack(
abs_stepsize, steps, random_start=False)`, its `get_loss_fn` overridden by the margin (it would be
cross-entropy), and one image at a time: its loss is one sum over the batch, so that at more the
others are noise to each image. It is given images that are classified right, and never stops early.
Ours is `robench eval`: blocks of images, clean pass, judging and record included, and images leave
once they are broken. `python -m benchmarks.gradient_estimation --help`.

Robust by foolbox is counted twice: `last` as it says itself, `any` by all of its iterates, as ours.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from benchmarks.contest import JUDGE_ROWS, CountingNetwork, tensors, wait
from benchmarks.tf32 import HELP, pinned
from robench import ThreatModel, evaluate
from robench.data.evalset import EvalSet
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense
from robench.evaluation.judge import Judge
from robench.models.passes import device_kind, hardware, resolve_device
from robench.numerics.losses import margin_of

THREAT = ThreatModel("linf", 8 / 255)
STEP_SIZE, SIGMA = 0.01, 8 / 255


@dataclass(frozen=True)
class Side:
    """One contestant on one seed: robust (N,) bool by all iterates and by the last; its cost.

    queries: what it asked about iterates and probes, all images together.
    """

    robust: Tensor
    robust_last: Tensor
    seconds: float
    queries: int

    @property
    def milliseconds(self) -> float:
        """Per query."""
        return 1000 * self.seconds / max(self.queries, 1)


def foolbox_search(steps: int, probes: int) -> Any:
    """The attack as configured; `visited` is the largest loss of its iterates but the last one."""
    import os

    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import eagerpy
    import foolbox

    class OnMargin(foolbox.attacks.LinfBasicIterativeAttack):
        def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
            return lambda x: eagerpy.astensor(-margin_of(model(x).raw, labels.raw).sum())

    estimator = foolbox.gradient_estimators.es_gradient_estimator(
        OnMargin, samples=probes, sigma=SIGMA, bounds=(0, 1), clip=False
    )

    class Watched(estimator):  # type: ignore[misc, valid-type]
        visited = -float("inf")

        def value_and_grad(self, loss_fn: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
            value, gradient = super().value_and_grad(loss_fn, x)
            self.visited = max(self.visited, float(value.item()))
            return value, gradient

    return Watched(abs_stepsize=STEP_SIZE, steps=steps, random_start=False)


def run_foolbox(network: nn.Module, x: Tensor, y: Tensor, steps: int, probes: int) -> Side:
    """Image by image; the judge sees the last iterates afterwards, outside the clock."""
    import foolbox

    judge = Judge(network, THREAT, JUDGE_ROWS)
    right = judge.logits(x).argmax(dim=1) == y
    counting = CountingNetwork(network).eval()
    wrapped = foolbox.PyTorchModel(counting, bounds=(0, 1), device=x.device)
    any_hit, candidates = torch.zeros_like(right), x.clone()
    started = time.perf_counter()
    for place in right.nonzero()[:, 0].tolist():
        one = slice(place, place + 1)
        search = foolbox_search(steps, probes)
        candidates[one] = search(wrapped, x[one], y[one], epsilons=THREAT.eps)[1]
        any_hit[place] = search.visited > 0
    wait(x.device)
    seconds = time.perf_counter() - started
    last = right & ~judge.verify(x, candidates, y).broken
    return Side((last & ~any_hit).cpu(), last.cpu(), seconds, counting.forward_rows)


def run_ours(network: nn.Module, images: EvalSet, attack: str, seed: int, device: str) -> Side:
    """The whole of `robench eval` in this process but for its set-up, record on disk included."""
    with tempfile.TemporaryDirectory() as folder:
        result = evaluate(
            network,
            attack,
            dataset=images,
            eps=THREAT.eps,
            precision="fp32",
            device=device,
            seed=seed,
            out=Path(folder),
        )
    if not result.records:
        raise RuntimeError(f"{attack}: {result.rows[0].reason}")
    (record,) = result.records
    by_id = {verdict.id: verdict for verdict in record.verdicts}
    robust = torch.tensor([by_id[i].survived for i in images.ids.tolist()])
    queries = sum(verdict.queries or 0 for verdict in record.verdicts)
    return Side(robust, robust, record.cost.seconds, queries)


def main(
    defense: Annotated[str, typer.Option(help="Any defense reference.")] = "fast-at-resnet18-w32",
    dataset: Annotated[str, typer.Option(help="A data set that is there.")] = "cifar10-sample",
    n: Annotated[int, typer.Option(help="First n images.")] = 32,
    steps: Annotated[int, typer.Option(help="Of both.")] = 20,
    probes: Annotated[int, typer.Option(help="Queries of each step, of both; even.")] = 100,
    seeds: Annotated[int, typer.Option(help="Runs of each, in turn.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tf32: Annotated[bool, typer.Option("--tf32", help=HELP)] = False,
) -> None:
    """Print both sides of each seed, ratios of medians, and how far verdicts differ."""
    where = resolve_device(device)
    network, images = load_defense(defense).model.to(where).eval(), load_evalset(dataset).first(n)
    x, y = tensors(images, where)
    attack = f"gradient_estimation[schedule={steps}x{probes}]"
    facts = ", ".join(f"{key} {value}" for key, value in hardware(where).items())
    typer.echo(f"{facts}; {device_kind(where, 'fp32')}")
    typer.echo(f"{defense}, {dataset} n {len(y)}, linf eps 8/255, {steps} steps of {probes} probes")
    theirs, ours = [], []
    for seed in range(seeds):
        devices = [where] if where.type == "cuda" else []
        with torch.random.fork_rng(devices), pinned(where, tf32) as said:
            typer.echo(said)
            torch.manual_seed(seed)
            theirs.append(run_foolbox(network, x, y, steps, probes))
        report_side(f"seed {seed} foolbox", theirs[-1])
        ours.append(run_ours(network, images, attack, seed, str(where)))
        report_side(f"seed {seed} robench", ours[-1])
    report(theirs, ours)


def report_side(title: str, side: Side) -> None:
    """Time, queries and robust images of one run."""
    typer.echo(
        f"  {title:16} {side.seconds:8.1f} s  {side.queries:8} queries"
        f"  {side.milliseconds:7.3f} ms each"
        f"  robust {int(side.robust.sum())} (last {int(side.robust_last.sum())})"
    )


def report(theirs: list[Side], ours: list[Side]) -> None:
    """Ratios of medians; robust images by seed, and pairs of runs that differ on an image."""
    seconds, each = (
        statistics.median(getattr(side, name) for side in theirs)
        / statistics.median(getattr(side, name) for side in ours)
        for name in ("seconds", "milliseconds")
    )
    typer.echo(f"\n{seconds:.2f}x in time, {each:.2f}x in time per query")
    for title, sides in (("foolbox", theirs), ("robench", ours)):
        counts = [int(side.robust.sum()) for side in sides]
        typer.echo(
            f"  {title}: robust {counts}, mean {statistics.mean(counts):.1f};"
            f" images apart between its seeds {apart(sides, sides)}"
        )
    typer.echo(f"  images apart between the two, all pairs of seeds: {apart(theirs, ours)}")
    counts = [int((a.robust & ~b.robust).sum()) for a, b in zip(ours, theirs, strict=True)]
    others = [int((b.robust & ~a.robust).sum()) for a, b in zip(ours, theirs, strict=True)]
    typer.echo(f"  robust here only {counts}, there only {others}, seed by seed")


def apart(some: list[Side], others: list[Side]) -> list[int]:
    """On how many images two runs differ, for each pair of runs."""
    pairs = [
        (a, b)
        for i, a in enumerate(some)
        for j, b in enumerate(others)
        if some is not others or i < j
    ]
    return [int((a.robust != b.robust).sum()) for a, b in pairs]


if __name__ == "__main__":
    typer.run(main)
