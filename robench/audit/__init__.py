"""Gradient-masking tests by id. Listing imports no torch. A new test is one file and one line here.

Groups: a failed `decisive` test alone makes the label "masked", a failed `supporting` one makes it
"suspicious".
"""

from robench.core.table import Table

TESTS = Table(
    kind="audit test",
    lines={
        "G0": (
            "robench.audit.outputs:probabilities",
            ("supporting",),
            "outputs are logits, not probabilities or log-probabilities",
        ),
        "G1": (
            "robench.audit.gradients:zero_gradients",
            ("decisive",),
            "gradients of the margin and of cross-entropy are neither zero nor NaN",
        ),
        "G2": (
            "robench.audit.gradients:saturation",
            ("supporting",),
            "no margin is so large that float32 cross-entropy saturates",
        ),
        "G3": (
            "robench.audit.iterations:one_step",
            ("decisive",),
            "one step breaks nothing that many steps do not",
        ),
        "G4": (
            "robench.audit.iterations:silent_success",
            ("supporting",),
            "what an iterate breaks, the last iterate breaks too",
        ),
        "G5": (
            "robench.audit.iterations:incomplete",
            ("supporting",),
            "the loss stands still in the last steps",
        ),
        "G6": (
            "robench.audit.radius:unbounded",
            ("decisive",),
            "without a bound everything breaks",
        ),
        "G7": (
            "robench.audit.radius:eps_sweep",
            ("supporting",),
            "robust accuracy falls as eps grows",
        ),
        "G8": (
            "robench.audit.queries:black_box",
            ("decisive",),
            "queries alone break nothing that gradients do not",
        ),
        "G9": (
            "robench.audit.transfer:transfer",
            ("decisive",),
            "another network's gradients break nothing that its own do not (--surrogate)",
        ),
        "G10": (
            "robench.audit.estimated:estimated_gradient",
            ("decisive",),
            "gradients point where differences of queries say",
        ),
        "G11": (
            "robench.audit.stability:unstable_loss",
            ("supporting",),
            "the loss changes little under small noise",
        ),
        "G12": (
            "robench.audit.queries:random_noise",
            ("decisive",),
            "random noise breaks nothing that gradients do not",
        ),
        "G13": (
            "robench.audit.differentiable:differentiable",
            ("decisive",),
            "the input has a gradient, and the forward pass takes none of its own",
        ),
        "G14": (
            "robench.audit.outputs:repeatable",
            ("supporting",),
            "outputs depend on the image alone: no randomness, no batch statistics",
        ),
        "G15": (
            "robench.audit.ordering:ordering",
            ("supporting",),
            "stronger attacks break more, white-box more than black-box",
        ),
        "G16": (
            "robench.audit.iterations:step_sweep",
            ("supporting",),
            "twice the steps break hardly more",
        ),
    },
    entry_point_group="robench.audits",
)
