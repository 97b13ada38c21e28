"""A training method's name as a reference: the checkpoint that a training run left.

A checkpoint says in its metadata what it is. Places are searched in their order, each only where
the earlier ones hold none that fits; only headers are read, and what cannot be read is named.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from safetensors import SafetensorError, safe_open

from robench.core.errors import InputError
from robench.core.folders import home, runs_folder
from robench.core.names import did_you_mean, method_name, parse_call
from robench.defenses.settings import Settings, from_metadata

_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\s*(\[.*)?")
_AROUND_PACKAGE = Path(__file__).parents[2]
"""The repository where the install is editable."""
_BUNDLED = Path(__file__).with_name("weights")
_NAMED_DAMAGED = 3
_ROLES = ("student", "teacher")


@dataclass(frozen=True)
class Kind:
    """What tells checkpoints of one method apart, by argument; None: not said."""

    dataset: str | None = None
    student: str | None = None
    """The architecture."""
    width: int | None = None
    role: str = "student"
    """student, or teacher: trained for others to distil."""

    def said(self) -> dict[str, str | int]:
        """The arguments that are given."""
        return {key: value for key, value in vars(self).items() if value is not None}

    def agreeing(self, other: "Kind") -> int:
        """How many of these arguments the other has, too."""
        return len(self.said().items() & other.said().items())

    def __str__(self) -> str:
        return ",".join(
            f"{key}={value}" for key, value in self.said().items() if value != Kind.role
        )


@dataclass(frozen=True)
class Trained:
    """A checkpoint file as its metadata describes it."""

    path: Path
    shown: str
    """The path from the root of its place: the same on every machine."""
    method: str
    kind: Kind
    whole: bool
    """Whether its run says that it came to an end."""
    finished: float
    """Seconds since 1970."""
    run: str | None

    def __str__(self) -> str:
        """What to type for it: its path where its metadata do not tell it from others."""
        complete = len(self.kind.said()) == len(vars(self.kind))
        return f"{self.method}[{self.kind}]" if complete else str(self.path)


@dataclass(frozen=True)
class Place:
    """A folder of checkpoints. root: what their paths are shown from."""

    root: Path
    folder: Path
    pattern: str
    dated: bool = False
    """Whether the files' own times say when training ended; a checkout's say nothing."""

    def read(self) -> tuple[list[Trained], list[str]]:
        """Its checkpoints, and what is wrong with the files that cannot be read, by path."""
        checkpoints: list[Trained] = []
        damaged: list[str] = []
        for path in sorted(self.folder.glob(self.pattern)):
            inside = path.relative_to(self.folder).parts
            if any(part.startswith(".") for part in inside):  # still being written
                continue
            try:
                checkpoints.append(self._describe(path))
            except InputError as error:
                damaged.append(str(error))
        return checkpoints, damaged

    def _describe(self, path: Path) -> Trained:
        shown = path.relative_to(self.root).as_posix()
        try:
            with safe_open(path, framework="pt") as file:  # checks lengths, reads no tensor
                metadata: dict[str, str] = file.metadata() or {}
            changed = path.stat().st_mtime if self.dated else -math.inf
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{shown} is no whole safetensors file ({reason})") from error
        stated = from_metadata(metadata, Path(shown))
        return Trained(
            path=path,
            shown=shown,
            method=metadata.get("method", ""),
            kind=Kind(stated.dataset, stated.arch, stated.width, metadata.get("role", Kind.role)),
            whole="finished" in metadata,
            finished=_seconds(metadata["finished"], shown) if "finished" in metadata else changed,
            run=metadata.get("run"),
        )


def is_name(ref: str) -> bool:
    """Whether `ref` has the form of a method's name, with or without arguments."""
    return _REF.fullmatch(ref) is not None


def find(ref: str, settings: Settings) -> tuple[Trained, str] | None:
    """The checkpoint that `ref` means, and a line on unreadable files that were passed over.

    ref: `bmtard` or `bmtard[dataset=tiny-imagenet,student=resnet18,width=16]`; `[role=teacher]`
    for what was trained as a teacher. What it leaves open
    the settings' dataset, arch and width say. Of one kind the newest is taken, finished runs before
    others. None: no checkpoint says this method.

    Raises: InputError for unknown arguments, for checkpoints of several kinds that fit, and where
    the method has checkpoints but none that fits.
    """
    if not is_name(ref):
        return None
    method, wanted = _parse(ref, settings)
    others: list[Trained] = []
    damaged: list[str] = []
    for place in _places():
        checkpoints, unreadable = place.read()
        damaged += unreadable
        own = [one for one in checkpoints if one.method == method]
        fitting = [one for one in own if wanted.agreeing(one.kind) == len(wanted.said())]
        if fitting:
            return _newest(fitting, damaged), passed_over(damaged)
        others += own
    if others:
        raise InputError(_none_fits(method, wanted, others) + passed_over(damaged, "; "))
    return None


def survey() -> tuple[list[str], list[str]]:
    """The methods that have checkpoints in any place, and what is wrong with unreadable files."""
    read = [place.read() for place in _places()]
    methods = {one.method for checkpoints, _ in read for one in checkpoints}
    return sorted(methods - {""}), [line for _, damaged in read for line in damaged]


def passed_over(damaged: Sequence[str], before: str = "") -> str:
    """The unreadable files in one line, or an empty text."""
    if not damaged:
        return ""
    more = len(damaged) - _NAMED_DAMAGED
    named = [*damaged[:_NAMED_DAMAGED], *([f"and {more} more"] if more > 0 else [])]
    return f"{before}passed over: {', '.join(named)}"


def _places() -> list[Place]:
    """Where checkpoints are looked for, in this order."""
    committed = Path("leaderboards") / "checkpoints"
    around = [_AROUND_PACKAGE] if Path.cwd() != _AROUND_PACKAGE else []
    return [
        Place(home(), runs_folder(), "**/best.safetensors", dated=True),
        *(Place(root, root / committed, "*/*.safetensors") for root in [Path.cwd(), *around]),
        Place(_BUNDLED.parents[2], _BUNDLED, "*.safetensors"),
    ]


def _parse(ref: str, settings: Settings) -> tuple[str, Kind]:
    method, arguments = parse_call(ref)
    known = list(vars(Kind()))
    for key in arguments:
        if key not in known:
            hint = did_you_mean(key, known) or ":"
            raise InputError(
                f"{ref}: a trained method takes no argument {key!r}{hint} it takes "
                f"{', '.join(known)}"
            )
    width = arguments.get("width")
    if width is not None and not (width.isdecimal() and int(width) > 0):
        raise InputError(f"{ref}: width is {width!r}, expected a whole number of at least 1")
    role = arguments.get("role", Kind.role)
    if role not in _ROLES:
        raise InputError(f"{ref}: role is {role!r}, expected {' or '.join(_ROLES)}")
    return method_name(method), Kind(
        arguments.get("dataset", settings.dataset),
        arguments.get("student", settings.arch),
        settings.width if width is None else int(width),
        role,
    )


def _newest(fitting: Sequence[Trained], damaged: Sequence[str]) -> Trained:
    if len({one.kind for one in fitting}) > 1:
        raise InputError(
            f"checkpoints of several kinds fit {fitting[0].method}: say {_either(fitting)}"
            f"{passed_over(damaged, '; ')}"
        )
    return max(fitting, key=lambda one: (one.whole, one.finished, one.shown))


def _none_fits(method: str, wanted: Kind, others: Sequence[Trained]) -> str:
    """Names those that agree in most arguments."""
    most = max(wanted.agreeing(one.kind) for one in others)
    nearest = [one for one in others if wanted.agreeing(one.kind) == most]
    said = str(wanted) or f"role={wanted.role}"
    return (
        f"no checkpoint of {method} fits {said}: there is "
        f"{_either(nearest)}; "
        f"robench train {method} --dataset {wanted.dataset or 'cifar10'} makes one"
    )


def _either(checkpoints: Sequence[Trained]) -> str:
    return " or ".join(sorted({str(one) for one in checkpoints}))


def _seconds(finished: str, shown: str) -> float:
    """Seconds since 1970 of an ISO time, which is UTC where it names no zone."""
    try:
        time = datetime.fromisoformat(finished)
    except ValueError as error:
        raise InputError(
            f"metadata of {shown}: finished is {finished!r}, expected an ISO time"
        ) from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
