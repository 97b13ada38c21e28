"""Teachers by role: loaded, checked against the student, and made cheap to ask."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robench.core.errors import InputError
from robench.core.references import portable
from robench.data.evalset import EvalSet
from robench.defenses.defense import Defense, foreign
from robench.defenses.reference import load_for
from robench.defenses.settings import Shape
from robench.models.passes import side_by_side
from robench.models.prepare import SearchModel, prepare
from robench.training.features import check_features, last_linear, tapped
from robench.training.inner import piece_rows
from robench.training.recipe import Teacher
from robench.training.selection import Score

CLEAN_SLACK, ROBUST_SLACK = 0.03, 0.05
"""How far below what is known of it a teacher may score on the validation images."""


@dataclass(frozen=True)
class ReadyTeacher:
    """A defense, and its frozen copy with batch norm folded; calling it gives logits."""

    role: str
    defense: Defense
    copy: SearchModel

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) float32 in [0, 1] -> logits (B, K) float32, without gradient."""

        return self._in_pieces(self.copy.forward, x)

    def _in_pieces(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        def forward(piece: Tensor) -> Tensor:
            with torch.no_grad():  # it belongs to the thread
                return network(piece).float()

        if not self.threads:
            return forward(x)
        return torch.cat(list(side_by_side(forward, torch.split(x, piece_rows(x)))))

    @property
    def threads(self) -> bool:
        """Foreign code may not be safe to call from several threads."""
        return self.copy.traced

    def with_gradient(self, x: Tensor) -> Tensor:
        """The same logits, differentiable in the images."""
        return self.copy.forward(x).float()

    def features(self, x: Tensor) -> Tensor:
        """What its last linear layer is given (B, D) float32, without gradient."""
        # A copy that is no module has nothing to tap: the defense itself gives the same features.
        whole = self.copy.forward
        network = whole if isinstance(whole, nn.Module) else self.defense.model
        with tapped(last_linear(network)) as latest:

            def forward(piece: Tensor) -> Tensor:
                network(piece)
                return latest()

            return self._in_pieces(forward, x)

    @property
    def facts(self) -> dict[str, str]:
        """What a checkpoint says of its teacher; where its file lies is the machine's affair."""
        source = dict(self.defense.source or {})
        source.pop("path", None)
        return {
            "ref": portable(self.defense.ref),
            "fingerprint": self.defense.fingerprint,
            "architecture": self.defense.architecture,
            **source,
        }


def load_teachers(
    chosen: Mapping[str, Teacher],
    train: EvalSet,
    base: str,
    class_order: str,
    device: torch.device,
    precision: str,
    follows: str | None = None,
) -> dict[str, ReadyTeacher]:
    """The teachers by role, on the device.

    base: the data set that the student is for. class_order: its own, see `checkpoint.class_order`.
    follows: the role of the teacher whose features are asked for.
    Raises: InputError for a teacher with other classes, another class order or data set, one that
    cannot take images of this size, or one to follow that has no features.
    """
    probe = torch.from_numpy(train.images[:8]).to(device).float() / 255
    ready = {}
    for role, teacher in chosen.items():
        defense = _load(role, teacher.ref, base, train.images.shape[1:])
        _check(role, defense, train, base, class_order)
        defense.model.to(device)
        with foreign(f"teacher {role}={teacher.ref} on images of {_size(probe)}"):
            copy = prepare(defense.model, probe, precision)
            logits = copy.forward(probe)
        if logits.shape != (len(probe), train.num_classes):
            raise InputError(
                f"teacher {role}={teacher.ref} gives {tuple(logits.shape)} for {len(probe)} "
                f"images: expected {train.num_classes} logits each"
            )
        if role == follows:
            check_features(defense.model, probe, f"teacher {role}={teacher.ref}")
        ready[role] = ReadyTeacher(role, defense, copy)
    return ready


def _load(role: str, ref: str, base: str, shape: Shape) -> Defense:
    try:
        return load_for(base, ref, input_shape=shape)
    except InputError as error:
        method, _, said = ref.partition("[")
        ours = f": robench train {method} --role teacher --dataset {base} makes it" if said else ""
        raise InputError(
            f"teacher {role}={ref}{ours}, or give another with --teacher {role}=REF ({error})"
        ) from error


def _check(role: str, defense: Defense, train: EvalSet, base: str, class_order: str) -> None:
    what = f"teacher {role}={defense.ref}"
    if defense.num_classes != train.num_classes:
        raise InputError(
            f"{what} has {defense.num_classes} classes, {train.name} has {train.num_classes}"
        )
    if defense.dataset not in (None, base):
        raise InputError(f"{what} was trained for {defense.dataset}, the student is for {base}")
    if defense.class_order not in (None, class_order):
        raise InputError(
            f"{what} orders the classes of {base} otherwise than the images here: its labels would "
            "mean other classes; train it again on these, or convert its last layer"
        )


def _size(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))


def unworthy(teacher: Teacher, role: str, score: Score, classes: int) -> Sequence[str]:
    """Warnings when a teacher falls short of what is known of it; never when it exceeds it.

    score: on the validation images, which a foreign teacher may have been trained on. Without
    figures in the recipe: below 2 / classes.
    """
    wanted = {"clean": (score.clean, teacher.clean, CLEAN_SLACK)}
    if role == "robust":
        wanted["robust"] = (score.robust, teacher.robust, ROBUST_SLACK)
    found = []
    for what, (reached, known, slack) in wanted.items():
        least = 2 / classes if known is None else known - slack
        if reached < least:
            found.append(
                f"teacher {role}={teacher.ref} reaches {reached:.1%} {what} accuracy on the "
                f"validation images, expected at least {least:.1%}: is it worth distilling?"
            )
    return found
