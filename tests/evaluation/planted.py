"""Factories for `python:` references in tests."""

from torch import nn

from tests.harness import small_cnn


def build() -> nn.Module:
    """The small network of the tests; pools to a fixed size, so that it takes any images."""
    return small_cnn()
