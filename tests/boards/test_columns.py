"""Column labels: as short as tells, and equal only for equal attacks."""

import pytest

from robench.boards.columns import call, column_of, label_columns, matching


def labels(*records):
    return label_columns(column_of(record) for record in records)


def test_a_name_is_enough_where_it_tells(record):
    assert list(labels(record(attack="fgsm"), record(), record()).values()) == ["fgsm", "pgd_sat"]


def test_what_differs_stands_in_brackets(record):
    found = labels(
        record(parameters={"steps": 20, "step_size": 2 / 255}),
        record(parameters={"steps": 50, "step_size": 2 / 255}),
        record(parameters={"steps": 20, "step_size": 2 / 255}, stop="any"),
    )
    assert sorted(found.values()) == [
        "pgd_sat[steps=20,stop=any]",
        "pgd_sat[steps=20,stop=last]",
        "pgd_sat[steps=50,stop=last]",
    ]


def test_a_parameter_that_only_one_has(record):
    found = labels(record(parameters={}), record(parameters={"restarts": 2}))
    assert sorted(found.values()) == ["pgd_sat[restarts=2]", "pgd_sat[restarts=]"]


@pytest.mark.parametrize(
    ("text", "fitting"),
    [
        ("pgd_sat", ["pgd_sat[steps=20]", "pgd_sat[steps=50]"]),
        ("pgd_sat[steps=50]", ["pgd_sat[steps=50]"]),
        ("pgd_sat[step_size=2/255,steps=20]", ["pgd_sat[steps=20]"]),
        ("pgd_sat[stop=last]", ["pgd_sat[steps=20]", "pgd_sat[steps=50]"]),
        ("pgd_sat[steps=10]", []),
        ("fgsm[steps=1]", []),
        ("fgsm", ["fgsm"]),
        ("square", []),
    ],
)
def test_a_column_is_found_by_label_name_or_parameters(record, text, fitting):
    found = labels(
        record(attack="fgsm", parameters={}),
        record(parameters={"steps": 20, "step_size": 2 / 255}),
        record(parameters={"steps": 50, "step_size": 2 / 255}),
    )
    assert matching(text, found) == fitting


def test_a_call_can_be_typed():
    parameters = {
        "steps": 20,
        "step_size": 2 / 255,
        "rho": 0.75,
        "start": "uniform",
        "targets": None,
    }
    assert call("pgd", parameters) == "pgd[rho=0.75,start=uniform,step_size=2/255,steps=20]"
    assert call("apgd", {"eot": True}) == "apgd[eot=true]"
    assert call("fgsm", {}) == "fgsm"
