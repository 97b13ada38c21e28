"""Part 0: what the check runs on, and whether there is a device at all."""

import importlib
import platform
from importlib.util import find_spec

import torch

from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import Setting
from robench.models.passes import device_kind, hardware, resolve_device, resolve_precision

PEERS = ("foolbox", "torchattacks", "pyautoattack", "scipy", "torchvision")


def run(setting: Setting, notes: Notebook) -> None:
    """The device, libraries and packages, as they are found. Raises: InputError without a GPU."""
    device = resolve_device(setting.device)
    kind = device_kind(device, resolve_precision("auto", device))
    notes.claim("device", kind, "a CUDA device", device.type == "cuda")
    notes.figure("hardware", ", ".join(f"{k} {v}" for k, v in hardware(device).items()))
    notes.figure("Python, PyTorch", f"{platform.python_version()}, {torch.__version__}")
    if not setting.pretended:
        free, total = torch.cuda.mem_get_info(device)
        notes.figure("memory", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
        notes.claim("a product on it", _product(device), "3.0", _product(device) == "3.0")
    msgspec = importlib.import_module("msgspec")
    notes.figure("msgspec comes from", str(msgspec.__file__))
    missing = [name for name in PEERS if find_spec(name) is None]
    notes.claim("packages of peers", ", ".join(missing) or "all", "none is missing", not missing)


def _product(device: torch.device) -> str:
    one = torch.ones(3, device=device)
    return str(float(one @ one))
