"""The defenses that come with robench give the accuracies that were measured for them."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from robench.core.errors import InputError
from robench.defenses import DEFENSES, bundled
from robench.defenses.reference import load_defense
from robench.models.weights import read_weights


@pytest.mark.parametrize(
    ("name", "expected"), [("fast-at-resnet18-w32", 356), ("fast-at-early-resnet18-w32", 306)]
)
def test_bundled_defenses_score_as_measured(name, expected, sample, count_correct):
    defense = load_defense(name)
    # 71.9 and 60.6 % of the first 1,000; these are the first 500. Another CPU may flip a tie.
    assert abs(count_correct(defense, *sample) - expected) <= 1
    assert (defense.name, defense.scheme, defense.ref) == (name, "file", name)
    assert (defense.architecture, defense.width, defense.num_classes) == ("resnet18", 32, 10)
    assert (defense.parameters, defense.normalization) == (2_797_610, "none")
    assert (defense.dataset, defense.eps, defense.norm) == ("cifar10", 8 / 255, "linf")
    assert len(defense.fingerprint) == 64 and defense.key_rules == ()


def test_the_two_siblings_have_their_own_fingerprints():
    one, two = (load_defense(f"fast-at-{x}resnet18-w32") for x in ("", "early-"))
    assert one.fingerprint != two.fingerprint
    assert one.fingerprint == load_defense("fast-at-resnet18-w32").fingerprint


@pytest.mark.skipif(find_spec("pyautoattack") is None, reason="pyautoattack is not installed")
def test_the_natural_defense_is_read_without_importing_its_package(sample, count_correct):
    images, labels = sample
    imported = "pyautoattack" in sys.modules
    defense = load_defense("natural-resnet18")
    assert ("pyautoattack" in sys.modules) == imported
    assert abs(count_correct(defense, images[:100], labels[:100]) - 94) <= 1
    assert (defense.width, defense.parameters, defense.dataset) == (64, 11_173_962, "cifar10")
    assert defense.eps is None and defense.norm is None


@pytest.mark.parametrize("found", [None, "empty"])
def test_without_pyautoattack_one_line_names_the_extra(found, monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(bundled, "find_spec", lambda name: Spec() if found else None)
    with pytest.raises(InputError, match=r"^[^\n]*pip install 'robench\[reference\]'$"):
        load_defense("natural-resnet18")


def test_bundled_files_are_half_precision_and_small():
    files = sorted((Path(bundled.__file__).parent / "weights").glob("*"))
    assert [file.stem for file in files] == [n for n in sorted(DEFENSES.lines) if "fast" in n]
    assert sum(file.stat().st_size for file in files) < 11.5e6
    for file in files:
        _, metadata = read_weights(file)
        assert metadata.keys() >= {"architecture", "width", "classes", "dataset", "normalization"}
        assert metadata.keys() >= {"eps", "norm", "method", "note"}


def test_loading_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    load_defense("fast-at-resnet18-w32")
    assert torch.equal(torch.get_rng_state(), before)
