"""AutoAttack by its authors' code (pyautoattack, standard) against ours: time, verdicts, passes.

Same network and images in one process, shard by shard in turn, ours as `robench eval` runs it.
Finished shards are kept, so an interrupted run goes on where it was; code that changes since is not
noticed: give another --keep. `make bench-autoattack`, or
`python -m benchmarks.autoattack --help`.

The reference's robust images are those that it counts itself; margins, and what our judge says of
its candidates, are float32. Time ratios leave out our set-up (printed), which a real run pays once
and this one for every shard.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.comparison import Compared, accuracy, met, report, report_parts, united
from benchmarks.contest import Contest, best_batch, check_settings
from benchmarks.tf32 import HELP, pinned
from robench import ThreatModel
from robench.core.threat import DEFAULT_EPS
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense
from robench.models.passes import device_kind, hardware, resolve_device

SHARD = {"cpu": 100, "cuda": 500}
SCREEN_POINTS, SCREEN_SHARE = 0.5, 0.02
OTHER_SEEDS = 3


def main(
    defense: Annotated[str, typer.Option(help="Any defense reference.")] = "fast-at-resnet18-w32",
    dataset: Annotated[str, typer.Option(help="A data set that is there.")] = "cifar10",
    n: Annotated[int, typer.Option(help="First n images.")] = 200,
    precision: Annotated[str, typer.Option(help="Of our search: auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of both.")] = 0,
    shard: Annotated[
        int | None, typer.Option(help="Images in a shard; default 100, on a GPU 500.")
    ] = None,
    peer_batch: Annotated[
        int | None,
        typer.Option(min=0, help="Of the reference: default the whole shard, 0 measures first."),
    ] = None,
    keep: Annotated[
        Path, typer.Option(help="Folder of finished parts; another one for another run.")
    ] = Path("build/bench-autoattack"),
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Run images that disagree again on 3 other seeds.")
    ] = False,
    screen: Annotated[
        bool, typer.Option("--screen", help="Then time our `screen` on the same images.")
    ] = False,
    attack: Annotated[str, typer.Option(hidden=True)] = "autoattack",
    reference: Annotated[str, typer.Option(hidden=True)] = "autoattack",
    tf32: Annotated[bool, typer.Option("--tf32", help=HELP)] = False,
) -> None:
    """Print time ratio, verdicts and passes, shard by shard and in all."""
    where = resolve_device(device)
    size = shard or SHARD[where.type]
    found, images = load_defense(defense), load_evalset(dataset).first(n)
    norm = found.norm or "linf"
    threat = ThreatModel(norm, DEFAULT_EPS[norm] if found.eps is None else found.eps)
    settings = {
        "defense": defense,
        "fingerprint": found.fingerprint,
        "dataset": dataset,
        "norm": threat.norm,
        "eps": threat.eps,
        "seed": seed,
        "shard": size,
        "peer batch": size if peer_batch is None else peer_batch,
        "device": str(where),
        "hardware": hardware(where),
        "attack": attack,
        "reference": reference,
        **({"tf32": tf32} if where.type == "cuda" else {}),
    }
    check_settings(keep, settings)
    batch = size if peer_batch is None else peer_batch
    with pinned(where, tf32) as said:
        batch = batch or best_batch(keep, found.model.to(where), images, where, size)
    facts = ", ".join(f"{k} {v}" for k, v in hardware(where).items())
    typer.echo(f"{facts}; {device_kind(where, precision)}; finished parts in {keep.resolve()}")
    typer.echo(f"{defense}, {dataset} n {n}, {norm} eps {threat.eps:.6g}, seed {seed}")
    typer.echo(f"reference:{reference} at batch size {batch}; ours: {attack} {precision}; {said}")
    contest = Contest(found, images, threat, where, precision, attack, reference, batch, keep, tf32)
    ids = images.ids.tolist()
    whole = compare(contest, ids, size, seed)
    if recheck:
        run_recheck(contest, whole, seed)
    if screen:
        run_screen(contest, whole, ids, seed)


def compare(contest: Contest, ids: list[int], size: int, seed: int) -> Compared:
    """Reference and ours in turn; a report for each shard and for all together."""
    sides: list[Compared] = []
    for start in range(0, len(ids), size):
        name, part = f"shard-{start // size:03d}", ids[start : start + size]
        theirs = contest.theirs(name, part, seed)
        sides.append(Compared(theirs, contest.ours(name, part, seed)))
        report(name, sides[-1])
    whole = Compared(united([s.theirs for s in sides]), united([s.ours for s in sides]))
    report("all shards", whole)
    return whole


def run_recheck(contest: Contest, both: Compared, seed: int) -> None:
    """Both again on the images that disagree, for other seeds; one line an image."""
    places = sorted(both.only_ours + both.only_theirs)
    ids = [both.ours.ids[place] for place in places]
    typer.echo(f"\nimages that disagree, on other seeds (here/there): {len(ids)}")
    if not ids:
        return
    lines = [
        [f"seed {seed}: {_words(both.ours.robust[place], both.theirs.robust[place])}"]
        for place in places
    ]
    for other in range(seed + 1, seed + 1 + OTHER_SEEDS):
        name = f"recheck-{other}"
        theirs, ours = contest.theirs(name, ids, other), contest.ours(name, ids, other)
        for line, here, there in zip(lines, ours.robust, theirs.robust, strict=True):
            line.append(f"{other}: {_words(here, there)}")
    for i, line in zip(ids, lines, strict=True):
        typer.echo(f"  image {i}: {', '.join(line)}")


def _words(here: bool, there: bool) -> str:
    return "/".join("robust" if robust else "broken" for robust in (here, there))


def run_screen(contest: Contest, both: Compared, ids: list[int], seed: int) -> None:
    """Our screen on the same images: its time and its distance from AutoAttack."""
    side = contest.ours("screen", ids, seed, "screen")
    share = side.seconds / both.theirs.seconds
    typer.echo(
        f"\nscreen {side.seconds:.1f} s, {share:.2%} of the reference's, bar {SCREEN_SHARE:.0%}:"
        f" {met(share <= SCREEN_SHARE)}; set-up {side.set_up:.1f} s"
    )
    for name, other in (("reference", both.theirs), ("our AutoAttack", both.ours)):
        points = 100 * (accuracy(side) - accuracy(other))
        typer.echo(
            f"  robust {accuracy(side):.2%}, minus {name} {points:+.2f} points,"
            f" bar {SCREEN_POINTS}: {met(points <= SCREEN_POINTS)}"
        )
    report_parts(side)


if __name__ == "__main__":
    typer.run(main)
