"""G13: is there a gradient at all?"""

import torch

from robench.audit.finding import Finding
from robench.audit.subject import Subject


def differentiable(subject: Subject) -> Finding:
    """Whether the input has a gradient, and whether the forward pass takes one of its own."""
    problem = _problem(subject)
    dynamic = subject.flags.get("dynamic")
    found = Finding(
        status="pass",
        means="gradient attacks run on nothing, or on something else than the defense",
        remedy="BPDA: in the backward pass, replace the step that cannot be differentiated",
    )
    if problem is not None:
        found.status, found.reason = "fail", problem
    elif dynamic is not None:
        found.status, found.reason = "warn", dynamic.message
    return found


def _problem(subject: Subject) -> str | None:
    """What keeps the input from having a gradient, or None."""
    x = subject.images[: subject.shape.search].clone().requires_grad_()
    try:
        with torch.enable_grad():
            logits = subject.forward(x)
        if not logits.requires_grad:
            return "the outputs carry no graph: the input has no gradient"
        (gradient,) = torch.autograd.grad(logits.sum(), x, allow_unused=True)
    except Exception as error:  # foreign code may raise anything
        text = str(error).splitlines()[0][:120] if str(error) else ""
        return f"the gradient raises {type(error).__name__}: {text}"
    return "the outputs do not depend on the input by autograd" if gradient is None else None
