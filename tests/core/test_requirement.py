"""Requirements: what they read, and when a row meets one."""

import pytest

from robench.core.errors import InputError
from robench.core.record import Flag
from robench.core.requirement import Requirement
from robench.core.row import Row


def row(status: str = "done", flags: tuple[Flag, ...] = ()) -> Row:
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
        flags=flags,
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


def flag(name: str, level: str = "fail", message: str = "m") -> Flag:
    return Flag(name=name, level=level, message=message)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["w_robust", "robust_accuracy", "clean_accuracy"])
@pytest.mark.parametrize("sign", [">=", "<="])
def test_a_fail_flag_stops_every_requirement(metric: str, sign: str) -> None:
    requirement = Requirement.parse(f"{metric}(pgd_sat) {sign} {0 if sign == '>=' else 1}")
    for name in ("no_op", "stateful", "rejected_ball", "not_in_our_table"):
        flagged = [row(flags=(flag("tie", "info"), flag(name)))]
        (reason,) = requirement.unmet(flagged, confident=False)
        assert f"d is flagged {name} (m)" in reason and f"--require-despite {name}" in reason
        assert requirement.unmet(flagged, False, despite=["tie"]) == [reason]
        assert requirement.unmet(flagged, False, despite=[name]) == []
        if metric != "clean_accuracy":
            assert requirement.unmet(flagged, confident=True) == [reason]


@pytest.mark.parametrize("level", ["info", "warn"])
def test_lesser_flags_stop_nothing(level: str) -> None:
    requirement = Requirement.parse("w_robust(pgd_sat) >= 0.60")
    assert requirement.unmet([row(flags=(flag("zero_gradient", level),))], confident=False) == []


def test_reasons_come_in_order_and_each_flag_must_be_looked_into() -> None:
    flags = (flag("no_op"), flag("stateful", message="depends on " + "many " * 50))
    requirement = Requirement.parse("w_robust(pgd_sat) >= 0.61")
    figure, flagged = requirement.unmet([row(flags=flags)], confident=False)
    assert "d has 0.6000" in figure and len(flagged) < 300
    assert "no_op (m), stateful (depends on many" in flagged
    assert flagged.endswith("then --require-despite no_op --require-despite stateful")
    (_, left) = requirement.unmet([row(flags=flags)], False, despite=["no_op"])
    assert "no_op" not in left and "--require-despite stateful" in left
    (status,) = requirement.unmet([row("partial", flags)], confident=False)
    assert "d is partial" in status


def test_what_was_passed_over_is_said() -> None:
    requirement = Requirement.parse("w_robust(pgd_sat) >= 0.60")
    rows = [row(flags=(flag("no_op"), flag("stateful"), flag("tie", "info")))]
    said = requirement.passed_over(rows, ["no_op", "tie", "randomised"])
    assert said == ["d, pgd_sat: no_op (m) passed over by --require-despite"]
    assert Requirement.parse("w_robust(fgsm) >= 0").passed_over(rows, ["no_op"]) == []
    assert requirement.passed_over([row("failed", (flag("no_op"),))], ["no_op"]) == []


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
