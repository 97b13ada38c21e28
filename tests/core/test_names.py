"""Comma lists, calls, and the nearest names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robench.core.errors import InputError
from robench.core.names import did_you_mean, parse_call, split_list


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("fgsm,pgd_sat", ["fgsm", "pgd_sat"]),
        (
            " fgsm , pgd_sat[steps=50,step_size=2/255] ,",
            ["fgsm", "pgd_sat[steps=50,step_size=2/255]"],
        ),
        ("", []),
        (",,", []),
        ("a[b[c,d],e],f", ["a[b[c,d],e]", "f"]),
    ],
)
def test_lists(text, items):
    assert split_list(text) == items


@pytest.mark.parametrize("text", ["a[b,c", "a]b", "a][b", "a[b]]"])
def test_brackets_must_match(text):
    with pytest.raises(InputError, match="brackets do not match"):
        split_list(text)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("fgsm", "fgsm", {}),
        ("fgsm[]", "fgsm", {}),
        ("pgd_sat[steps=50]", "pgd_sat", {"steps": "50"}),
        (" pgd [ a = 1 , b=2/255 ] ", "pgd", {"a": "1", "b": "2/255"}),
        ("python:pkg.module:factory", "python:pkg.module:factory", {}),
        ("foolbox:LinfPGD[rel_stepsize=0.1]", "foolbox:LinfPGD", {"rel_stepsize": "0.1"}),
        ("a[b=c=d]", "a", {"b": "c=d"}),
    ],
)
def test_calls(text, name, arguments):
    assert parse_call(text) == (name, arguments)


@pytest.mark.parametrize("text", ["", " ", "[a=1]", "a[b=1]c", "a[b=1", "a]", "a[b[c]=1]"])
def test_no_calls(text):
    with pytest.raises(InputError, match="expected name"):
        parse_call(text)


@pytest.mark.parametrize("text", ["a[b]", "a[=1]", "a[b=]", "a[b=1,c]"])
def test_no_arguments(text):
    with pytest.raises(InputError, match="expected key=value"):
        parse_call(text)


def test_an_argument_given_twice():
    with pytest.raises(InputError, match="'b' is given twice"):
        parse_call("a[b=1,b=2]")


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        calls = [parse_call(item) for item in split_list(text)]
    except InputError as error:
        assert "\n" not in str(error) or "\n" in text
        return
    for name, arguments in calls:
        assert name and name == name.strip() and not set(name) & set("[]")
        assert all(key and value for key, value in arguments.items())


def test_nearest_names():
    known = ["fgsm", "pgd_sat", "pgd_trades", "autoattack"]
    assert did_you_mean("pgd_sta", known) == ": did you mean 'pgd_sat'?"
    assert did_you_mean("autoatack", known) == ": did you mean 'autoattack'?"
    assert did_you_mean("PGD_SAT", known) == ": did you mean 'pgd_sat'?"
    assert (
        did_you_mean("foolbox:linfpgd", ["foolbox:LinfPGD"]) == ": did you mean 'foolbox:LinfPGD'?"
    )
    assert did_you_mean("zzz", known) == ""
    assert did_you_mean("pgd_s", ["pgd_sa", "pgd_sb"]).count(" or ") == 1
