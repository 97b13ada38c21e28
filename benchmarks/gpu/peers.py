"""Part 5: PGD against foolbox and torchattacks, AutoAttack against its authors' code."""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.comparison import BARS, MOST_APART, Compared, accuracy, met
from benchmarks.contest import Contest
from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import DEFENSE, Setting
from benchmarks.pgd import EPS, STEPS, Timed, foolbox_pgd, run_peer, torchattacks_pgd
from benchmarks.tf32 import pinned
from robench import ThreatModel
from robench.core.statistics import mcnemar
from robench.defenses.reference import load_defense
from robench.models.passes import resolve_device

P = 0.05
OURS = (("auto", "any"), ("auto", "last"), ("fp32", "last"))
EXACT = "robench fp32 last"


def run(setting: Setting, notes: Notebook) -> None:
    """TF32 off and on for the peers; each side's seconds, ratio to the faster peer, verdicts."""
    for tf32 in (False, True):
        with pinned(resolve_device(setting.device), tf32) as said:
            notes.figure("PGD", said)
            _pgd(setting, notes, "TF32 peers" if tf32 else "IEEE peers")
        if setting.pretended:
            notes.figure("foolbox, AutoAttack", "not run: they refuse a pretended device")
            return
    for tf32 in (False, True):
        _autoattack(setting, notes, tf32)


def _pgd(setting: Setting, notes: Notebook, title: str) -> None:
    images = setting.images(setting.sizes.whole)
    network = setting.fresh_network().to(setting.device)
    x = torch.from_numpy(images.images).to(setting.device).float() / 255
    y = torch.from_numpy(images.labels).to(setting.device)
    peers: dict[str, Callable[..., Callable[..., Tensor]]] = {"torchattacks": torchattacks_pgd}
    if not setting.pretended:
        peers["foolbox"] = foolbox_pgd
    runs: dict[str, list[Timed]] = {}
    rounds = setting.sizes.rounds
    for number in range(rounds if setting.pretended else rounds + 1):
        for name, make in peers.items():
            runs.setdefault(name, []).append(run_peer(make, network, x, y, len(x)))
        for precision, stop in OURS[-1:] if setting.pretended else OURS:
            name = f"robench {precision} {stop}"
            (record,) = setting.records(
                f"{title}-{name}-{number}",
                f"pgd_sat[steps={STEPS}]",
                images,
                eps=EPS,
                precision=precision,
                stop=stop,
            )
            survived = torch.tensor(record.verdicts.survived)
            runs.setdefault(name, []).append(Timed(record.cost.seconds, survived))
    # The round more than asked for pays for the choice of kernels.
    _report(notes, title, {name: timed[-rounds:] for name, timed in runs.items()}, list(peers))


def _report(notes: Notebook, title: str, runs: dict[str, list[Timed]], peers: list[str]) -> None:
    medians = {name: statistics.median(r.seconds for r in of) for name, of in runs.items()}
    fastest = min(peers, key=lambda name: medians[name])
    for name, of in runs.items():
        seen = (
            f"{medians[name]:.3f} s, {medians[fastest] / medians[name]:.2f}x {fastest}, "
            f"robust {of[0].survived.float().mean():.4f}"
        )
        notes.figure(f"PGD, {title}, {name}", seen)
    ours = runs[EXACT][0].survived.tolist()
    for name in peers:
        test = mcnemar(ours, runs[name][0].survived.tolist())
        seen = f"{test.only_first}/{test.only_second} discordant, p {test.p:.2f}"
        notes.claim(f"PGD, {title}, {EXACT} and {name}", seen, f"McNemar p > {P}", test.p > P)


def _autoattack(setting: Setting, notes: Notebook, tf32: bool) -> None:
    n, title = setting.sizes.autoattack, "TF32 reference" if tf32 else "IEEE reference"
    images = setting.images(n)
    contest = Contest(
        load_defense(DEFENSE),
        images,
        ThreatModel(),
        resolve_device(setting.device),
        "auto",
        "autoattack",
        "autoattack",
        n,
        setting.folder / f"autoattack-{tf32}",
        tf32,
    )
    ids = images.ids.tolist()
    theirs = contest.theirs("all", ids, 0)
    notes.figure(f"AutoAttack, {title}", f"{theirs.seconds:.1f} s, robust {accuracy(theirs):.2%}")
    both = Compared(theirs, contest.ours("all", ids, 0))
    bar = f"bar {BARS['cuda']:g}x {met(both.ratio >= BARS['cuda'])}"
    seen = f"{both.ours.seconds:.1f} s, {both.ratio:.2f}x, {bar}, robust {accuracy(both.ours):.2%}"
    notes.figure(f"AutoAttack, robench beside {title}", seen)
    net = len(both.only_ours) - len(both.only_theirs)
    seen = f"{len(both.only_ours)} only here, {len(both.only_theirs)} only there"
    asked = f"at most {MOST_APART} more here"
    notes.claim(f"AutoAttack, robust, {title}", seen, asked, net <= MOST_APART)
