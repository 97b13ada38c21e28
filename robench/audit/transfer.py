"""G9: do another network's gradients find what its own do not?"""

from robench.attacks.pgd import PGD
from robench.audit.finding import Finding, not_run, share
from robench.audit.iterations import step_size
from robench.audit.queries import white_box
from robench.audit.subject import Subject

TRANSFER_SHARE = 0.005


def transfer(subject: Subject) -> Finding:
    """Images broken by PGD along a surrogate's gradients, not by white-box searches.

    Source: Athalye et al. 2018, section 3.1; Papernot et al. 2017.
    """
    if subject.surrogate is None:
        return not_run("no surrogate: give --surrogate REF")
    left = (~white_box(subject)).nonzero()[:, 0]
    if not len(left):
        return not_run("gradients broke every image: transfer has nothing left to show")
    steps = subject.budget.steps
    attack = PGD(steps=steps, step_size=step_size(subject.threat.eps, steps))
    hits = subject.attack_some("transfer", attack, left, stop="last", along=subject.surrogate)
    return share(
        int(hits.broken.sum()),
        len(subject),
        TRANSFER_SHARE,
        means="another network's gradients break what its own cannot: its own are masked",
        remedy="a better loss, BPDA; attack along the surrogate as well",
        tried=len(left),
    )
