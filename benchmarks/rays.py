"""RayS by its authors' batched code against ours: time ratio, verdicts, and radii under `compat`.

Same network and images in one process, float32; theirs at its best batch size (measured first);
rounds alternate, medians are compared. Theirs is the search alone. Ours is the whole measurement:
clean and verification passes, judging and the record; as an evaluation runs it (a hard budget, and
an image is done with its first verified hit), and with `compat`, which does what theirs does.

`compat` runs at eps 1, where every hit is a candidate, since eps does not steer it: its distances
are those of theirs, image by image, and its verdicts at eps follow from them.
`python -m benchmarks.rays --peer RAYS`, a checkout of uclaml/RayS; `--help` for more.
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from benchmarks.contest import tensors, wait
from benchmarks.rslad_peer import Change, revision
from benchmarks.tf32 import HELP, pinned
from robench import evaluate
from robench.core.threat import format_eps, parse_number
from robench.data.evalset import EvalSet
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense
from robench.models.passes import device_kind, hardware, resolve_device
from robench.models.view import forward_padded
from robench.numerics.projections import distance

SEARCH, WRAPPER = "RayS.py", "general_torch_model.py"
# It asks `stty` for the width of a terminal on import, and there may be none.
PROGRESS = Change(
    SEARCH, "from pgbar import progress_bar", "progress_bar = lambda *words: None  # noqa: E731"
)
BATCH_SIZES = {"cpu": (16, 32, 64, 128), "cuda": (128, 256, 512)}
JUDGE_ROWS = 16


@dataclass(frozen=True)
class Released:
    """The authors' search and their wrapper of a network, and what was changed to run them."""

    search: Callable[..., Any]
    wrapper: Callable[..., Any]
    changes: tuple[Change, ...]


def released(folder: Path, device: torch.device) -> Released:
    """From a checkout of uclaml/RayS. Raises: SystemExit where it is something else."""
    names: dict[str, Any] = {}
    changes: list[Change] = []
    for file in (SEARCH, WRAPPER):
        if not (folder / file).is_file():
            raise SystemExit(f"{folder} has no {file}: --peer takes a checkout of uclaml/RayS")
        lines = (folder / file).read_text(encoding="utf-8").splitlines()
        repaired = [_repaired(line, file, device) for line in lines]
        pairs = zip(lines, repaired, strict=True)
        changes += [Change(file, a.strip(), b.strip()) for a, b in pairs if a != b]
        # Not imported: that would leave bytecode in the user's checkout.
        exec(compile("\n".join(repaired), str(folder / file), "exec"), names)
    if PROGRESS not in changes:
        raise SystemExit(f"{folder / SEARCH} has no line {PROGRESS.old!r}: another version?")
    return Released(names["RayS"], names["GeneralTorchModel"], tuple(changes))


def _repaired(line: str, file: str, device: torch.device) -> str:
    if file == PROGRESS.file and line.strip() == PROGRESS.old:
        return PROGRESS.new
    return line.replace(".cuda()", "") if device.type == "cpu" else line


@dataclass(frozen=True)
class Run:
    """What one contestant says of N images, and its seconds.

    ways: (N,) float64 linf distance of the nearest hit; infinite where there is none within reach.
    queries: (N,). set_up: seconds of ours beside those of the search.
    """

    seconds: float
    ways: Tensor
    queries: Tensor
    set_up: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What both sides share."""

    code: Released
    network: nn.Module
    images: EvalSet
    device: torch.device
    queries: int
    eps: float
    title: str

    def theirs(self, batch: int, most: int | None = None) -> Run:
        """The authors' code on the first `most` images, `batch` at a time."""
        x, y = (part[:most] for part in tensors(self.images, self.device))
        wrapped = self.code.wrapper(self.network)
        found, asked = [], []
        started = time.perf_counter()
        for start in range(0, len(x), batch):
            search = self.code.search(wrapped, epsilon=self.eps)
            part = slice(start, start + batch)
            with contextlib.redirect_stdout(io.StringIO()):  # it says "out of queries"
                found.append(search(x[part], y[part], query_limit=self.queries)[0])
            asked.append(search.queries)
        wait(self.device)
        seconds = time.perf_counter() - started
        hit = torch.cat(found)
        ways = distance(hit.double() - x.double(), "linf")
        # Without a hit theirs is the white image.
        labels = forward_padded(self.network, hit, JUDGE_ROWS).argmax(dim=1)
        ways = torch.where((hit == 1).flatten(1).all(dim=1) & (labels == y), torch.inf, ways)
        return Run(seconds, ways.cpu(), torch.cat(asked).cpu())

    def ours(self, eps: float, *parameters: str) -> Run:
        """The whole of `robench eval` in this process, record on disk included."""
        text = ",".join([f"queries={self.queries}", *parameters])
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            result = evaluate(
                self.network,
                f"rays[{text}]",
                dataset=self.images,
                eps=eps,
                precision="fp32",
                device=str(self.device),
                out=Path(folder),
            )
        whole = time.perf_counter() - started
        if not result.records:
            raise SystemExit(f"rays[{text}]: {result.rows[0].reason}")
        (record,) = result.records
        by_id = {verdict.id: verdict for verdict in record.verdicts}
        verdicts = [by_id[i] for i in self.images.ids.tolist()]
        ways = [torch.inf if v.survived else v.distance for v in verdicts]
        return Run(
            record.cost.seconds,
            torch.tensor(ways, dtype=torch.float64),
            torch.tensor([v.queries for v in verdicts]),
            whole - record.cost.seconds,
        )

    def clean_correct(self) -> Tensor:
        """(N,) bool: the others are attacked by theirs only, and robust for neither."""
        x, y = tensors(self.images, self.device)
        return (forward_padded(self.network, x, JUDGE_ROWS).argmax(dim=1) == y).cpu()


def best_batch(setting: Setting) -> int:
    """Their batch size of the least time an image, on one batch of the largest size."""
    sizes = sorted({min(s, len(setting.images)) for s in BATCH_SIZES[setting.device.type]})
    times = {size: setting.theirs(size, max(sizes)).seconds for size in sizes}
    return min(times, key=lambda size: times[size])


def report(runs: dict[str, Sequence[Run]], correct: Tensor, eps: float) -> None:
    """One line a contestant: median seconds, ratio to theirs (the first), accuracy, queries."""
    medians = {name: statistics.median(run.seconds for run in of) for name, of in runs.items()}
    reference = next(iter(medians.values()))
    for name, of in runs.items():
        spread = f"{min(run.seconds for run in of):.1f}-{max(run.seconds for run in of):.1f}"
        robust = (correct & (of[0].ways > eps)).float().mean()
        typer.echo(
            f"  {name:28} {medians[name]:7.1f} s ({spread}) {reference / medians[name]:6.2f}x"
            f"  robust {robust:.4f}  queries {of[0].queries.float().mean():.1f} an image"
            + (f"  set-up {of[0].set_up:.1f} s" if of[0].set_up else "")
        )


def report_compat(theirs: Run, ours: Run, correct: Tensor, eps: float) -> None:
    """In how many images `compat` and theirs differ, and by how much at most."""
    there, here = theirs.ways[correct], ours.ways[correct]
    apart = torch.where(there == here, 0.0, (there - here).abs())
    counts = {
        "verdicts": (there > eps) != (here > eps),
        "radii": apart > 0,
        "queries": theirs.queries[correct] != ours.queries[correct],
    }
    said = ", ".join(f"{name} {int(mark.sum())}" for name, mark in counts.items())
    greatest = float(apart.max()) if len(apart) else 0.0
    typer.echo(
        f"  compat against theirs, images that differ of {len(apart)} classified right: {said};"
        f" greatest difference of a radius {greatest:.2g} (linf)"
    )


def main(
    peer: Annotated[
        Path, typer.Option(help="A checkout: git clone https://github.com/uclaml/RayS.")
    ],
    defense: Annotated[str, typer.Option(help="Any defense reference.")] = "fast-at-resnet18-w32",
    dataset: Annotated[str, typer.Option(help="A data set that is there.")] = "cifar10-sample",
    n: Annotated[int, typer.Option(min=1, help="First n images.")] = 500,
    queries: Annotated[int, typer.Option(min=1, help="Of an image.")] = 100,
    eps: Annotated[str, typer.Option(help="Linf radius, 8/255 or 0.031.")] = "8/255",
    rounds: Annotated[int, typer.Option(min=1, help="Alternating; medians are printed.")] = 3,
    peer_batch: Annotated[
        int | None, typer.Option(min=1, help="Of theirs, where it is known; default measured.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tf32: Annotated[bool, typer.Option("--tf32", help=HELP)] = False,
) -> None:
    """Print seconds, their ratio, accuracies, and how many images `compat` and theirs differ in."""
    where, radius = resolve_device(device), parse_number(eps)
    code = released(peer, where)
    facts = ", ".join(f"{key} {value}" for key, value in hardware(where).items())
    typer.echo(f"{facts}; {device_kind(where, 'fp32')}")
    typer.echo(f"theirs: uclaml/RayS at {revision(peer)}, lines changed to run here:")
    for change in code.changes:
        typer.echo(f"  {change.file}\n    - {change.old}\n    + {change.new}")
    network = load_defense(defense).model.to(where).eval()
    images = load_evalset(dataset).first(n)
    title = f"{defense}, {dataset}"
    setting = Setting(code, network, images, where, queries, radius, title)
    with pinned(where, tf32) as said:
        typer.echo(said)
        contest(setting, peer_batch or best_batch(setting), rounds)


def contest(setting: Setting, batch: int, rounds: int) -> None:
    """Rounds in turn, printed."""
    radius, queries = setting.eps, setting.queries
    words = f"eps {format_eps(radius)}, {queries} queries, {rounds} rounds"
    typer.echo(f"\n{setting.title} n {len(setting.images)}, {words}")
    contestants: dict[str, Callable[[], Run]] = {
        f"theirs (batch {batch})": lambda: setting.theirs(batch),
        "robench": lambda: setting.ours(radius),
        "robench compat": lambda: setting.ours(1.0, "compat=true"),
    }
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            runs[name].append(run())
    correct = setting.clean_correct()
    report(dict(runs), correct, radius)
    theirs, _, compat = runs.values()
    report_compat(theirs[0], compat[0], correct, radius)


if __name__ == "__main__":
    typer.run(main)
