"""Images and candidates of a record, found again: the judged ones, or an error that says why."""

from copy import deepcopy
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

import robench
from robench.core.errors import InputError
from robench.core.record import Record, candidate_files, read_record
from robench.evaluation.kept import judged_images
from tests.harness import small_cnn

IDS = [28, 20, 31]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record of the small network on twelve images, with its candidates: it knows three."""
    reference = "python:tests.evaluation.planted:build"
    options = {"dataset": "cifar10-sample", "images": "20-31", "eps": 32 / 255, "out": tmp_path}
    result = robench.evaluate(reference, "fgsm", save_adversarial=True, **options)
    return Path(result.rows[0].record or "")


def with_images(record: Record, **fields: object) -> Record:
    other = deepcopy(record)
    other.images = msgspec.structs.replace(record.images, **fields)
    return other


def test_the_images_are_those_that_the_verdicts_are_of(path: Path) -> None:
    record = read_record(path)
    verdicts = {verdict.id: verdict for verdict in record.verdicts}
    found = judged_images(path, record, list(verdicts))
    assert found.class_names[3] == "cat" and found.clean.shape == (12, 32, 32, 3)
    for images, stated in (
        (found.clean, [v.clean_prediction for v in verdicts.values()]),
        (found.adversarial, [v.prediction for v in verdicts.values()]),
    ):
        with torch.no_grad():
            logits = small_cnn()(torch.from_numpy(images).permute(0, 3, 1, 2))
        assert logits.argmax(dim=1).tolist() == stated
    moved = abs(found.adversarial - found.clean).max(axis=(1, 2, 3)).tolist()
    assert moved == pytest.approx([v.distance for v in verdicts.values()], abs=1e-6)
    assert sum(distance > 0 for distance in moved) == 3 and not any(found.refused)


def test_they_come_in_the_order_asked_for(path: Path) -> None:
    record = read_record(path)
    every, some = (judged_images(path, record, ids) for ids in (list(range(20, 32)), IDS))
    places = [image_id - 20 for image_id in IDS]
    assert (some.clean == every.clean[places]).all()
    assert (some.adversarial == every.adversarial[places]).all()


def test_a_refused_candidate_gives_way_to_the_clean_image(path: Path) -> None:
    record = read_record(path)
    place = record.verdicts.id.index(28)
    assert record.verdicts.distance[place] > 0
    record.verdicts.distance[place] = 0.0
    record.verdicts.flags[place] = ("rejected_ball",)
    found = judged_images(path, record, [28])
    assert found.refused == (True,) and (found.adversarial == found.clean).all()
    record.verdicts.flags[place] = ()
    with pytest.raises(InputError, match=r"candidate of image 28 .* is not the judged one"):
        judged_images(path, record, [28])


@pytest.mark.parametrize("value", [0.9, float("nan")])
def test_candidates_of_something_else_are_noticed(path: Path, value: float) -> None:
    (part,) = candidate_files(path)
    content = load_file(part)
    content["candidates"][0, 0, 0, 0] = value
    save_file(content, part)
    with pytest.raises(InputError, match=r"candidate of image 20 .* is not the judged one"):
        judged_images(path, read_record(path), IDS)
    save_file({**content, "candidates": content["candidates"][:, :, :8].contiguous()}, part)
    with pytest.raises(InputError, match=r"are \(3, 8, 32\), its images \(3, 32, 32\)"):
        judged_images(path, read_record(path), IDS)


def test_missing_and_damaged_candidates_are_one_line(path: Path) -> None:
    (part,) = candidate_files(path)
    content, whole = load_file(part), part.read_bytes()
    save_file({name: values[:8].contiguous() for name, values in content.items()}, part)
    with pytest.raises(InputError, match=r"no candidate of image 28 .* --save-adversarial"):
        judged_images(path, read_record(path), IDS)
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="are damaged"):
        judged_images(path, read_record(path), IDS)


def test_other_images_and_absent_ones_are_refused(path: Path) -> None:
    record = read_record(path)
    with pytest.raises(InputError, match="robench data fetch cifar10"):
        judged_images(path, with_images(record, ref="cifar10"), IDS)
    with pytest.raises(InputError, match="digest differs"):
        judged_images(path, with_images(record, digest="0" * 64), IDS)
