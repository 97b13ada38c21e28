"""TensorFloat-32 in comparisons: pinned, and said for both sides.

PyTorch runs the float32 convolutions of a GPU in TF32 (10 bits of mantissa) unless told otherwise.
Peers take that default, ours never do: an unpinned comparison would be of two arithmetics.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robench.models.passes import exact_float32

HELP = "TF32 for the peers, on a GPU; ours never runs in it."


@contextmanager
def pinned(device: torch.device, tf32: bool = False) -> Iterator[str]:
    """The float32 of peers within the block, on a GPU; the line that says it of both sides.

    On the CPU nothing is set. What was set before comes back.
    """
    if device.type != "cuda":
        yield "float32 of peers and of ours: IEEE (no TF32 on the CPU)"
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32, cudnn.allow_tf32 = tf32, tf32
        with exact_float32():
            ours = _settings()
        yield f"float32 of peers: {_settings()}; of ours: {ours}"
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _settings() -> str:
    kinds = {
        "matrix products": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
    }
    return ", ".join(f"{kind} {'TF32' if on else 'IEEE'}" for kind, on in kinds.items())
