"""No step waits for the GPU more often than the tables of `tests/gpu/syncs.py` say, or less."""

import pytest

from robench.training import METHODS
from tests.gpu.syncs import (
    ATTACK_STEPS,
    TRAINING_STEPS,
    USUAL_STEP,
    Step,
    attack_cases,
    attack_step,
    training_step,
)


def hold(step: Step, pinned: tuple[int, int], what: str) -> None:
    counted = step.rounded
    sites = "\n".join(f"{times} {kind} at {site}" for (kind, site), times in step.sites.items())
    more = any(now > then for now, then in zip(counted, pinned, strict=True))
    assert not more, f"{what}: {counted} (syncs, uploads) a step, {pinned} before; in all\n{sites}"
    assert counted == pinned, f"{what} waits less than before: write {counted} into the table"


@pytest.mark.parametrize(("name", "norm"), attack_cases())
def test_a_step_of_an_attack(name: str, norm: str) -> None:
    step = attack_step(name, norm)
    assert (name, norm) in ATTACK_STEPS, f"a new attack: write {step.rounded} into the table"
    hold(step, ATTACK_STEPS[name, norm], f"{name} under {norm}")


@pytest.mark.parametrize("method", METHODS.names())
def test_a_training_step(method: str) -> None:
    hold(training_step(method), TRAINING_STEPS.get(method, USUAL_STEP), method)


def test_the_tables_name_nothing_that_is_gone() -> None:
    assert set(ATTACK_STEPS) <= set(attack_cases())
    assert set(TRAINING_STEPS) <= set(METHODS.names())


def test_one_wait_more_is_found_and_so_is_one_less() -> None:
    step = training_step("natural")
    assert step.launches > 100 and sum(step.sites.values()) == 1
    with pytest.raises(AssertionError, match=r"training/engine\.py"):
        hold(step, (0, 0), "natural")
    with pytest.raises(AssertionError, match="waits less than before"):
        hold(step, (2, 0), "natural")
