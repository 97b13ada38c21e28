"""G0, G14: are the outputs logits, and a function of the image?"""

from collections.abc import Sequence

from robench.audit.finding import Finding
from robench.audit.subject import Subject


def _flagged(subject: Subject, names: Sequence[str], means: str, remedy: str) -> Finding:
    """Fails when the defense has one of the flags, and says which."""
    raised = [subject.flags[name] for name in names if name in subject.flags]
    return Finding(
        status="fail" if raised else "pass",
        reason="; ".join(f"{flag.name}: {flag.message}" for flag in raised) or None,
        value=raised[0].value if raised else None,
        means=means,
        remedy=remedy,
        details={flag.name: flag.value for flag in raised},
    )


def probabilities(subject: Subject) -> Finding:
    """Outputs that are probabilities or their logarithms. Source: AutoAttack's checks.py."""
    return _flagged(
        subject,
        ("softmax_output", "log_softmax_output"),
        means="losses of logits vanish on probabilities: attacks look weak",
        remedy="return logits: drop the last softmax, no prediction changes",
    )


def repeatable(subject: Subject) -> Finding:
    """Outputs that change between passes, with earlier ones, or with the others of a batch."""
    return _flagged(
        subject,
        ("randomised", "stateful", "batch_statistics", "training_mode"),
        means="one pass says little: a verdict may hang on chance, earlier calls or the batch",
        remedy="model.eval(); for randomised defenses autoattack[version=rand] and EOT; for "
        "stateful ones a forward pass that remembers nothing",
    )
