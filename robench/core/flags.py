"""The table of flags: every name that a record or a row can carry, its levels and what it says.

`--require`, the README and docs/reading.md follow it. A flag of level `fail` stops a requirement.
"""

from collections.abc import Iterable
from typing import Literal

from robench.core.errors import InputError
from robench.core.names import did_you_mean

Level = Literal["info", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("info", "warn", "fail")
"""From what is good to know to what forbids to quote the number."""

FLAGS: dict[str, tuple[tuple[Level, ...], str]] = {
    "no_op": (("fail",), "the attack changed no image"),
    "margin_rose": (("fail",), "the attack made most images safer"),
    "zero_gradient": (("warn", "fail"), "gradients at the start are zero or undefined"),
    "square_helps": (("warn", "fail"), "queries alone broke what gradients did not"),
    "softmax_output": (("warn",), "outputs are probabilities"),
    "log_softmax_output": (("warn",), "outputs are log-probabilities"),
    "half_outputs": (("warn",), "outputs are rounded to fewer bits than float32 has"),
    "randomised": (("fail",), "outputs change between passes by themselves"),
    "stateful": (("fail",), "outputs depend on earlier calls"),
    "batch_statistics": (("fail",), "outputs depend on the other images of a batch"),
    "training_mode": (("fail",), "layers stay in training mode"),
    "dynamic": (("warn",), "the forward pass differentiates or changes itself"),
    "rejected_ball": (("warn", "fail"), "candidates left the ball and were refused"),
    "rejected_box": (("warn", "fail"), "candidates left [0, 1] and were refused"),
    "rejected_not_finite": (("warn", "fail"), "candidates were not finite and refused"),
    "rejected_logits": (("warn", "fail"), "candidates gave logits that are not finite"),
    "unconfirmed_hit": (("info",), "float32 did not confirm hits of the search"),
    "fragile": (("info",), "verdicts hang on a margin within float32 rounding"),
    "float64_disagrees": (("info",), "fragile verdicts would differ in float64"),
    "tie": (("info",), "verdicts are ties, where the first index wins"),
    "under_travel": (("info", "warn"), "steps cannot cross the ball"),
    "moved_classes": (("warn", "fail"), "classes are answered as others, one for one"),
    "class_order": (("info",), "how the labels of an image folder were told"),
    "pass_shape_halved": (("info",), "memory ran out"),
    "precision_fallback": (("info",), "the search ran in another precision than asked for"),
    "modified_input": (("fail",), "the attack changed the images that it was given"),
    "defense_changed": (("fail",), "the defense changed while it was attacked"),
    "nondeterministic_search": (("warn",), "the device has no kernel that gives the same twice"),
    "mixed_hardware": (("info",), "parts may come from other hardware"),
    "batch_dependent": (("info",), "another package's search, whose draws batches share"),
    "attack_remark": (("info",), "what the attack says of itself"),
    "published_count": (("info",), "the robust accuracy as published transfer scripts count it"),
}
"""Name -> (levels that it can have, what it says)."""


def check_names(names: Iterable[str]) -> None:
    """Raises: InputError for a name that is no flag's, with the nearest ones."""
    for name in names:
        if name not in FLAGS:
            hint = did_you_mean(name, FLAGS) or ": docs/reading.md lists them"
            raise InputError(f"unknown flag {name!r}{hint}")
