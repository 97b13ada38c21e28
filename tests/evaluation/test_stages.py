"""Searches of several stages: what an interruption finds done is not done again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from robench.attacks.square import Square
from robench.core.record import Record, read_record
from robench.evaluation.engine import even_block
from robench.evaluation.pace import PassSeconds, Progress
from tests.scored import comparable, score, small_set

SQUARE = "square_5000[queries=121]"  # three stages, each of which needs what the last one kept


@pytest.fixture(autouse=True, scope="module")
def short_stages() -> Iterator[None]:
    """A tenth of the queries, and of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Square, "per_stage", 50)
        torch.set_num_threads(1)  # a module's fixture comes before those of its tests
        yield


def measured(folder: Path, **options: object) -> Record:
    options = {"dataset": small_set(16), "eps": 12 / 255, "batch_size": 4, **options}
    return score(folder, SQUARE, **options).records[0]


def stop_in(stage: str, after: int = 1) -> Callable[[Progress], None]:
    """Ctrl-C at the n-th pass of a stage."""
    seen = 0

    def report(state: Progress) -> None:
        nonlocal seen
        seen += stage in state.stage
        if seen == after:
            raise KeyboardInterrupt

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Record:
    record = measured(tmp_path_factory.mktemp("whole"))
    assert 2 < sum(record.verdicts.survived) < 12
    return record


def test_verdicts_do_not_depend_on_what_is_in_flight(tmp_path: Path, whole: Record) -> None:
    for size in (1, 7, 16):
        assert comparable(measured(tmp_path / str(size), batch_size=size)) == comparable(whole)


def test_blocks_are_about_as_large() -> None:
    """356 images at 320 a block were 320 and 36; now 192 and 164. Never less than fills a pass."""
    assert even_block(356, most=366, fill=64) == 192
    assert even_block(164, most=366, fill=64) == 192
    assert even_block(10_000, most=1024, fill=64) == 1024
    assert even_block(100, most=3, fill=7) == 7
    assert even_block(1, most=1, fill=64) == 64


def test_a_stage_that_is_done_is_not_done_again(tmp_path: Path, whole: Record) -> None:
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, progress=stop_in("102-121"))
    (kept,) = tmp_path.rglob("*.progress")
    assert read_record(kept.with_suffix(".json")).status == "partial"
    passes = 0

    def count(state: Progress) -> None:
        nonlocal passes
        passes += "102-121" in state.stage
        assert "queries 1-" not in state.stage and "52-" not in state.stage

    again = measured(tmp_path, progress=count)
    assert comparable(again) == comparable(whole)
    assert passes >= 20 and not list(tmp_path.rglob("*.progress"))


def test_interruptions_anywhere_change_nothing(tmp_path: Path, whole: Record) -> None:
    cuts = [("1-51", 20), ("1-51", 60), ("52-101", 70), ("52-101", 30), ("102-121", 25)]
    for stage, after in cuts:
        with pytest.raises(KeyboardInterrupt):
            measured(tmp_path, progress=stop_in(f"queries {stage}", after))
    record = measured(tmp_path)
    assert comparable(record) == comparable(whole)
    assert record.cost.sittings == 6 and record.cost.passes_redone > 0


def test_candidates_survive_an_interruption(tmp_path: Path, whole: Record) -> None:
    from robench.evaluation.store import read_adversarial

    straight = measured(tmp_path / "straight", save_adversarial=True)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "cut", save_adversarial=True, progress=stop_in("102-121", 10))
    cut = measured(tmp_path / "cut", save_adversarial=True)
    assert comparable(cut) == comparable(straight) == comparable(whole)
    paths = [next((tmp_path / name).rglob("*.json")) for name in ("straight", "cut")]
    (ids, x), (other_ids, y) = (read_adversarial(path) for path in paths)
    assert ids.equal(other_ids) and x.equal(y)


def test_the_whole_takes_up_what_shards_have_begun(tmp_path: Path, whole: Record) -> None:
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, shard="2/2", progress=stop_in("102-121"))
    seen: set[str] = set()

    def note(state: Progress) -> None:
        seen.add(f"{state.stage} {state.total}")

    assert comparable(measured(tmp_path, progress=note)) == comparable(whole)
    assert not list(tmp_path.rglob("*.progress"))
    assert {text.split()[-1] for text in seen} == {"16"}


@pytest.mark.parametrize("damage", ["truncated", "other shape"])
def test_progress_that_cannot_be_used_is_left_aside(
    tmp_path: Path, whole: Record, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, progress=stop_in("102-121"))
    (path,) = tmp_path.rglob("*.progress")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        save_file(load_file(path), path, {"search_rows": "7"})
    assert comparable(measured(tmp_path)) == comparable(whole)
    assert ("damaged" in caplog.text) == (damage == "truncated")


def test_the_bound_falls_and_the_work_grows(tmp_path: Path, whole: Record) -> None:
    states: list[Progress] = []
    measured(tmp_path, progress=states.append)
    bounds, done = [s.unbroken for s in states], [s.done for s in states]
    assert bounds == sorted(bounds, reverse=True) and bounds[-1] == sum(whole.verdicts.survived)
    assert done[-1] == pytest.approx(16) and all(0 <= share <= 16 for share in done)
    assert states[-1].seconds_left == pytest.approx(0, abs=1e-6)


def test_a_gradient_pass_holds_a_forward() -> None:
    one = PassSeconds(forward=1.0, gradient=3.0)
    assert one.of(10, 4) == 6 * 1.0 + 4 * 3.0
