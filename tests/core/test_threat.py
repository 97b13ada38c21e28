"""Threat models: what is no radius is refused, with what to type instead."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robench.core.errors import InputError
from robench.core.record import AttackInfo, measurement_key
from robench.core.threat import ThreatModel, format_eps, parse_number


def test_eight_means_eight_grey_levels():
    with pytest.raises(InputError, match="did you mean 8/255"):
        ThreatModel("linf", parse_number("8"))
    assert ThreatModel("linf", parse_number("8/255")).eps == 8 / 255


@pytest.mark.parametrize("eps", [math.nan, math.inf, -math.inf, -0.1, -8 / 255])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_radius(norm, eps):
    with pytest.raises(InputError, match="finite number >= 0"):
        ThreatModel(norm, eps)


def test_limits_are_allowed():
    assert ThreatModel("linf", 0.0).eps == 0
    assert ThreatModel("linf", 1.0).eps == 1
    with pytest.raises(InputError):
        ThreatModel("linf", math.nextafter(1.0, 2.0))
    assert ThreatModel("l2", 8.0).eps == 8  # above 1 is a radius in l2


def test_unknown_norm_names_the_known_ones():
    with pytest.raises(InputError, match="linf or l2"):
        ThreatModel("l1", 0.5)


def test_l2_radius_beyond_the_diameter():
    elements = 3 * 32 * 32
    ThreatModel("l2", math.sqrt(elements)).check_against(elements)
    ThreatModel("linf", 1.0).check_against(elements)
    with pytest.raises(InputError, match="diameter"):
        ThreatModel("l2", 55.5).check_against(elements)


def test_equal_balls_have_one_key():
    def key(eps):
        attack = AttackInfo(name="fgsm")
        return measurement_key("f", "d", ThreatModel("l2", eps), attack, "last", "fp32", "cpu", 0)

    assert key(1) == key(1.0)
    assert key(0.0) == key(-0.0)
    assert key(1.0) != key(2.0)


def test_a_threat_model_is_read_with_its_checks():
    assert msgspec.json.decode(b'{"norm":"l2","eps":0.5}', type=ThreatModel).eps == 0.5
    with pytest.raises(InputError):
        msgspec.json.decode(b'{"norm":"l2","eps":-1}', type=ThreatModel)


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("0.031", 0.031), ("2e-3", 2e-3), ("0", 0.0)],
)
def test_numbers(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["1/0", "0/0", "nan", "inf", "1e999", "", "/255", "8/", "8/255/3", "a", "8 255", "1/inf/"],
)
def test_no_numbers(text):
    with pytest.raises(InputError, match=r"write 8/255 or 0\.031"):
        parse_number(text)


@pytest.mark.parametrize(
    ("eps", "text"), [(8 / 255, "8/255"), (0.031, "0.031"), (0.5, "0.5"), (1.0, "1"), (0.0, "0")]
)
def test_eps_as_people_write_it(eps, text):
    assert format_eps(eps) == text


@given(st.floats(0, 60))
def test_written_eps_is_read_back_exactly(eps):
    assert parse_number(format_eps(eps)) == eps


def test_nearly_equal_radii_are_written_differently():
    assert format_eps(8 / 255) != format_eps(math.nextafter(8 / 255, 1))
    assert format_eps(0.031) != format_eps(0.0310000001)
