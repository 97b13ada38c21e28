"""The released RSLAD training step, run from its authors' own lines with the changes listed here.

Their script loads data and trains on import, so three of its statements and the body of its inner
loop are taken out of it as they are and run on the networks and batches that the benchmark gives.
Source: Zi et al. 2021, https://github.com/zibojia/RSLAD (MIT licence), which is not part of this
repository.
"""

import ast
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

SCRIPT, LOSS, NETWORK = "resnet18_rslad_cifar10.py", "rslad_loss.py", "cifar10_models/resnet.py"
WIDTH = 64
KEPT = ("epsilon", "optimizer", "kl_loss")
NOT_RUN = (
    "what builds the student and the teacher (given, without DataParallel), data loading and"
    " augmentation (batches are given ready), evaluation, checkpoints, learning-rate milestones,"
    " seeds, cudnn.deterministic"
)


@dataclass(frozen=True)
class Change:
    """A line of the authors' and what runs in its place, both without indentation."""

    file: str
    old: str
    new: str


# What keeps the step from running without a GPU; with one, nothing is changed.
ON_CPU = (
    Change(
        LOSS,
        "x_adv = x_natural.detach() + 0.001 * torch.randn(x_natural.shape).cuda().detach()",
        "x_adv = x_natural.detach() + 0.001 * torch.randn(x_natural.shape).detach()",
    ),
    Change(
        SCRIPT,
        "train_batch_data = train_batch_data.float().cuda()",
        "train_batch_data = train_batch_data.float()",
    ),
    Change(
        SCRIPT,
        "train_batch_labels = train_batch_labels.cuda()",
        "train_batch_labels = train_batch_labels",
    ),
)
SECOND_TEACHER = Change(
    SCRIPT,
    "teacher_logits = teacher(train_batch_data)",
    "teacher_logits = teacher(train_batch_data); clean_logits = clean_teacher(train_batch_data)",
)


@dataclass(frozen=True)
class Released:
    """The authors' code with its changes, ready to run.

    losses: what `rslad_loss.py` defines. setup: the script's statements that define `KEPT`.
    body: that of its loop over batches.
    """

    folder: Path
    changes: tuple[Change, ...]
    losses: dict[str, Any]
    setup: CodeType
    body: CodeType

    def resnet18(self) -> nn.Module:
        """Their student, width 64, fresh."""
        network: nn.Module = _defined(self.folder / NETWORK, ())["resnet18"]()
        return network


def released(folder: Path, device: torch.device, *extra: Change) -> Released:
    """The step from a checkout, with the changes that the device needs and `extra` ones.

    Raises: SystemExit where files or lines are not those that are expected.
    """
    for file in (SCRIPT, LOSS, NETWORK):
        if not (folder / file).is_file():
            raise SystemExit(f"{folder} has no {file}: --peer takes a checkout of zibojia/RSLAD")
    changes = (*(ON_CPU if device.type == "cpu" else ()), *extra)
    tree = ast.parse(_text(folder / SCRIPT, changes))
    kept = [node for node in tree.body if _defines(node) in KEPT]
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For) and _is_training(n)]
    if len(kept) != len(KEPT) or len(loops) != 1:
        raise SystemExit(f"{folder / SCRIPT} is another script: expected one loop over trainloader")
    return Released(
        folder,
        changes,
        _defined(folder / LOSS, changes),
        _code(kept, folder / SCRIPT),
        _code(loops[0].body, folder / SCRIPT),
    )


def _defines(node: ast.stmt) -> str:
    """The one name that a statement defines, or nothing."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.FunctionDef(name=name):
            return name
    return ""


def _is_training(loop: ast.For) -> bool:
    return ast.unparse(loop.iter) == "enumerate(trainloader)"


def _code(statements: list[ast.stmt], path: Path) -> CodeType:
    return compile(ast.Module(statements, type_ignores=[]), str(path), "exec")


def _text(path: Path, changes: tuple[Change, ...]) -> str:
    """The file's text after its changes, each of which has to hit exactly one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for change in changes:
        if path.name != change.file:
            continue
        places = [i for i, line in enumerate(lines) if line.strip() == change.old]
        if len(places) != 1:
            raise SystemExit(f"{path}: {len(places)} lines, expected one, are {change.old!r}")
        lines[places[0]] = lines[places[0]].replace(change.old, change.new)
    return "\n".join(lines)


def _defined(path: Path, changes: tuple[Change, ...]) -> dict[str, Any]:
    """What a file defines. Not imported: that would leave bytecode in the user's checkout."""
    names: dict[str, Any] = {"__name__": path.stem}
    exec(compile(_text(path, changes), str(path), "exec"), names)
    return names


class PeerStep:
    """The released step on its own copy of the weights: each call trains on one batch.

    teachers: by the names that the lines use; in evaluation mode. memory_format: of networks
    and images.
    """

    def __init__(
        self,
        code: Released,
        student: nn.Module,
        teachers: dict[str, nn.Module],
        memory_format: torch.memory_format,
    ) -> None:
        self.body, self.memory_format = code.body, memory_format
        networks = {"student": student, **teachers}
        self.names = {k: v for k, v in code.losses.items() if not k.startswith("_")}
        for name, network in networks.items():
            self.names[name] = network.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.names["step"] = 1  # their loop prints where the step is a multiple of 100
        exec(code.setup, self.names)

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss that was stepped on, a scalar. images: (B, 3, 32, 32) float32 in [0, 1]."""
        self.names["train_batch_data"] = images.contiguous(memory_format=self.memory_format)
        self.names["train_batch_labels"] = labels
        exec(self.body, self.names)
        loss: Tensor = self.names["loss"].detach()
        return loss


@contextmanager
def same_noise(noise: Tensor) -> Iterator[None]:
    """Their start is 0.001 times `noise` (B, C, H, W) instead of fresh normal numbers."""

    def randn(shape: torch.Size) -> Tensor:
        assert shape == noise.shape
        return noise

    with patch.object(torch, "randn", randn):
        yield


def revision(folder: Path) -> str:
    """The commit of a checkout, and whether files differ from it; "unknown" without git."""
    if not (folder / ".git").exists():  # git would answer for a repository around the folder
        return "unknown"
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with local changes" if changed else commit
