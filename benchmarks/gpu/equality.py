"""Part 2: the GPU against the CPU. Draws, the judge on the same candidates, whole attacks."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import Setting
from robench.core.record import Record
from robench.core.statistics import mcnemar
from robench.core.threat import ThreatModel
from robench.evaluation.judge import Judge, Judgement
from robench.evaluation.store import read_adversarial
from robench.models import passes
from robench.numerics.random import BatchDraws, ImageDraws

SHAPE = (3, 32, 32)
MARGIN = 1e-4
NORMAL = 1e-6
"""Between standard normal draws: their logarithms and cosines are those of the device."""
P = 0.05
ATTACKS = ("fgsm", "pgd_sat", "cw_inf", "apgd_ce", "square")
SMALL_ATTACKS = ("pgd_sat[steps=2]", "apgd_ce[steps=6]", "square[queries=6]")


def run(setting: Setting, notes: Notebook) -> None:
    """Bits where bits are promised, verdicts where rounding may differ."""
    _draws(setting, notes)
    attacks = SMALL_ATTACKS if setting.pretended else ATTACKS
    text, images = ",".join(attacks), setting.images(setting.sizes.images)
    there = setting.records("cuda", text, images)
    here = setting.records("cpu", text, images, device="cpu", save_adversarial=True)
    _judge(setting, notes, here[1 if not setting.pretended else 0])
    for record, other in zip(here, there, strict=True):
        _verdicts(setting, notes, record, other)


def _draws(setting: Setting, notes: Notebook) -> None:
    ids = torch.arange(0, 5000, 97)
    one, batch = ImageDraws(0, "check"), BatchDraws(0, 1)
    exact: dict[str, Callable[[Tensor], Tensor]] = {
        "words": lambda i: one.words(i, 101, purpose="start", step=3, probe=2),
        "uniform": lambda i: one.uniform(i, SHAPE, -0.1, 0.1, purpose="start"),
        "signs": lambda i: one.signs(i, SHAPE, purpose="sign"),
        "words of a batch": lambda i: batch.words(i, 101, purpose="crop"),
        "uniform of a batch": lambda i: batch.uniform(i, SHAPE, -0.1, 0.1, purpose="start"),
        "integers of a batch": lambda i: batch.integers(i, 5, 9, purpose="crop"),
    }
    for name, draw in exact.items():
        apart = int((draw(ids) != draw(ids.to(setting.device)).cpu()).sum())
        notes.claim(f"draws, {name}", f"{apart} differ", "none, bit for bit", apart == 0)
    normal: dict[str, Callable[[Tensor], Tensor]] = {
        "normal": lambda i: one.normal(i, SHAPE, purpose="direction"),
        "normal of a batch": lambda i: batch.normal(i, SHAPE, purpose="start"),
    }
    for name, draw in normal.items():
        here, there = draw(ids), draw(ids.to(setting.device)).cpu()
        far = float(((here - there).abs() / here.abs().clamp(min=1)).max())
        notes.claim(f"draws, {name}", f"{far:.1g} apart", f"at most {NORMAL:g}", far <= NORMAL)


def _judge(setting: Setting, notes: Notebook, record: Record) -> None:
    """Both devices on the candidates that a search on the CPU has left."""
    paths = sorted((setting.folder / "cpu").rglob(f"*-{record.key}.json"))
    ids, candidates = read_adversarial(paths[0])
    images = setting.images(setting.sizes.images).select(ids.tolist())
    here = _judged(setting, "cpu", images.images, images.labels, candidates.float())
    there = _judged(setting, setting.device, images.images, images.labels, candidates.float())
    fragile = here.findings["fragile"] | there.findings["fragile"].cpu()
    apart = int(((here.broken != there.broken.cpu()) & ~fragile).sum())
    seen = f"{apart} of {len(ids)} differ, {int(fragile.sum())} fragile"
    notes.claim("judge on the same candidates", seen, "none but fragile ones", apart == 0)
    far = float((here.margin - there.margin.cpu()).abs().max())
    notes.claim("margins of the judge", f"{far:.1g} apart", f"at most {MARGIN:g}", far <= MARGIN)


def _judged(
    setting: Setting, where: str, images: object, labels: object, candidates: Tensor
) -> Judgement:
    device = torch.device(where)
    network = setting.fresh_network().to(device)
    clean = torch.as_tensor(images).to(device).float() / 255
    judge = Judge(network, ThreatModel(), passes.pass_shape(device, clean[0].numel()).judge)
    return judge.verify(clean, candidates.to(device), torch.as_tensor(labels).to(device))


def _verdicts(setting: Setting, notes: Notebook, here: Record, there: Record) -> None:
    name, both = here.attack.name, (here.verdicts.survived, there.verdicts.survived)
    counts = " and ".join(str(sum(survived)) for survived in both)
    if setting.pretended:
        equal = here.verdicts == there.verdicts
        notes.claim(f"{name}, CPU and device", f"{counts} survive", "equal columns", equal)
        return
    test = mcnemar(*both)
    seen = f"{counts} survive, {test.only_first}/{test.only_second} discordant, p {test.p:.2f}"
    notes.claim(f"{name}, CPU and GPU", seen, f"McNemar p > {P}", test.p > P)
