"""IAD: the student trusts its robust teacher as far as that one is right on adversarial images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import InputError
from robench.numerics.losses import cross_entropy
from robench.training.losses import KLScale, divergence, require_kl_scale, teacher_kl
from robench.training.method import Method, Step, Terms


@dataclass
class Introspective(Method):
    """What both variants share: a = p_Ta(y | x')^beta, row by row, and x' the maximiser of CE.

    Ta is the robust teacher. beta: the exponent. begin: the epochs before introspection, in which
    a = 1: clean images are forwarded in them, too, and the loss "self" is 0. temperature: T, of
    teacher and student both, but not in "self". kl_scale: training-methods.md 0.
    Source: Zhu et al. 2022, "Reliable adversarial distillation with unreliable teachers", and its
    released code, whose schedule never reaches lr / 100: preset "released".
    """

    beta: float = 0.1
    begin: int = 60
    temperature: float = 1.0
    kl_scale: KLScale = "batchmean"

    def __post_init__(self) -> None:
        require_kl_scale(self.kl_scale)
        if self.beta < 0 or self.begin < 0 or self.temperature <= 0:
            raise InputError(
                f"beta={self.beta}, begin={self.begin}, temperature={self.temperature}: expected "
                "an exponent and epochs of at least 0, and a positive temperature"
            )

    def inner(self, step: Step) -> Tensor:
        return step.ascend(cross_entropy, step.labels)

    def _begun(self, step: Step) -> bool:
        return step.epoch > self.begin

    def _trust(self, labels: Tensor, teacher: Tensor | None) -> Tensor:
        """a (B,). teacher: Ta's logits of the adversarial images; None: not begun, 1."""
        if teacher is None:
            return torch.ones(len(labels), device=labels.device)
        log_p = F.log_softmax(teacher.detach(), dim=1)
        return (self.beta * log_p.gather(1, labels[:, None])[:, 0]).exp()

    def _taught(self, teacher: Tensor, student: Tensor, trust: Tensor | None = None) -> Tensor:
        """T^2 mean a KL(teacher(T) || student(T)); trust None: a = 1."""
        tau = self.temperature
        kl = teacher_kl(teacher, student / tau, temperature=tau, scale=self.kl_scale, weights=trust)
        return tau**2 * kl

    def _introspected(self, clean: Tensor, adversarial: Tensor, trust: Tensor) -> Tensor:
        """mean (1 - a) KL(S(x) || S(x')). As released, S(x) is not detached."""
        return divergence(clean, adversarial, scale=self.kl_scale, weights=1 - trust)


@dataclass
class IAD1(Introspective):
    """alpha [a T^2 KL(Ta(x; T) || S(x'; T)) + (1 - a) KL(S(x) || S(x'))] + (1 - alpha) CE(S(x), y).

    The losses are "adv", "self" and "nat". alpha: 1 leaves the labels out. weight_teacher: false
    leaves out the first a, which released code computes and does not use; the paper's text trusts
    the teacher by it. x is forwarded once, in released code again for the target of "self".
    """

    alpha: float = 1.0
    weight_teacher: bool = True

    roles: ClassVar[tuple[str, ...]] = ("robust",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha={self.alpha}: expected a share from 0 to 1")

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        teacher = step.teacher_logits("robust")
        student_adv, student_nat = step.student(adversarial), step.student(step.images)
        guide = step.teachers["robust"](adversarial) if self._begun(step) else None
        trust = self._trust(step.labels, guide)
        return Terms(
            {
                "adv": self._taught(teacher, student_adv, trust if self.weight_teacher else None),
                "self": self._introspected(student_nat, student_adv, trust),
                "nat": F.cross_entropy(student_nat, step.labels),
            },
            {"trust": trust.mean()},
        )

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {"adv": self.alpha, "self": self.alpha, "nat": 1 - self.alpha}


@dataclass
class IAD2(Introspective):
    """(1 - alpha1 - alpha2) CE(S(x'), y) + alpha1 [a T^2 KL(Ta(x'; T) || S(x'; T))
    + (1 - a) KL(S(x) || S(x'))] + alpha2 T^2 KL(Tn(x'; T) || S(x'; T)).

    The losses are "label", "robust", "self" and "clean", by who answers for the adversarial
    images. Tn is a network trained on clean images; in the paper it has the architecture of Ta.
    x is forwarded before `begin`, too, so that every epoch has the same batch-norm updates;
    released code does so only after it.
    """

    begin: int = 40
    alpha1: float = 0.5
    alpha2: float = 0.25

    roles: ClassVar[tuple[str, ...]] = ("clean", "robust")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.alpha1, self.alpha2) < 0 or self.alpha1 + self.alpha2 > 1:
            raise InputError(
                f"alpha1={self.alpha1}, alpha2={self.alpha2}: expected shares from 0 that add up "
                "to at most 1"
            )

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        student_adv, student_nat = step.student(adversarial), step.student(step.images)
        robust = step.teachers["robust"](adversarial)
        clean = step.teachers["clean"](adversarial)
        trust = self._trust(step.labels, robust if self._begun(step) else None)
        return Terms(
            {
                "label": F.cross_entropy(student_adv, step.labels),
                "robust": self._taught(robust, student_adv, trust),
                "self": self._introspected(student_nat, student_adv, trust),
                "clean": self._taught(clean, student_adv),
            },
            {"trust": trust.mean()},
        )

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        return {
            "label": 1 - self.alpha1 - self.alpha2,
            "robust": self.alpha1,
            "self": self.alpha1,
            "clean": self.alpha2,
        }


iad_1 = IAD1()
iad_2 = IAD2()
