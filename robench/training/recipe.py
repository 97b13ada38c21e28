"""Recipe: everything that decides a training run, as typed data."""

import math
from typing import Annotated, Any, Literal

import msgspec

from robench.core.errors import InputError
from robench.core.threat import parse_number

Number = float | str
"""A float, or a fraction such as "8/255"."""
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inner maximisation: signed gradient ascent on the method's own loss."""

    eps: Number = "8/255"
    steps: Annotated[int, msgspec.Meta(ge=1)] = 10
    step_size: Number = "2/255"
    start: Literal["gauss1e-3", "uniform"] = "gauss1e-3"
    """0.001 N(0, 1), or uniform in the ball."""
    craft_mode: Literal["eval", "train", "train_frozen_stats"] = "eval"
    """Batch norm while crafting: running statistics; the batch's, which also move the running ones;
    the batch's, which do not."""

    def __post_init__(self) -> None:
        try:
            radius, step = self.radius, self.step
        except InputError as error:
            raise ValueError(str(error)) from error  # msgspec adds the path to a ValueError
        if not 0 < radius <= 1:
            raise ValueError(f"eps must be above 0 and at most 1, as 8/255, not {self.eps}")
        if not 0 < step < math.inf:
            raise ValueError(f"step_size must be above 0, as 2/255, not {self.step_size}")

    @property
    def radius(self) -> float:
        """eps in pixel units of [0, 1]."""
        return parse_number(self.eps) if isinstance(self.eps, str) else self.eps

    @property
    def step(self) -> float:
        """step_size in pixel units."""
        return parse_number(self.step_size) if isinstance(self.step_size, str) else self.step_size


class Student(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network that is trained."""

    arch: str = "resnet18"
    width: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """None: the published one."""
    normalize: str = "none"
    """A listed normalisation or MEAN/STD, in front of the network."""


class Optimizer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SGD on all parameters, batch norm and biases included, and its schedule."""

    lr: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    """Base rate; the highest one under "one-cycle"."""
    momentum: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 2e-4
    nesterov: bool = False
    schedule: Literal["steps", "one-cycle"] = "steps"
    """steps: lr x decay after the epochs `milestones`; one-cycle: linear up, then linear to 0."""
    milestones: list[Fraction] = []
    """Fractions of the run; the method's own rates decay there under any schedule."""
    decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    peak: Fraction = 0.3
    """one-cycle: the fraction of the run at which lr is reached."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.lr, self.weight_decay))):
            raise ValueError("lr and weight_decay must be finite numbers")
        pairs = zip(self.milestones, self.milestones[1:], strict=False)
        if not all(earlier < later for earlier, later in pairs):
            raise ValueError(f"milestones must increase, unlike {self.milestones}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0: set optimizer.momentum=0.9")


class Teacher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A defense reference, and what it is known to reach."""

    ref: str
    clean: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Clean accuracy as a fraction of 1; the check before training warns 3 points below it."""
    robust: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Accuracy under pgd_trades; the check warns 5 points below it."""


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the best checkpoint is chosen: W-Robust under `attack`, ties to the earlier epoch."""

    part: Literal["validation", "test"] = "validation"
    """test: for parity with published scripts; named in every result."""
    images: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Of the training part, class-balanced; with part "test" the first so many test images."""
    attack: str = "pgd_trades"
    every: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Epochs between scores; None: each epoch of a run of at most 40, else every 20 and each one
    after the first milestone."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run: the same recipe on the same kind of device gives the same weights."""

    method: str
    dataset: str
    preset: str = "paper"
    role: Literal["student", "teacher"] = "student"
    label: str = ""
    """Said wherever a result is shown: "small-scale, 5-step"."""
    epochs: Annotated[int, msgspec.Meta(ge=1)] = 300
    batch_size: Annotated[int, msgspec.Meta(ge=2)] = 128
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    augment: bool = True
    """Zero-pad 4, crop at random, flip with chance 1/2."""
    student: Student = Student()
    optimizer: Optimizer = Optimizer()
    inner: Inner = Inner()
    selection: Selection = Selection()
    teachers: dict[str, Teacher] = {}
    parameters: dict[str, Any] = {}
    """The method's own."""
