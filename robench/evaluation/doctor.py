"""The environment check behind `robench doctor`."""

import importlib.util
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch

from robench.core.errors import InputError
from robench.core.files import check_writable
from robench.core.folders import data_folder, home
from robench.data import DATASETS
from robench.data.open import load_evalset
from robench.models.passes import cpu_class, resolve_precision

_CORE = ("torch", "numpy", "pandas", "msgspec", "safetensors", "pillow", "pooch", "typer", "rich")
_EXTRAS = {
    "pyautoattack": "reference",
    "foolbox": "foolbox",
    "robustbench": "robustbench",
    "matplotlib": "plot",
}


@dataclass(frozen=True)
class Finding:
    """One line of the check. remedy is empty where nothing needs doing."""

    what: str
    state: Literal["ok", "missing", "warn"]
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """All findings, cheapest first; never raises for what it examines."""
    return [
        *(_package(name, "pip install robench") for name in _CORE),
        *(_package(name, f"pip install 'robench[{e}]'") for name, e in _EXTRAS.items()),
        *_devices(),
        _git(),
        _torchvision(),
        _home(),
        *(_dataset(name) for name in DATASETS.names()),
    ]


def _package(name: str, remedy: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", "not installed", remedy)


def _devices() -> list[Finding]:
    cpu = torch.device("cpu")
    searched = resolve_precision("auto", cpu)
    found = [Finding("cpu", "ok", f"{cpu_class()}, {torch.get_num_threads()} threads, {searched}")]
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        about = f"{torch.cuda.get_device_name(device)}, {resolve_precision('auto', device)}"
        found.append(Finding(str(device), "ok", about))
    if not torch.cuda.device_count():
        found.append(Finding("cuda", "warn", "no CUDA device", "runs on the CPU, just slower"))
    return found


def _git() -> Finding:
    if shutil.which("git"):
        return Finding("git", "ok", "on the PATH")
    return Finding("git", "warn", "not on the PATH", "foolbox is imported quietly all the same")


def _torchvision() -> Finding:
    """torchvision's wheel is built for CUDA: beside a CPU torch its import fails by itself."""
    if importlib.util.find_spec("torchvision") is None:
        return Finding(
            "torchvision", "missing", "not installed", "only for torchvision: references"
        )
    return Finding("torchvision", "ok", version("torchvision"))


def _home() -> Finding:
    try:
        check_writable(home())
    except InputError as error:
        return Finding("user folder", "warn", str(error), "set ROBENCH_HOME to a folder of yours")
    return Finding("user folder", "ok", str(home()))


def _dataset(name: str) -> Finding:
    try:
        images = load_evalset(name)
    except InputError as error:
        return Finding(name, "missing", str(error), f"robench data fetch {name}")
    return Finding(name, "ok", f"{len(images)} test images in {data_folder() / name}")
