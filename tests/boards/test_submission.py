"""The JSON of a submission to RobustBench: what records tell, and what they must not pretend."""

import json

import msgspec
import pytest

from robench.boards.published import names
from robench.boards.submission import ModelInfo, model_info, open_fields, read_earlier, render
from robench.core.errors import InputError
from robench.core.threat import ThreatModel

STANDARD = dict(names.ATTACKS["autoattack"].parameters)


@pytest.fixture
def measured(record):
    def make(clean="1110", survived="1000", **changes):
        fields = {"attack": "autoattack", "stop": "any", "parameters": STANDARD} | changes
        return record("mine", clean=clean, survived=survived, **fields)

    return make


# The files of RobustBench's repository, by the README's example.
FIELDS = [
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue"),
    *("architecture", "eps", "clean_acc", "reported", "autoattack_acc", "footnote"),
]


def test_fields_and_figures_by_hand(found, measured):
    fields = json.loads(render(model_info(found(measured()), "mine"), {}))
    assert list(fields) == FIELDS
    given = {key: value for key, value in fields.items() if value is not None}
    assert given == {
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "architecture": "ResNet-18",
        "eps": "8/255",
        "clean_acc": "75.00",
        "autoattack_acc": "25.00",
        "footnote": "Evaluated on 4 of 10000 test images.",
    }


def test_the_whole_test_set_needs_no_footnote(found, measured, monkeypatch):
    monkeypatch.setattr(names, "TEST_IMAGES", 4)
    assert model_info(found(measured()), "mine").footnote is None


def test_of_foreign_code_the_passes_are_not_known(found, measured):
    record = measured()
    record.defense = msgspec.structs.replace(record.defense, architecture="my.Net")
    info = model_info(found(record), "mine")
    assert (info.architecture, info.number_forward_passes) == ("my.Net", None)


def test_the_record_of_most_images_speaks(found, measured):
    few, many = measured("11", "11", digest="a" * 64), measured("1111", "1110")
    assert model_info(found(few, many), "mine").autoattack_acc == "75.00"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attack": "pgd_sat"}, "pgd_sat is not AutoAttack"),
        ({"parameters": {"version": "plus"}}, r"version=plus \(published standard\)"),
        ({"status": "partial", "n": 9}, "autoattack partial"),
        ({"threat": ThreatModel("linf", 0.03)}, "eps 0.03 where the board has 8/255"),
        ({"threat": ThreatModel("l2", 1.0)}, "eps 1 where the board has 0.5"),
        ({"dataset": "tiny-imagenet"}, "no board for tiny-imagenet under linf"),
        ({"ids": [1, 2, 3, 4]}, "not the first images of the test set"),
    ],
)
def test_what_robustbench_does_not_ask_for_is_refused(found, measured, changes, reason):
    with pytest.raises(InputError, match=reason):
        model_info(found(measured(**changes)), "mine")


def test_names_that_mean_nothing_or_too_much(found, measured):
    with pytest.raises(InputError, match="no records of 'mien': did you mean 'mine'"):
        model_info(found(measured()), "mien")
    two = [measured(fingerprint=letter * 64) for letter in "ab"]
    with pytest.raises(InputError, match="'mine' means several defenses"):
        model_info(found(*two), "mine")


INFO = ModelInfo(
    dataset="cifar10",
    architecture="ResNet-18",
    eps="8/255",
    clean_acc="84.0",
    autoattack_acc="51.0",
)


def test_what_people_filled_in_is_kept_and_figures_are_renewed():
    earlier = {"name": "A title", "venue": "ICML", "clean_acc": "1", "unreliable": False}
    fields = json.loads(
        render(INFO, earlier | {"footnote": "Evaluated on 4 of 10000 test images."})
    )
    assert (fields["name"], fields["venue"], fields["unreliable"]) == ("A title", "ICML", False)
    assert (fields["clean_acc"], fields["footnote"]) == ("84.0", None)
    assert json.loads(render(INFO, {"footnote": "Uses 1M more"}))["footnote"] == "Uses 1M more"


def test_open_fields_are_named():
    assert open_fields(render(INFO, {"additional_data": False})) == [
        *("link", "name", "authors", "number_forward_passes", "venue", "reported")
    ]


def test_another_file_is_not_overwritten(tmp_path):
    assert read_earlier(tmp_path / "none.json") == {}
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match="is no RobustBench JSON"):
        read_earlier(tmp_path / "a.json")
