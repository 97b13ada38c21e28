"""G15: do stronger attacks break more?"""

from dataclasses import replace

from torch import Tensor

from robench.attacks.fgsm import FGSM
from robench.attacks.pgd import CarliniWagnerPGD
from robench.attacks.square import square
from robench.audit.finding import FEWEST, Finding
from robench.audit.iterations import pgd, step_size
from robench.audit.subject import Subject
from robench.core.statistics import mcnemar

SIGNIFICANT = 0.05


def ordering(subject: Subject) -> Finding:
    """FGSM and 100 queries should break no more than PGD, PGD hardly more than margin-PGD.

    Alarms where the weaker attack breaks more by 3 images and McNemar's exact test at 5 %. Source:
    B-MTARD paper, section 4, points (2) to (4); the 100 queries clear nobody, G8 does.
    """
    steps, eps = subject.budget.steps, subject.threat.eps
    margin = replace(CarliniWagnerPGD(), steps=steps, step_size=step_size(eps, steps))
    last = pgd(subject, stop="last").broken
    pairs = {
        "fgsm against pgd": (subject.attack("fgsm", FGSM(), stop="last").broken, last),
        "pgd against cw_inf": (last, subject.attack("cw_inf", margin, stop="last").broken),
        "square (100 queries) against pgd": (subject.attack("square", square).broken, last),
    }
    found = {name: _compare(weaker, stronger) for name, (weaker, stronger) in pairs.items()}
    violated = [name for name, (extra, p) in found.items() if extra >= FEWEST and p < SIGNIFICANT]
    return Finding(
        status="fail" if violated else "pass",
        value=min(p for _, p in found.values()),
        threshold=SIGNIFICANT,
        alarm="below",
        reason="; ".join(violated) or None,
        means="a weaker attack breaks more than a stronger one (smallest p of the comparisons)",
        remedy="review the attacks: steps, step size, loss; then G8",
        details={
            name: {"weaker_breaks_more_by": extra, "p": p} for name, (extra, p) in found.items()
        },
    )


def _compare(weaker: Tensor, stronger: Tensor) -> tuple[int, float]:
    """How many more images the weaker attack breaks, and McNemar's p (1 where it is not more)."""
    test = mcnemar(weaker.tolist(), stronger.tolist())
    extra = test.only_first - test.only_second
    return extra, test.p if extra > 0 else 1.0
