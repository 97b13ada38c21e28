"""Searches on a GPU that give the same twice, or the operators that keep them from it.

On the CPU nothing is done: its kernels give the same by themselves, and verdicts rest on them.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import torch
import torch.utils.deterministic

_NO_SUCH_KERNEL = re.compile(
    r"(\S.*?) (?:does not have a deterministic implementation|"
    r"defaults to a non-deterministic algorithm)"
)
_CUBLAS = re.compile(r"Deterministic behavior was enabled .* CuBLAS", re.DOTALL)
_FILL = "fill_uninitialized_memory"
_ANY = rf"(?s){_NO_SUCH_KERNEL.pattern}|{_CUBLAS.pattern}"


def reserve_cublas_workspace() -> None:
    """Have cuBLAS add in one order; it reads this at its first call, so before any use of CUDA.

    What the user has set stays. The variable is left as it is afterwards: nobody reads it twice.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_search(device: torch.device) -> Iterator[list[str]]:
    """Names of the operators that ran without a deterministic kernel, gathered until the end.

    A foreign network may hold such operators, and one that raised would be no measurement at all:
    so they run, and PyTorch's warnings of them become the names. The mode that was set before comes
    back. On the CPU: nothing is changed and no name ever comes.
    """
    found: list[str] = []
    if device.type != "cuda":
        yield found
        return
    with ExitStack() as stack:
        _restore_afterwards(stack)
        stack.enter_context(_gathered(found))
        torch.use_deterministic_algorithms(True, warn_only=True)
        # It would fill every new tensor, a kernel each; nothing of ours is read before written.
        setattr(torch.utils.deterministic, _FILL, False)
        torch.set_warn_always(True)  # some are said once per process, and this search is not it
        yield found


def _restore_afterwards(stack: ExitStack) -> None:
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = getattr(torch.utils.deterministic, _FILL)
    stack.callback(torch.use_deterministic_algorithms, enabled, warn_only=warn_only)
    stack.callback(setattr, torch.utils.deterministic, _FILL, filled)
    stack.callback(torch.set_warn_always, torch.is_warn_always_enabled())


@contextmanager
def _gathered(found: list[str]) -> Iterator[None]:
    """Warnings of missing kernels go into `found`, each once; all others where they always go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_ANY, category=UserWarning)
        show = warnings.showwarning

        def gather(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            name = _operator(str(message))
            if name is None:
                show(message, category, filename, lineno, file, line)
            elif name not in found:
                found.append(name)

        warnings.showwarning = gather
        yield


def _operator(text: str) -> str | None:
    """The operator that a warning is about, or None where it is about something else."""
    if match := _NO_SUCH_KERNEL.match(text):
        return match[1]
    return "cuBLAS" if _CUBLAS.match(text) else None
