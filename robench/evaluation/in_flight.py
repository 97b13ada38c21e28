"""How many images are in flight at once: by memory on a GPU, a constant on the CPU."""

import torch

MOST_ON_CPU = 1024
MOST_ON_CUDA = 16_384
"""More would fill no pass better: a test set of 10,000 images is one block."""
COPIES = 64
"""Float32 tensors of the size of a row's image that a search holds at most, counted in the code:
FAB moves two points of each row in ten float64 ones; Auto-PGD has 16, the others fewer."""
SHARE = 0.5
"""Of the free memory: passes need some, and what they need does not grow with the images."""


def most_in_flight(device: torch.device, values: int) -> int:
    """Images, at least one. values: of one image, times the rows that it fills.

    A constant on the CPU, where a second's work is a few images. On a GPU passes are short, and a
    larger block fills more of them.
    """
    if device.type == "cpu":
        return MOST_ON_CPU
    free = torch.cuda.mem_get_info(device)[0]
    # What PyTorch holds in reserve is free for us.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, min(MOST_ON_CUDA, int(SHARE * free) // (4 * COPIES * values)))
