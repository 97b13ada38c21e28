"""G3, G4, G5, G16: does more of the same attack do more?"""

import torch
from torch import Tensor

from robench.attacks.fgsm import FGSM
from robench.attacks.pgd import PGD, starting_points
from robench.audit.finding import Finding, share
from robench.audit.subject import Outcome, Subject
from robench.core.record import Stop
from robench.numerics.ascent import signed_ascent
from robench.numerics.losses import cross_entropy
from robench.numerics.projections import feasible_box

ONE_STEP_SHARE = 0.005
SILENT_SHARE = 0.005
LAST = 10
"""Steps at the end over which the loss should stand still."""
MOVED = 0.05
"""Of the range of an image's loss."""
INCOMPLETE_SHARE = 0.10
MORE_STEPS_SHARE = 0.005


def step_size(eps: float, steps: int) -> float:
    """Crosses the ball, however few the steps; never below 2/255. Source: attacks.md 16."""
    return max(2 / 255, 2.5 * eps / steps)


def pgd(
    subject: Subject, steps: int | None = None, eps: float | None = None, stop: Stop = "any"
) -> Outcome:
    """PGD on cross-entropy with so many steps; the budget's and the threat's where not said."""
    steps = subject.budget.steps if steps is None else steps
    eps = subject.threat.eps if eps is None else eps
    attack = PGD(steps=steps, step_size=step_size(eps, steps))
    return subject.attack("pgd_sat", attack, eps=eps, stop=stop)


def one_step(subject: Subject) -> Finding:
    """Images that FGSM breaks and PGD does not. Source: Athalye et al. 2018, section 3.1."""
    fgsm = subject.attack("fgsm", FGSM()).broken
    return share(
        int((fgsm & ~pgd(subject).broken).sum()),
        len(subject),
        ONE_STEP_SHARE,
        means="the iterative attack loses its way where one step succeeds",
        remedy="more steps and restarts, another step size; a smoothed or estimated gradient",
        fgsm=float(fgsm.float().mean()),
        pgd=float(pgd(subject).broken.float().mean()),
    )


def silent_success(subject: Subject) -> Finding:
    """Images that an iterate breaks and the last one does not. Source: Pintor et al. 2022."""
    any_of_them, last = pgd(subject).broken, pgd(subject, stop="last").broken
    return share(
        int((any_of_them & ~last).sum()),
        len(subject),
        SILENT_SHARE,
        means="attacks pass through adversarial points and leave them: the last iterate overrates "
        "the defense",
        remedy="report --stop any",
    )


def incomplete(subject: Subject) -> Finding:
    """Unbroken images whose best loss still moves by 5 % of its range in the last steps of PGD.

    Deliberate difference from the source: broken images do not count. Their loss may go on rising,
    as it does on natural networks, and nothing is left to find.
    Source: Pintor et al. 2022, "Indicators of attack failure".
    """
    moved = _moved_at_the_end(_losses(subject))
    return share(
        int(((moved > MOVED) & ~pgd(subject).broken).sum()),
        len(subject),
        INCOMPLETE_SHARE,
        means="the attack had not ended when it was cut off",
        remedy="more steps, until doubling them gains less than 0.5 points (G16)",
        median_move=float(torch.median(moved)),
    )


def _losses(subject: Subject) -> Tensor:
    """(steps, N) float64 cross-entropy along PGD, which ends for no image."""
    steps, values = max(subject.budget.steps, LAST + 1), []
    images, ids, threat = subject.images, subject.ids, subject.threat

    def gradient(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        logits, direction = subject.gradients(cross_entropy, x, rows)
        values.append(cross_entropy(logits.double(), subject.labels[rows])[0])
        subject.tick(len(x))
        return logits, direction

    signed_ascent(
        gradient,
        starting_points("uniform", images, ids, threat, subject.draws("pgd_sat")),
        *feasible_box(images, threat),
        step_sizes=[step_size(threat.eps, steps)] * steps,
    )
    return torch.stack(values)


def _moved_at_the_end(losses: Tensor) -> Tensor:
    """(N,) rise of the running best over the last steps, as a share of the range of the losses."""
    best = losses.cummax(dim=0).values
    size = losses.amax(dim=0) - losses.amin(dim=0)
    # A loss that never moves has range 0: flat, which G1 and G2 speak of, but not cut off.
    return (best[-1] - best[-LAST]) / size.clamp(min=1e-12)


def step_sweep(subject: Subject) -> Finding:
    """Images that PGD breaks with twice the steps, not with the steps it has.

    The step size is one, so is the start: longer runs go on where shorter ones end.
    """
    steps = subject.budget.steps
    sizes = sorted({max(1, steps // 4), max(1, steps // 2), steps, 2 * steps})
    attacks = {n: PGD(steps=n, step_size=step_size(subject.threat.eps, steps)) for n in sizes}
    broken = {n: subject.attack("pgd_sat", attack).broken for n, attack in attacks.items()}
    return share(
        int((broken[2 * steps] & ~broken[steps]).sum()),
        len(subject),
        MORE_STEPS_SHARE,
        means="robust accuracy still falls with the number of steps: it is an upper bound at best",
        remedy="more steps, or APGD",
        curve=[{"steps": n, "robust_share": 1 - float(broken[n].float().mean())} for n in sizes],
    )
