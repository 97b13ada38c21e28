"""`robench.evaluate`: what it returns, refuses and remembers."""

from pathlib import Path

import pytest

import robench
from robench.core.errors import InputError, RequirementNotMet
from robench.core.record import read_record
from robench.evaluation.pace import Progress
from robench.evaluation.reverify import reverify
from robench.evaluation.store import read_adversarial
from tests.harness import small_cnn
from tests.scored import score, small_set

REFERENCE = "python:tests.evaluation.planted:build"


def test_rows_and_their_worst_case(tmp_path: Path) -> None:
    result = score(tmp_path, "fgsm,cw_inf", eps=4 / 255)
    assert [row.attack for row in result.rows] == ["fgsm", "cw_inf", "worst_case"]
    fgsm, cw, worst = result.rows
    both = [
        a and b
        for a, b in zip(*(record.verdicts.survived for record in result.records), strict=True)
    ]
    assert worst.robust_accuracy == sum(both) / 64 <= min(fgsm.robust_accuracy, cw.robust_accuracy)
    assert fgsm.clean_accuracy == 60 / 64
    assert fgsm.w_robust == pytest.approx((fgsm.clean_accuracy + fgsm.robust_accuracy) / 2)
    frame = result.to_dataframe()
    assert list(frame["attack"]) == ["fgsm", "cw_inf", "worst_case"]
    assert frame["w_robust"][0] == fgsm.w_robust


def test_the_three_lines_of_the_readme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = readme.split("<!-- three-lines -->")[1].split("```python\n")[1].split("```")[0]
    assert len([line for line in block.splitlines() if line]) == 3
    names: dict[str, object] = {"my_module": small_cnn()}
    exec(block, names)  # the lines as a reader would paste them
    row = names["result"].row("pgd_sat")  # type: ignore[attr-defined]
    assert row.status == "done" and row.n == 32
    assert Path(row.record).is_relative_to(tmp_path.parents[0]) or Path(row.record).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 65}, "64"),
        ({"n": 0}, "1"),
        ({"images": "100-99999"}, "99999|164"),
        ({"n": 3, "images": "100"}, "not both"),
        ({"eps": -0.1}, ">= 0"),
        ({"eps": 8}, "did you mean 8/255"),
        ({"eps": float("nan")}, "finite"),
        ({"norm": "l2", "eps": 100.0}, "l2 diameter"),
        ({"norm": "l1"}, "unknown norm"),
        ({"stop": "first"}, "runs with last or any"),
        ({"precision": "fp8"}, "unknown precision"),
        ({"device": "tpu"}, "unknown device"),
        ({"batch_size": 0}, "at least 1"),
        ({"shard": "3/2"}, "expected i/k"),
        ({"pi_adv": 1.5}, r"\[0, 1\]"),
        ({"dataset": "cifar11"}, "did you mean 'cifar1"),
        ({"dataset": None}, "give --dataset"),
        ({"batchsize": 3}, "takes no option 'batchsize'"),
    ],
)
def test_bad_options_are_one_clear_line(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        score(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_unknown_defenses_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'natural-resnet18'"):
        robench.evaluate("natural-resnet8", "fgsm", out=tmp_path)


def test_the_defense_brings_its_data_set_and_eps(tmp_path: Path) -> None:
    row = robench.evaluate(
        "fast-at-resnet18-w32", "fgsm", dataset="cifar10-sample", n=16, out=tmp_path
    ).rows[0]
    assert row.eps == 8 / 255 and row.clean_accuracy == 13 / 16
    record = read_record(Path(row.record or ""))
    assert record.defense.dataset == "cifar10" and record.defense.checkpoint_sha256


def test_saved_candidates_are_judged_again(tmp_path: Path) -> None:
    result = robench.evaluate(
        REFERENCE,
        "pgd_sat",
        dataset="cifar10-sample",
        n=24,
        out=tmp_path,
        save_adversarial=True,
        batch_size=8,
    )
    path = Path(result.rows[0].record or "")
    found = reverify(path)
    assert found.checked == 24 and not found.differ
    ids, candidates = read_adversarial(path)
    assert ids.tolist() == list(range(24)) and candidates.dtype.is_floating_point


def test_candidates_can_be_had_of_a_finished_record(tmp_path: Path) -> None:
    """Searching again for them gives the same verdicts, and never loses the finished record."""

    def stop(state: Progress) -> None:
        raise KeyboardInterrupt

    options = {"dataset": "cifar10-sample", "n": 24, "out": tmp_path}
    first = robench.evaluate(REFERENCE, "pgd_sat", **options)
    with pytest.raises(KeyboardInterrupt):
        robench.evaluate(REFERENCE, "pgd_sat", save_adversarial=True, progress=stop, **options)
    path = Path(first.rows[0].record or "")
    assert read_record(path).status == "done"
    again = robench.evaluate(REFERENCE, "pgd_sat", save_adversarial=True, **options)
    assert again.records[0].verdicts == first.records[0].verdicts
    assert reverify(path).checked == 24


def test_tampered_candidates_are_noticed(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    result = robench.evaluate(
        REFERENCE,
        "fgsm",
        dataset="cifar10-sample",
        n=24,
        out=tmp_path,
        save_adversarial=True,
        eps=32 / 255,
    )
    path = Path(result.rows[0].record or "")
    (part,) = path.with_suffix(".adversarial").iterdir()
    content = load_file(part)
    broken = [v.id for v in result.records[0].verdicts if v.broken_by == "fgsm"]
    assert broken
    content["candidates"][broken[0]] += 0.5  # out of the ball: breaks nothing any more
    save_file(content, part)
    assert reverify(path).differ == [broken[0]]


def test_verify_needs_candidates(tmp_path: Path) -> None:
    path = Path(score(tmp_path, "fgsm").rows[0].record or "")
    with pytest.raises(InputError, match="--save-adversarial"):
        reverify(path)


def test_a_likely_wrong_normalisation_is_named(tmp_path: Path) -> None:
    result = robench.evaluate(
        "fast-at-resnet18-w32",
        "fgsm",
        dataset="cifar10-sample",
        n=64,
        out=tmp_path,
        normalize="imagenet",
    )
    assert result.warnings and "--normalize none" in result.warnings[0]
    assert result.rows[0].status == "done"


def test_records_are_kept_apart_by_what_changes_a_verdict(tmp_path: Path) -> None:
    settings: list[dict[str, object]] = [
        {},
        {"eps": 4 / 255},
        {"seed": 1},
        {"stop": "any"},
        {"dataset": small_set(32)},
    ]
    paths = {score(tmp_path, **options).rows[0].record for options in settings}
    assert len(paths) == len(settings)
    assert score(tmp_path, batch_size=3).rows[0].record in paths
    assert RequirementNotMet.exit_code == 1


def test_estimates_are_bounds(tmp_path: Path) -> None:
    seen = []
    result = score(tmp_path, "fgsm,pgd_sat", on_estimate=seen.append)
    (cost,) = seen
    assert cost.images == 64
    assert cost.forward_passes == 64 * (1 + 20 + 4) and cost.backward_passes == 64 * 21
    spent = sum(row.forward_passes for row in result.rows[:2])
    assert spent <= cost.forward_passes and cost.seconds > 0
    assert not score(tmp_path / "dry", dry_run=True).rows


def test_what_has_a_finished_record_costs_nothing_and_is_said_to_be_read(tmp_path: Path) -> None:
    first = score(tmp_path, "fgsm")
    seen = []
    score(tmp_path, "fgsm,pgd_sat", on_estimate=seen.append)
    (cost,) = seen
    assert (cost.read, cost.forward_passes) == (("fgsm",), 64 * (20 + 2))
    again = score(tmp_path, "fgsm", on_estimate=seen.append)
    assert (seen[1].forward_passes, seen[1].seconds) == (0, 0)
    assert [row.record for row in again.rows] == [row.record for row in first.rows]
    score(tmp_path, "fgsm", on_estimate=seen.append, save_adversarial=True)
    assert (seen[2].read, seen[2].forward_passes) == ((), 64 * (1 + 2))


def test_adapters_say_that_they_ran_on_the_defense_itself(tmp_path: Path) -> None:
    result = score(tmp_path, "foolbox:LinfPGD[steps=2]", precision="auto")
    record = result.records[0]
    assert record.precision == "fp32" and record.search_model == "the unmodified defense"
    assert record.attack.parameters["steps"] == 2
    assert "batch_dependent" in {flag.name for flag in record.flags}


def test_queries_of_a_black_box_attack_are_stated(tmp_path: Path) -> None:
    result = score(tmp_path, "square[queries=7],fgsm", eps=2 / 255)
    record, white = result.records
    asked = [
        q for q, c in zip(record.verdicts.queries, record.verdicts.clean_correct, strict=True) if c
    ]
    row = result.rows[0]
    assert row.queries_mean == sum(asked) / 60 and row.queries_most == max(asked) == 7
    assert row.queries_median == sorted(asked)[30] == sorted(asked)[29]
    assert row.queries == sum(asked)  # a clean-wrong image is asked nothing
    assert record.search_model == "the unmodified defense" and record.precision == "fp32"
    assert record.summary().queries is not None and white.summary().queries is None
    assert read_record(Path(row.record or "")) == record
    assert result.rows[1].queries_mean is None
