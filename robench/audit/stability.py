"""G11: does the loss change much under little noise?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.audit.finding import Finding
from robench.audit.subject import Subject
from robench.numerics.losses import log_odds

UNSTABLE = 0.1
_TINY = torch.finfo(torch.float64).tiny


def unstable_loss(subject: Subject) -> Finding:
    """Mean relative change of cross-entropy under U(-eps/2, eps/2), each capped at 1.

    Warns and never fails: sharp honest networks are unstable too. Source: Pintor et al. 2022; noise
    there is 8/255 wide at any eps.
    """
    images, labels, draws = subject.images, subject.labels, subject.draws("unstable_loss")
    clean = _cross_entropy(subject.clean_logits, labels)
    half, changes = subject.threat.eps / 2, []
    for probe in range(subject.budget.probes):
        noise = draws.uniform(
            subject.ids, images.shape[1:], -half, half, purpose="probe", probe=probe
        )
        logits = subject.logits((images + noise).clamp(0, 1))
        there = _cross_entropy(logits, labels)
        changes.append(((there - clean).abs() / clean.clamp(min=_TINY)).clamp(max=1))
        subject.tick(len(images))
    value = float(torch.stack(changes).mean())
    return Finding(
        status="warn" if value > UNSTABLE else "pass",
        value=value,
        threshold=UNSTABLE,
        means="the loss is rough (mean relative change under noise): a local gradient says little "
        "of where to go",
        remedy="EOT over noise, a smoothed gradient; compare with G8",
    )


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) float64; of log-odds, so that it is relative to something at any margin."""
    return F.softplus(log_odds(logits.double(), labels)[0])
