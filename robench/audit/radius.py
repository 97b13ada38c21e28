"""G6, G7: does a larger ball break more?"""

from itertools import pairwise

from robench.audit.finding import Finding, share
from robench.audit.iterations import pgd
from robench.audit.subject import Subject
from robench.core.threat import format_eps

LEVELS = (1, 2, 4, 8, 16, 32)
"""Radii of the sweep, in grey levels."""
RISE_SHARE = 0.003


def unbounded(subject: Subject) -> Finding:
    """Images that PGD does not break though it may change every pixel to anything.

    Source: Carlini et al. 2019; Athalye et al. 2018, section 3.1.
    """
    return share(
        int((~pgd(subject, eps=1.0).broken).sum()),
        len(subject),
        0.0,
        means="images that no bound protects survive: the attack does not work on this defense",
        remedy="do not believe any gradient attack here: BPDA, margin losses, queries",
    )


def eps_sweep(subject: Subject) -> Finding:
    """The largest rise of robust accuracy from one radius to the next; the whole curve is kept."""
    survived = [int((~pgd(subject, eps=level / 255).broken).sum()) for level in LEVELS]
    rises = [after - before for before, after in pairwise(survived)]
    curve = [
        {"eps": format_eps(level / 255), "robust_share": count / len(subject)}
        for level, count in zip(LEVELS, survived, strict=True)
    ]
    return share(
        max(0, *rises),
        len(subject),
        RISE_SHARE,
        means="robust accuracy rises with eps, which contains what a smaller eps contains",
        remedy="restarts, smaller steps; plot the curve of details",
        curve=curve,
    )
