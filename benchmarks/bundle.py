"""A folder that holds the check of a GPU and what it imports, for a machine without a network.

`make gpu-bundle`, or `python -m benchmarks.bundle`; then, there, in the folder:
`python3 -m benchmarks.gpu_check`. The tracked files without boards and pictures, and the packages
that such a machine may lack, unpacked into `site-packages`. PyTorch, numpy, pandas, scipy,
torchvision, Pillow, requests, tqdm and pytest must be there. pyautoattack comes without its 43 MiB
of weights, so `natural-resnet18` is not in it.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.rslad_peer import LOSS, NETWORK, SCRIPT

ROOT = Path(__file__).parents[1]
MOST = 64 * 2**20
"""Bytes of the whole folder."""
LEFT_OUT = (".ci/", "docs/", "leaderboards/", "tests/boards/", "tests/cli/")
PACKAGES = (
    "eagerpy",
    "foolbox",
    "gitdb",
    "gitpython",
    "msgspec",
    "platformdirs",
    "pooch",
    "pyautoattack",
    "safetensors",
    "smmap",
    "torchattacks",
    # What `benchmarks` and `robench` print with.
    "annotated-doc",
    "jinja2",
    "markdown-it-py",
    "markupsafe",
    "mdurl",
    "pygments",
    "rich",
    "shellingham",
    "typer",
)
UNWANTED = ("pyautoattack/examples/", "robustbench/")
"""Weights that would fill the bundle, and an old copy of a package that torchattacks carries."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main(
    out: Annotated[Path, typer.Option(help="A folder that is not there yet.")] = Path(
        "build/gpu-bundle"
    ),
    python: Annotated[str, typer.Option(help="Version of Python there.")] = "3.12",
    peer: Annotated[
        Path | None, typer.Option(help="A checkout of zibojia/RSLAD, taken along as `rslad`.")
    ] = None,
) -> None:
    """Fill the folder and say how large it is."""
    if out.exists():
        raise SystemExit(f"{out} is there: delete it, or give another --out")
    copy_files(tracked(), ROOT, out)
    with tempfile.TemporaryDirectory() as folder:
        download(Path(folder), python)
        for wheel in sorted(Path(folder).glob("*.whl")):
            unpack(wheel, out / "site-packages")
    if peer is not None:
        copy_files((SCRIPT, LOSS, NETWORK), peer, out / "rslad")
    typer.echo(
        f"{out}: {checked_size(out) / 2**20:.1f} MiB; there: python3 -m benchmarks.gpu_check"
    )


def tracked() -> list[str]:
    """The files that git knows, without what the check does not need."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [name for name in listed.split("\0") if name and not name.startswith(LEFT_OUT)]


def copy_files(names: Iterable[str], root: Path, out: Path) -> None:
    """The files below `root`, as they are now, to the same places below `out`."""
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, out / name)


def download(folder: Path, python: str) -> None:
    """The wheels of `PACKAGES`, in the versions that this repository is tested with."""
    platforms = [f"--platform={name}" for name in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    options = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    versions = ["-c", str(ROOT / "constraints.txt"), "-d", str(folder)]
    subprocess.run([*command, *options, *platforms, *versions, *PACKAGES], check=True)


def unpack(wheel: Path, out: Path) -> None:
    """A wheel's files, without the unwanted ones."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.startswith(UNWANTED)]
        archive.extractall(out, names)


def checked_size(folder: Path) -> int:
    """Bytes of all files in it. Raises: SystemExit where they are more than `MOST`."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MOST:
        raise SystemExit(f"{folder} holds {size / 2**20:.1f} MiB, at most {MOST / 2**20:g}")
    return size


if __name__ == "__main__":
    typer.run(main)
