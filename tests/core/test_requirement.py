"""Requirements: what they read, and when a row meets one."""

import pytest

from robench.core.errors import InputError
from robench.core.requirement import Requirement
from robench.core.row import Row


def row(status: str = "done", **figures: object) -> Row:
    return Row(
        defense="d",
        dataset="cifar10",
        attack="pgd_sat",
        status=status,  # type: ignore[arg-type]
        norm="linf",
        eps=8 / 255,
        clean_accuracy=0.8,
        robust_accuracy=0.4,
        w_robust=0.6,
        robust_interval_95=(0.35, 0.45),
        w_robust_interval_95=(0.55, 0.65),
    )


@pytest.mark.parametrize(
    ("text", "met", "met_confidently"),
    [
        ("w_robust(pgd_sat) >= 0.60", True, False),
        ("w_robust(pgd_sat) > 0.60", False, False),
        ("w_robust(pgd_sat) >= 55%", True, True),
        ("robust_accuracy( pgd_sat )>=0.35", True, True),
        ("robust_accuracy(pgd_sat) <= 0.42", True, False),
        ("robust_accuracy(pgd_sat) < 0.46", True, True),
        ("w_robust(cw_inf) >= 0", False, False),
    ],
)
def test_lines(text: str, met: bool, met_confidently: bool) -> None:
    requirement = Requirement.parse(text)
    assert (not requirement.unmet([row()], confident=False)) == met
    assert (not requirement.unmet([row()], confident=True)) == met_confidently


@pytest.mark.parametrize("status", ["partial", "failed", "not_run"])
def test_unfinished_rows_do_not_meet_anything(status: str) -> None:
    unmet = Requirement.parse("w_robust(pgd_sat) >= 0").unmet([row(status)], confident=False)
    assert unmet and status in unmet[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w_robust >= 0.6", "cannot read requirement"),
        ("w_robus(pgd_sat) >= 0.6", "did you mean 'w_robust'"),
        ("w_robust(pgd_sat) >= 60", "write 0.6 or 60%"),
        ("w_robust(pgd_sat) = 0.6", "cannot read requirement"),
        ("w_robust(pgd_sat) >= 0.6.1", "cannot read"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Requirement.parse(text)
