"""Transfer attacks: crafted once on a surrogate, judged on the defense, both countings told."""

from pathlib import Path

import pytest
import torch

from robench.core.errors import InputError
from robench.core.folders import crafted_folder
from robench.core.record import Record, read_record
from robench.evaluation.store import read_adversarial
from tests.harness import small_cnn
from tests.scored import score, small_set

OTHER = "python:tests.evaluation.planted:other"
THIRD = "python:tests.evaluation.planted:third"
DOUBLED = "python:tests.evaluation.planted:doubled"
EPS = 32 / 255


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def crafted() -> list[Path]:
    return sorted(crafted_folder().rglob("*.json"))


def flag(record: Record, name: str) -> float | None:
    return {found.name: found.value for found in record.flags}[name]


@pytest.mark.parametrize("attack", ["pgd_trades", "cw_inf"])
def test_the_surrogates_own_search_is_judged_on_the_defense(tmp_path: Path, attack: str) -> None:
    result = score(tmp_path, f"transfer_{attack}", surrogate=OTHER, eps=EPS, stop="last")
    (record,) = result.records
    (file,) = crafted()
    ids, candidates = read_adversarial(file)
    images, labels = small_set(), torch.from_numpy(small_set().labels)
    assert ids.tolist() == images.ids.tolist()
    with torch.no_grad():
        predictions = small_cnn()(candidates).argmax(dim=1)
    assert record.verdicts.prediction == predictions.tolist()
    right = (predictions == labels).tolist()
    correct = record.verdicts.clean_correct
    # A clean-wrong image is never robust here; published scripts count one that is put right.
    assert record.verdicts.survived == [a and b for a, b in zip(right, correct, strict=True)]
    assert flag(record, "published_count") == sum(right) / 64
    assert sum(correct) == 60 and sum(record.verdicts.survived) < 60

    # The same draws and steps as when the surrogate is attacked itself.
    white = score(tmp_path / "white", attack, small_cnn(seed=1), eps=EPS, save_adversarial=True)
    white_ids, white_candidates = read_adversarial(Path(white.rows[0].record or ""))
    own = torch.tensor(white.records[0].verdicts.clean_correct)
    assert 0 < int(own.sum()) < 64
    assert torch.equal(white_ids, ids)
    assert torch.equal(white_candidates[own], candidates[own])
    moved = (candidates != torch.from_numpy(images.images).float() / 255).flatten(1).any(dim=1)
    assert bool(moved.all())  # those that the surrogate gets wrong, too


def test_a_surrogate_with_the_same_gradients_is_as_strong_as_the_white_box(tmp_path: Path) -> None:
    transfer, white = score(
        tmp_path, "transfer_cw_inf,cw_inf", surrogate=DOUBLED, eps=4 / 255, stop="last"
    ).records
    assert transfer.verdicts.survived == white.verdicts.survived
    assert 0 < sum(white.verdicts.survived) < 60


def test_crafting_is_done_once_for_all_defenses(tmp_path: Path) -> None:
    score(tmp_path, "transfer_pgd_trades", surrogate=OTHER)
    (file,) = crafted()
    before = file.read_bytes(), file.stat().st_mtime_ns
    second = score(tmp_path, "transfer_pgd_trades", small_cnn(seed=3), surrogate=OTHER)
    assert crafted() == [file] and (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert second.rows[0].backward_passes == 0
    # Judging is all that is left: the clean pass and one of the candidate.
    assert second.records[0].verdicts.forward_passes == [2] * 64
    score(tmp_path, "transfer_pgd_trades[steps=3]", surrogate=OTHER)
    score(tmp_path, "transfer_pgd_trades", surrogate=OTHER, seed=1)
    score(tmp_path, "transfer_pgd_trades", surrogate=OTHER, eps=EPS)
    assert len(crafted()) == 4


def test_a_finished_record_asks_for_no_crafting(tmp_path: Path, home: Path) -> None:
    first = score(tmp_path, "transfer_cw_inf", surrogate=OTHER)
    for path in crafted():
        path.unlink()
    again = score(tmp_path, "transfer_cw_inf", surrogate=OTHER)
    assert again.records == first.records and crafted() == []


def test_no_surrogate_and_the_defense_itself_are_told_not_run(tmp_path: Path) -> None:
    (row,) = score(tmp_path, "transfer_pgd_trades").rows
    assert (row.status, row.reason) == ("not_run", "no surrogate: give --surrogate REF")
    (row,) = score(tmp_path, "transfer_cw_inf", small_cnn(seed=1), surrogate=OTHER).rows
    assert row.status == "not_run" and "is the defense itself" in (row.reason or "")
    (row,) = score(tmp_path, "transfer_cw_inf", surrogate=OTHER, norm="l2").rows
    assert row.status == "not_run" and "linf" in (row.reason or "")
    assert crafted() == []


def test_several_surrogates_give_a_row_each_and_their_worst_case(tmp_path: Path) -> None:
    result = score(
        tmp_path, "fgsm,transfer_cw_inf", surrogate=f"{OTHER},{THIRD}", eps=EPS, stop="last"
    )
    assert [row.attack for row in result.rows] == [
        "fgsm",
        "transfer_cw_inf",
        "transfer_cw_inf",
        "transfer_cw_inf (any)",
        "worst_case",
    ]
    one, two = (record.verdicts.survived for record in result.records[1:])
    pool = result.rows[3]
    assert pool.parameters == {"members": [OTHER, THIRD]}
    assert pool.robust_accuracy == sum(a and b for a, b in zip(one, two, strict=True)) / 64
    assert pool.robust_accuracy < min(sum(one), sum(two)) / 64
    (count,) = [flag for flag in pool.flags if flag.name == "published_count"]
    assert count.message.startswith(f"{OTHER}: ") and f"; {THIRD}: " in count.message


def test_the_surrogate_of_a_measurement_can_be_insisted_on(tmp_path: Path) -> None:
    (record,) = score(tmp_path, "transfer_cw_inf", surrogate=OTHER).records
    said = record.attack.parameters
    assert said["surrogate"] == OTHER and said["surrogate_precision"] == "fp32"
    insisting = f"surrogate_fingerprint={said['surrogate_fingerprint']}"
    (same,) = score(tmp_path, f"transfer_cw_inf[surrogate={OTHER},{insisting}]").records
    assert same.key == record.key
    with pytest.raises(InputError, match=r"has fingerprint .*, expected"):
        score(tmp_path, f"transfer_cw_inf[surrogate={THIRD},{insisting}]")


def test_parts_craft_their_own_images_and_become_the_whole(tmp_path: Path) -> None:
    (whole,) = score(tmp_path / "a", "transfer_cw_inf", surrogate=OTHER, eps=EPS).records
    for path in crafted():
        path.unlink()
    for part in ("1/2", "2/2"):
        score(tmp_path / "b", "transfer_cw_inf", surrogate=OTHER, eps=EPS, shard=part)
    (file,) = (tmp_path / "b").rglob("*.json")
    assert read_record(file).verdicts == whole.verdicts
