"""TF32 in comparisons: set for the peers on a GPU only, never for ours, and given back."""

import importlib
import inspect

import pytest
import torch

from benchmarks.tf32 import pinned
from robench.models.passes import exact_float32


def now() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("tf32", [False, True])
def test_both_kinds_of_products_are_pinned_and_given_back(
    tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without CUDA the switch of convolutions is left alone, as nothing runs under it.
    monkeypatch.setattr("robench.models.float32._has_cuda", lambda: True)
    before = now()
    with pinned(torch.device("cuda", 0), tf32) as said:
        assert now() == (tf32, tf32)
        with exact_float32():
            assert now() == (False, False)
        word = "TF32" if tf32 else "IEEE"
        peers = f"of peers: matrix products {word}, convolutions {word};"
        assert peers in said
        assert said.endswith("of ours: matrix products IEEE, convolutions IEEE")
    assert now() == before == (False, True)


def test_on_the_cpu_nothing_is_set() -> None:
    before = now()
    with pinned(torch.device("cpu"), True) as said:
        assert now() == before
    assert "IEEE" in said


@pytest.mark.parametrize(
    "benchmark", ["pgd", "autoattack", "rays", "gradient_estimation", "train_step"]
)
def test_benchmarks_against_peers_take_the_choice_and_default_to_none(benchmark: str) -> None:
    main = importlib.import_module(f"benchmarks.{benchmark}").main
    assert inspect.signature(main).parameters["tf32"].default is False
