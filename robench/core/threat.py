"""ThreatModel: what an adversary may change, and how its size is written."""

import math
import re
from typing import Literal, get_args

import msgspec

from robench.core.errors import InputError

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = get_args(Norm)
DEFAULT_EPS: dict[Norm, float] = {"linf": 8 / 255, "l2": 0.5}


class ThreatModel(msgspec.Struct, frozen=True):
    """A ball around each image, intersected with the box [0, 1].

    norm: "linf" or "l2". eps: radius in pixel units of [0, 1]; 0 is allowed and changes nothing.
    Raises: InputError for an unknown norm, or an eps that is no radius.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InputError(f"unknown norm {self.norm!r}: expected {' or '.join(NORMS)}")
        if not math.isfinite(self.eps) or self.eps < 0:
            raise InputError(f"eps must be a finite number >= 0, not {self.eps}")
        if self.norm == "linf" and self.eps > 1:
            raise InputError(
                f"eps {self.eps:g} is above 1, but pixels live in [0, 1]: "
                f"did you mean {self.eps:g}/255?"
            )
        # 1 and 1.0, 0.0 and -0.0 are equal but written differently: one ball, one record key.
        msgspec.structs.force_setattr(self, "eps", float(self.eps) + 0.0)

    def check_against(self, elements: int) -> None:
        """Refuse an l2 radius that no image of `elements` values can use (above sqrt(elements))."""
        if self.norm == "l2" and self.eps > math.sqrt(elements):
            raise InputError(
                f"eps {self.eps:g} is above {math.sqrt(elements):g}, the l2 diameter of images "
                f"with {elements} values in [0, 1]"
            )


def parse_number(text: str) -> float:
    """`8/255`, `0.031` or `2e-3` as a float; NaN and text are refused."""
    match = re.fullmatch(r"\s*([^/\s]+)\s*(?:/\s*([^/\s]+)\s*)?", text)
    try:
        if match is None:
            raise ValueError
        value = float(match[1]) / float(match[2] or 1)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"cannot read {text!r} as a number: write 8/255 or 0.031") from None
    if not math.isfinite(value):
        raise InputError(f"{text!r} is not a finite number: write 8/255 or 0.031")
    return value


def format_eps(eps: float) -> str:
    """The shortest text that `parse_number` reads back as eps: `0.031`, `8/255`, or all digits."""
    short, levels = f"{eps:g}", round(eps * 255)
    if float(short) == eps:
        return short
    return f"{levels}/255" if levels / 255 == eps else repr(eps)
