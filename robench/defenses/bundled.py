"""The defenses that come with robench, and the one that comes with pyautoattack."""

from importlib.util import find_spec
from pathlib import Path

from robench.core.errors import InputError
from robench.defenses.settings import Entry

SURROGATES = {"cifar10": "fast-at-early-resnet18-w32"}
"""Data set -> the network that transfer attacks are crafted on unless another one is named."""

_WEIGHTS = Path(__file__).with_name("weights")


def fast_at_resnet18_w32() -> Entry:
    """N-FGSM at 8/255, 12 epochs; half precision weights."""
    return Entry(ref=str(_WEIGHTS / "fast-at-resnet18-w32.safetensors"))


def fast_at_early_resnet18_w32() -> Entry:
    """The same run after epoch 7."""
    return Entry(ref=str(_WEIGHTS / "fast-at-early-resnet18-w32.safetensors"))


def natural_resnet18() -> Entry:
    """Croce and Hein's example model for AutoAttack, trained without adversaries.

    Raises: InputError when pyautoattack is not installed.
    """
    spec = find_spec("pyautoattack")  # finds the folder without running the package
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "examples" / "model_test.pt"
        if path.is_file():
            return Entry(ref=str(path), arch="resnet18", dataset="cifar10", normalize="none")
    raise InputError(
        "natural-resnet18 is a file of the package pyautoattack: pip install 'robench[reference]'"
    )
