"""`--require` and `--require-despite`: the command in this process, up to its exit code's error."""

from pathlib import Path

import pytest

from robench.cli.main import app
from robench.core.errors import InputError, RequirementNotMet

FLAGGED = ["--defense", "python:tests.evaluation.planted:by_batch", "--dataset", "cifar10-sample"]
MET = ["--require", "robust_accuracy(fgsm) >= 0"]

DESPITE = ["--require-despite", "batch_statistics"]


def run(folder: Path, *arguments: str, attacks: str = "fgsm") -> None:
    app(
        ["eval", *FLAGGED, "--n", "16", "--attacks", attacks, "--out", str(folder), *arguments],
        standalone_mode=False,
    )


def test_a_fail_flag_stops_it_until_it_was_looked_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    with pytest.raises(
        RequirementNotMet, match=r"planted\.by_batch is flagged batch_statistics \("
    ):
        run(tmp_path, *MET)
    with pytest.raises(RequirementNotMet, match=r"then --require-despite batch_statistics$"):
        run(tmp_path, *MET, "--require-confident", "--require-despite", "no_op")
    assert "passed over" not in capsys.readouterr().err
    run(tmp_path, *MET, *MET, *DESPITE, "--require-despite", "no_op")
    said = capsys.readouterr()
    assert said.err.count("by_batch, fgsm: batch_statistics (") == 1
    assert "passed over by --require-despite" in said.err and "passed over" not in said.out


def test_the_worst_case_is_stopped_by_its_members(tmp_path: Path) -> None:
    requirement = ["--require", "w_robust(worst_case) >= 0"]
    with pytest.raises(RequirementNotMet, match=r"batch_statistics \(fgsm, pgd_sat: an image"):
        run(tmp_path, *requirement, attacks="fgsm,pgd_sat[steps=1]")
    run(tmp_path, *requirement, *DESPITE, attacks="fgsm,pgd_sat[steps=1]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MET, "--require-despite", "randomized"], "unknown flag 'randomized': did you mean 'ra"),
        ([*MET, "--require-despite", ""], "unknown flag ''"),
        (DESPITE, "there is no --require"),
    ],
)
def test_names_that_cannot_be_meant(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, *arguments)
    assert not list(tmp_path.iterdir())
