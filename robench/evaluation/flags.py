"""The cheap sanity flags: what a reader must know before believing a number. Data, not prints."""

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from robench.core.record import Component, Flag, PassShape, Verdicts
from robench.core.statistics import wilson
from robench.core.threat import ThreatModel
from robench.evaluation.judge import Judge
from robench.evaluation.moves import moved_classes
from robench.evaluation.repeatability import repeatability_flags, seeded_logits
from robench.models.global_rng import kept_global_rng
from robench.models.layout import padded_chunks
from robench.models.passes import exact_float32

ZERO_GRADIENT_SHARE = 0.01
REFUSED_SHARE = 0.05
FLOAT32_BITS = 24
ALARMING = 3
"""Images below which no share alarms: one image proves nothing."""
SQUARE_SHARE = 0.002


class Examined(Protocol):
    """A defense beside its images, as far as the flags need them."""

    @property
    def model(self) -> nn.Module:
        """In evaluation mode, on the device."""
        ...

    @property
    def shape(self) -> PassShape:
        """Rows of a pass."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""
        ...

    def pixels(self, where: slice) -> Tensor:
        """Images (B, C, H, W) float32 in [0, 1]."""
        ...

    def judge(self, threat: ThreatModel, rows: int) -> Judge:
        """A judge of the defense."""
        ...


def defense_flags(target: Examined) -> list[Flag]:
    """Flags of the defense itself, from its first batch. Source: AutoAttack's checks.py."""
    rows = min(target.shape.judge, len(target.labels))
    images, labels = target.pixels(slice(0, rows)), target.labels[:rows]
    judge = target.judge(ThreatModel(eps=0), target.shape.judge)
    with kept_global_rng():
        # Before the passes that are compared: the first call of a defense may be like no other.
        _, padded = next(padded_chunks(images, target.shape.judge))
        raw = _raw_outputs(target.model, padded)
        logits = seeded_logits(judge, images)
        found = [
            _training_mode(target.model),
            *repeatability_flags(judge, images, labels, logits),
            _probabilities(logits),
            _half_outputs(raw),
            _dynamic(target.model, padded),
        ]
    return [flag for flag in found if flag is not None]


def _raw_outputs(model: nn.Module, images: Tensor) -> Any:
    """What the network itself answers, in whatever type; the judge's logits are float32."""
    with torch.no_grad(), exact_float32():
        return model(images.clone())


def _training_mode(model: nn.Module) -> Flag | None:
    layers = [name or type(model).__name__ for name, m in _in_training(model)]
    if not layers:
        return None
    message = f"{len(layers)} layers stay in training mode ({layers[0]} ...): put them in eval mode"
    return Flag(name="training_mode", level="fail", message=message, value=len(layers))


def _in_training(model: nn.Module) -> list[tuple[str, nn.Module]]:
    # A frozen TorchScript module has no mode.
    return [(n, m) for n, m in model.named_modules() if getattr(m, "training", False)]


def _probabilities(logits: Tensor) -> Flag | None:
    sums, tolerance = logits.sum(dim=1), 1e-5
    inside = logits.max() < 1 + tolerance and logits.min() > -tolerance
    if bool(inside) and bool(((sums - 1).abs() < tolerance).all()):
        message = "outputs are probabilities: margin losses vanish, score the logits instead"
        return Flag(name="softmax_output", level="warn", message=message)
    normalised = logits.logsumexp(dim=1).abs().max() < 1e-4
    if bool(normalised) and bool(logits.max() <= tolerance):
        message = "outputs are log-probabilities: score the logits instead"
        return Flag(name="log_softmax_output", level="warn", message=message)
    return None


def _half_outputs(outputs: Any) -> Flag | None:
    """Outputs of fewer bits than float32 has, as the network gives them."""
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        return None
    bits = 1 - round(math.log2(torch.finfo(outputs.dtype).eps))
    if bits >= FLOAT32_BITS:
        return None
    kind = str(outputs.dtype).removeprefix("torch.")
    message = f"outputs are {kind}: ties and margins are rounded to {bits} bits, verdicts as well"
    return Flag(name="half_outputs", level="warn", message=message, value=bits)


def _dynamic(model: nn.Module, images: Tensor) -> Flag | None:
    try:
        with torch.inference_mode(), exact_float32():
            model(images.clone())
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:80]
        message = f"the forward pass differentiates or changes itself ({reason})"
        return Flag(name="dynamic", level="warn", message=message)
    return None


def record_flags(
    verdicts: Verdicts,
    components: Sequence[Component],
    attack: Any,
    threat: ThreatModel,
    classes: int,
    defense: Sequence[Flag] = (),
    class_names: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Flag]:
    """Flags that follow from the verdicts, the attack's parameters and the defense's own flags.

    class_names: of the image set, one per label. notes: of its labels.
    """
    # Where answers are of earlier images, neither gradients nor queries say how well they hide.
    stateful = any(flag.name == "stateful" for flag in defense)
    found = [
        *_attack_flags(verdicts, threat),
        *_refused(verdicts, attack),
        *_counted(verdicts),
        None if stateful else _zero_gradients(verdicts),
        _under_travel(attack, threat),
        _batch_dependent(attack),
        None if stateful else _square_helps(components, len(verdicts)),
        *_remarks(attack, classes),
        _published_count(verdicts, attack),
        moved_classes(verdicts, class_names),
        _class_order(notes),
    ]
    return [flag for flag in found if flag is not None]


def _attack_flags(verdicts: Verdicts, threat: ThreatModel) -> list[Flag | None]:
    correct = verdicts.clean_correct
    attacked = sum(correct)
    if not attacked or threat.eps == 0:
        return []
    moved = [d for d, c in zip(verdicts.distance, correct, strict=True) if c and d > 0]
    rose = sum("margin_rose" in flags for flags in verdicts.flags)
    no_op = weaker = None
    if not moved:
        message = "the attack changed no image: its number is the clean accuracy"
        no_op = Flag(name="no_op", level="fail", message=message, value=attacked)
    elif rose > attacked / 2:
        message = "most images end with a larger margin than they began with: the attack misleads"
        weaker = Flag(name="margin_rose", level="fail", message=message, value=rose / attacked)
    return [no_op, weaker]


_REFUSED = {
    "rejected_not_finite": "candidates were not finite and refused",
    "rejected_box": "candidates left [0, 1] and were refused",
    "rejected_ball": "candidates left the ball and were refused",
    "rejected_logits": "candidates gave logits that are not finite and were refused",
}
_COUNTED = {
    "unconfirmed_hit": "hits of the search were not confirmed in float32",
    "fragile": "verdicts hang on a margin within float32 rounding",
    "float64_disagrees": "fragile verdicts would differ in float64",
    "tie": "verdicts are ties: the first index wins",
}


def _refused(verdicts: Verdicts, attack: Any) -> list[Flag]:
    """Candidates that count for nothing: of too many images, the attack was hardly tried."""
    every_image = getattr(attack, "every_image", False)
    attacked = len(verdicts) if every_image else sum(verdicts.clean_correct)
    concerned = sum(any(name in flags for name in _REFUSED) for flags in verdicts.flags)
    alarm = concerned >= ALARMING and concerned > REFUSED_SHARE * attacked
    return _said(verdicts, _REFUSED, "fail" if alarm else "warn")


def _counted(verdicts: Verdicts) -> list[Flag]:
    return _said(verdicts, _COUNTED, "info")


def _said(
    verdicts: Verdicts, texts: dict[str, str], level: Literal["info", "warn", "fail"]
) -> list[Flag]:
    """A flag for each finding of `texts` (name -> what it says) that an image has."""
    counts = {name: sum(name in flags for flags in verdicts.flags) for name in texts}
    return [
        Flag(name=name, level=level, message=f"{counts[name]} images: {text}", value=counts[name])
        for name, text in texts.items()
        if counts[name]
    ]


def _zero_gradients(verdicts: Verdicts) -> Flag | None:
    attacked = sum(verdicts.clean_correct)
    count = sum("zero_gradient" in flags for flags in verdicts.flags)
    if not count:
        return None
    alarm = count >= ALARMING and wilson(count, attacked).low > ZERO_GRADIENT_SHARE
    message = f"{count} images have a zero or undefined gradient at the start: masked gradients?"
    return Flag(
        name="zero_gradient", level="fail" if alarm else "warn", message=message, value=count
    )


def _under_travel(attack: Any, threat: ThreatModel) -> Flag | None:
    if not hasattr(attack, "travel") or threat.eps == 0:
        return None
    can, needed = attack.travel(threat)
    if can >= needed:
        return None
    message = f"steps reach {can:.4f}, crossing the ball from the start takes {needed:.4f}"
    return Flag(
        name="under_travel",
        level="info" if can >= threat.eps else "warn",
        message=message,
        value=can / needed,
    )


def _square_helps(components: Sequence[Component], n: int) -> Flag | None:
    """A search without gradients that beats all those with them. Source: AutoAttack's checks.py."""
    with_gradients = [c for c in components if c.backward_passes]
    broken = sum(c.broken for c in components if c.name.startswith("square"))
    if not with_gradients or broken <= SQUARE_SHARE * n:
        return None
    alarm = broken >= ALARMING and wilson(broken, n).low > SQUARE_SHARE
    message = f"{broken} images were broken by queries alone, not by gradients: masked gradients?"
    return Flag(
        name="square_helps", level="fail" if alarm else "warn", message=message, value=broken
    )


def _remarks(attack: Any, classes: int) -> list[Flag]:
    """What the attack says of itself: what few classes changed, what it must not pass for."""
    said = attack.remarks(classes) if hasattr(attack, "remarks") else []
    return [Flag(name="attack_remark", level="info", message="; ".join(said))] if said else []


def _published_count(verdicts: Verdicts, attack: Any) -> Flag | None:
    """The count of published transfer scripts, where the attack went after every image."""
    if not getattr(attack, "every_image", False) or not len(verdicts):
        return None
    pairs = zip(verdicts.prediction, verdicts.label, strict=True)
    share = sum(prediction == label for prediction, label in pairs) / len(verdicts)
    message = (
        f"{share:.1%} if a clean-wrong image that the perturbation puts right counts as robust, "
        "as in the published scripts"
    )
    return Flag(name="published_count", level="info", message=message, value=share)


def _class_order(notes: Sequence[str]) -> Flag | None:
    """How the labels of the image set came about, where that had to be told from its folders."""
    return Flag(name="class_order", level="info", message="; ".join(notes)) if notes else None


def nondeterministic_flag(operators: Sequence[str]) -> Flag:
    """That the same command may find other candidates, by the operators that make it so."""
    message = (
        f"no deterministic kernel on this device for {', '.join(operators)}: another run of the "
        "same search may differ"
    )
    return Flag(name="nondeterministic_search", level="warn", message=message, value=len(operators))


def _batch_dependent(attack: Any) -> Flag | None:
    if not getattr(attack, "batch_dependent", False):
        return None
    message = "another package's search: its draws are shared by the images of a batch"
    return Flag(name="batch_dependent", level="info", message=message)
