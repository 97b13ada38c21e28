"""B-MTARD and its ablations: a clean and a robust teacher, balanced in entropy and in loss."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from robench.core.errors import InputError, RunError
from robench.numerics.losses import cross_entropy
from robench.training.losses import KLScale, entropies, require_kl_scale, teacher_kl
from robench.training.method import Method, Step, Terms

COOLEST, HOTTEST = 1.0, 10.0
"""The range of a teacher's temperature."""


@dataclass
class BMTARD(Method):
    """w_adv KL(Ta(x'; tau_adv) || S(x')) + w_nat KL(Tn(x; tau_nat) || S(x)), x' maximises CE.

    Ta is the robust teacher, Tn the clean one; each sees only its own kind of images. "nat" and
    "adv" below are the two divergences, H their teachers' mean entropies.

    entropy_balance (EBB): after each step the teacher with the larger entropy gets a temperature
    lower by r_tau, the other one higher, both in [1, 10]. loss_balance (NLB): the weights follow
    the relative losses, L / L(0), with the step r_w. temperature: the first of both teachers.
    temperature_rate, weight_rate: the first r_tau and r_w, which shrink with the learning rate.
    beta: exponent of the relative losses. kl_scale, kl_eps: training-methods.md 0; released code
    takes a tenth of the divergence and kl_eps=1e-5.

    L(0) is the loss of the first step, one batch of an untrained student, and never moves.
    The entropies are compared by their difference, which has the sign of the paper's ratio - 1
    and a value when one of them is 0.
    Source: Zhao et al. 2023, "Mitigating accuracy-robustness trade-off via balanced multi-teacher
    adversarial distillation", Algorithm 1; without EBB: Zhao et al. 2022 (MTARD).
    """

    entropy_balance: bool = True
    loss_balance: bool = True
    temperature: float = 1.0
    temperature_rate: float = 0.001
    weight_rate: float = 0.025
    beta: float = 1.0
    kl_scale: KLScale = "batchmean/10"
    kl_eps: float = 0.0

    tau_nat: float = field(init=False)
    tau_adv: float = field(init=False)
    w_nat: float = field(init=False, default=0.5)
    w_adv: float = field(init=False, default=0.5)
    r_tau: float = field(init=False)
    r_w: float = field(init=False)
    first_nat: float | None = field(init=False, default=None)
    first_adv: float | None = field(init=False, default=None)

    roles: ClassVar[tuple[str, ...]] = ("clean", "robust")
    fixed: ClassVar[tuple[str, ...]] = ("entropy_balance", "loss_balance")

    def __post_init__(self) -> None:
        require_kl_scale(self.kl_scale)
        self._require_ranges()
        self.tau_nat = self.tau_adv = self.temperature
        self.r_tau, self.r_w = self.temperature_rate, self.weight_rate

    def _require_ranges(self) -> None:
        if not COOLEST <= self.temperature <= HOTTEST:
            raise InputError(f"temperature={self.temperature}: expected {COOLEST:g} to {HOTTEST:g}")
        if not 0 <= self.weight_rate <= 1:
            raise InputError(f"weight_rate={self.weight_rate}: expected a share from 0 to 1")
        if self.temperature_rate < 0 or self.beta <= 0:
            raise InputError(
                f"temperature_rate={self.temperature_rate}, beta={self.beta}: expected a rate of "
                "at least 0 and a positive exponent"
            )

    def inner(self, step: Step) -> Tensor:
        return step.ascend(cross_entropy, step.labels)

    def outer(self, step: Step, adversarial: Tensor) -> Terms:
        # Two passes in this order, as released: one pass over both would change batch norm.
        student_adv = step.student(adversarial)
        robust = step.teachers["robust"](adversarial)
        student_nat = step.student(step.images)
        clean = step.teacher_logits("clean")
        return Terms(
            {
                "adv": self._kl(robust, student_adv, self.tau_adv),
                "nat": self._kl(clean, student_nat, self.tau_nat),
            },
            _knowledge("adv", robust, self.tau_adv) | _knowledge("nat", clean, self.tau_nat),
        )

    def _kl(self, teacher: Tensor, student: Tensor, tau: float) -> Tensor:
        return teacher_kl(teacher, student, temperature=tau, scale=self.kl_scale, eps=self.kl_eps)

    def weigh(self, values: Mapping[str, float]) -> dict[str, float]:
        _require_finite(values, "nat", "adv", "entropy_nat", "entropy_adv")
        if self.entropy_balance:
            self._balance_entropies(values)
        if self.first_nat is None:
            _require_first(values)
            self.first_nat, self.first_adv = values["nat"], values["adv"]
        if self.loss_balance:
            self._balance_losses(values)
        return {"adv": self.w_adv, "nat": self.w_nat}

    def _balance_entropies(self, values: Mapping[str, float]) -> None:
        """tau <- clip(tau - r_tau sign(H - H of the other)); equal entropies move nothing."""
        gap = values["entropy_adv"] - values["entropy_nat"]
        move = math.copysign(self.r_tau, gap) if gap else 0.0
        self.tau_adv = _clip(self.tau_adv - move)
        self.tau_nat = _clip(self.tau_nat + move)

    def _balance_losses(self, values: Mapping[str, float]) -> None:
        """w <- r_w share + (1 - r_w) w, share = relative loss^beta over the sum of both."""
        nat, adv = (relative**self.beta for relative in self._relative(values))
        if nat + adv > 0:  # both 0: nothing left to weigh
            w_nat = self.r_w * nat / (nat + adv) + (1 - self.r_w) * self.w_nat
            w_adv = self.r_w * adv / (nat + adv) + (1 - self.r_w) * self.w_adv
            # Their sum is 1 but for rounding, which must not add up over a run.
            self.w_nat, self.w_adv = w_nat / (w_nat + w_adv), w_adv / (w_nat + w_adv)

    def _relative(self, values: Mapping[str, float]) -> tuple[float, float]:
        """(nat, adv) L / L(0). A divergence rounded below 0 counts as 0: no weight is negative."""
        assert self.first_nat is not None and self.first_adv is not None
        return max(values["nat"], 0.0) / self.first_nat, max(values["adv"], 0.0) / self.first_adv

    def readings(self, values: Mapping[str, float]) -> dict[str, float]:
        """The relative losses, and the absolute gaps that the two balances are to close."""
        nat, adv = self._relative(values)
        return {
            "relative_nat": nat,
            "relative_adv": adv,
            "relative_gap": abs(nat - adv),
            "entropy_gap": abs(values["entropy_nat"] - values["entropy_adv"]),
        }

    def decay(self, factor: float) -> None:
        self.r_tau *= factor
        self.r_w *= factor


def _knowledge(name: str, teacher: Tensor, tau: float) -> dict[str, Tensor]:
    """Mean entropy H of the tempered teacher, and its knowledge ln K - H (Table 1), in nats."""
    entropy = entropies(teacher.detach(), tau).mean()
    return {f"entropy_{name}": entropy, f"knowledge_{name}": math.log(teacher.shape[1]) - entropy}


def _clip(tau: float) -> float:
    return min(max(tau, COOLEST), HOTTEST)


def _require_finite(values: Mapping[str, float], *names: str) -> None:
    for name in names:
        if not math.isfinite(values[name]):
            raise RunError(
                f"{name} is {values[name]} in this step, expected a finite number: lower the "
                "learning rate, or check the teachers' logits"
            )


def _require_first(values: Mapping[str, float]) -> None:
    for name in ("nat", "adv"):
        if values[name] <= 0:
            raise RunError(
                f"the first {name} loss is {values[name]}, expected a positive one to measure "
                "later ones by: is the student a copy of its teacher?"
            )


mtard_baseline = BMTARD(entropy_balance=False, loss_balance=False)
mtard_ebb = BMTARD(loss_balance=False)
mtard = BMTARD(entropy_balance=False)
bmtard = BMTARD()
