"""`robench leaderboard`: exit codes, stdout and stderr apart."""

import json

import pytest
import typer
from typer.testing import CliRunner

from robench.cli.leaderboard import leaderboard
from robench.core.errors import InputError, RunError
from robench.core.record import (
    AttackInfo,
    Cost,
    DefenseInfo,
    ImagesInfo,
    PassShape,
    Record,
    Verdict,
    Verdicts,
    write_record,
)
from robench.core.threat import ThreatModel

app = typer.Typer(rich_markup_mode=None)
app.command("leaderboard")(leaderboard)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def record(defense, survived, dataset="cifar10"):
    rows = [
        Verdict(i, 3, 3, 3 if s == "1" else 5, s == "1", 0.03, 0.5, 22, 20)
        for i, s in enumerate(survived)
    ]
    return Record(
        status="done",
        defense=DefenseInfo(
            name=defense,
            ref=defense,
            fingerprint=defense[0] * 64,
            architecture="resnet18",
            parameters=1000,
            num_classes=10,
            normalization="none",
        ),
        images=ImagesInfo(dataset=dataset, ref=dataset, n=len(rows), digest="d" * 64, ids="0-3"),
        threat=ThreatModel("linf", 8 / 255),
        attack=AttackInfo(name="pgd_sat", parameters={"steps": 20}),
        stop="last",
        precision="fp32",
        device_kind="cpu",
        pass_shape=PassShape(32, 32),
        seed=0,
        logit_probe="0" * 64,
        search_model="the defense itself",
        cost=Cost(started="2026-01-01T00:00:00Z"),
        verdicts=Verdicts.of(rows),
    )


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Two data sets under ROBENCH_HOME/records; `mart` leads on cifar10."""
    monkeypatch.setenv("ROBENCH_HOME", str(tmp_path))
    place = tmp_path / "records"
    for defense, survived in (("mart", "1110"), ("trades", "1100")):
        write_record(place / "cifar10" / defense / "pgd_sat-0.json", record(defense, survived))
    other = record("trades", "1000", "cifar100")
    write_record(place / "cifar100" / "trades" / "pgd_sat-0.json", other)
    return place


def test_the_users_records_are_the_default(records):
    result = run()
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.index("cifar10,") < result.stdout.index("cifar100,")
    assert result.stdout.index("mart ") < result.stdout.index("trades ")


def test_json_is_nothing_but_json(records):
    (records / "broken.json").write_text("{")
    for options in (["--json"], ["--format", "json"], ["--json", "--format", "json"]):
        result = run("--records", records, *options)
        rows = json.loads(result.stdout)["rows"]
        assert [row["defense"] for row in rows] == ["mart", "trades", "trades"]
        assert rows[0]["record"] == "cifar10/mart/pgd_sat-0.json"
        assert result.stderr.startswith("left out: ")
        assert "broken.json is not a record" in result.stderr


def test_csv_says_no_path_of_the_machine(records):
    result = run("--records", records, "--format", "csv")
    assert "cifar10/mart/pgd_sat-0.json" in result.stdout
    assert str(records) not in result.stdout


def test_places_are_repeatable(records):
    result = run(
        "--records", records / "cifar10" / "mart", "--records", records / "cifar100", "--json"
    )
    rows = json.loads(result.stdout)["rows"]
    assert [(row["defense"], row["dataset"]) for row in rows] == [
        ("mart", "cifar10"),
        ("trades", "cifar100"),
    ]


@pytest.mark.parametrize("format_", ["table", "md", "csv", "json"])
def test_a_file_gets_the_same_text(records, tmp_path, format_):
    out = tmp_path / "new" / "board"
    result = run("--format", format_, "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"wrote {out}\n"
    first = out.read_bytes()
    run("--format", format_, "--out", out)
    assert out.read_bytes() == first
    if format_ != "table":
        assert run("--format", format_).stdout.encode() == first
    assert [path.name for path in out.parent.iterdir()] == ["board"]


def test_a_file_that_cannot_be_written(records, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--out", tmp_path / "file" / "board.md", "--format", "md")
    assert isinstance(result.exception, RunError)


def test_dataset_and_order(records):
    result = run("--dataset", "cifar100", "--json")
    assert [row["dataset"] for row in json.loads(result.stdout)["rows"]] == ["cifar100"]
    result = run("--dataset", "cifar10", "--sort-by", "clean", "--format", "md")
    assert "Ranked by clean accuracy." in result.stdout
    rows = json.loads(run("--dataset", "cifar10", "--pi-adv", "1", "--json").stdout)["rows"]
    assert [row["w_robust"] for row in rows] == [0.75, 0.5]


def test_compare(records):
    result = run("--compare", "mart,trades")
    assert result.exit_code == 0
    assert "mart - trades: cifar10, 4 images" in result.stdout
    (clean, attack) = json.loads(run("--compare", "mart,trades", "--json").stdout)["comparisons"]
    assert (attack["column"], attack["only_first"], attack["only_second"]) == ("pgd_sat", 1, 0)
    assert clean["difference"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--records", "nowhere"], "no records folder nowhere"),
        (["--format", "tabel"], "unknown format 'tabel': did you mean 'table'"),
        (["--json", "--format", "csv"], "--json and --format csv contradict"),
        (["--dataset", "cifar"], "no records of data set 'cifar': did you mean 'cifar10'"),
        (["--sort-by", "pgd"], "cannot sort by 'pgd': did you mean 'pgd_sat'"),
        (["--pi-adv", "1.5"], r"--pi-adv must lie in \[0, 1\]"),
        (["--pi-adv", "nan"], r"--pi-adv must lie in \[0, 1\]"),
        (["--compare", "mart"], "--compare takes two defenses"),
        (["--compare", "mart,trade"], "no records of 'trade': did you mean 'trades'"),
        (["--compare", "mart,trades", "--format", "csv"], "shown as table or json, not as csv"),
    ],
)
def test_what_cannot_be_used(records, arguments, words):
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 2
    with pytest.raises(InputError, match=words):
        raise result.exception
    assert result.stdout == ""


def test_an_empty_folder_says_what_fills_it(tmp_path):
    result = run("--records", tmp_path, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"rows": []})
    assert "robench eval" in result.stderr


def test_help_has_examples():
    assert run("--help").stdout.count("Example: robench leaderboard") == 4
