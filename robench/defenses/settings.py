"""What may be said about a defense beside its reference, and where it may be said."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from robench.core.errors import InputError
from robench.core.project import section
from robench.core.threat import Norm, ThreatModel, parse_number
from robench.models.normalize import parse_normalization

Shape = tuple[int, int, int]
"""Channels, height, width."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
"""Names go into file names and into lists that split at commas and brackets."""
_METADATA = {
    "architecture": "arch",
    "normalization": "normalize",
    "normalisation": "normalize",
}
"""Names in a checkpoint's metadata that differ from the settings' own."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each None leaves the question to the next source: checkpoint metadata, then tensor shapes."""

    arch: str | None = None
    """A registered architecture."""
    width: Annotated[int, msgspec.Meta(ge=1)] | None = None
    classes: Annotated[int, msgspec.Meta(ge=2)] | None = None
    normalize: str | None = None
    """A listed normalisation or MEAN/STD."""
    dataset: str | None = None
    """What the defense was trained for."""
    class_order: str | None = None
    """Digest of the ordered class names: `robench.data.class_names.class_order`."""
    eps: str | float | None = None
    """Radius it was trained for, as 8/255 or in pixel units; of linf where no norm is said."""
    norm: Norm | None = None

    def __post_init__(self) -> None:
        try:
            if self.normalize is not None:
                parse_normalization(self.normalize)
            if self.radius is not None:
                ThreatModel(self.norm or "linf", self.radius)
        except InputError as error:
            raise ValueError(str(error)) from error  # msgspec adds the path to a ValueError

    @property
    def radius(self) -> float | None:
        """eps in pixel units of [0, 1]."""
        return parse_number(self.eps) if isinstance(self.eps, str) else self.eps

    def over(self, other: "Settings") -> "Settings":
        """These, and the other's where these say nothing.

        A radius goes with its norm, linf where none is said: neither is joined with another's.
        """
        names = Settings.__struct_fields__
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        joined = {**{name: getattr(other, name) for name in names}, **own}
        if self.eps is not None:
            joined["norm"] = self.norm or "linf"
        elif self.norm is not None and self.norm != (other.norm or "linf"):
            joined["eps"] = None
        return Settings(**joined)


class Entry(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named defense: a `[defenses.NAME]` section, or what a line of the table gives."""

    ref: str


_Kind = TypeVar("_Kind", bound=Settings)


def given(**values: object) -> Settings:
    """Settings from options. Raises: InputError for a value that cannot be."""
    return _convert(values, Settings, "the defense's options", strict=True)


def from_metadata(metadata: Mapping[str, str], path: Path) -> Settings:
    """What a checkpoint says of itself; other keys of its metadata are for people.

    Raises: InputError for values that cannot be.
    """
    renamed = {_METADATA.get(key, key): value for key, value in metadata.items() if value}
    known = {key: renamed[key] for key in Settings.__struct_fields__ if key in renamed}
    return _convert(known, Settings, f"metadata of {path}", strict=False)


def configured(folder: Path) -> dict[str, Entry]:
    """The defenses of `robench.toml` in `folder`, by name.

    Raises: InputError naming the file and the place in it.
    """
    sections = section(folder, "defenses")
    wrong = next((name for name in sections if not re.fullmatch(_NAME, name)), None)
    if wrong is not None:
        raise InputError(
            f"robench.toml: {wrong!r} is no name for a defense: "
            "expected letters, digits and . _ + -"
        )
    return {
        name: _convert(values, Entry, "robench.toml", strict=True, root=f"defenses.{name}")
        for name, values in sections.items()
    }


def _convert(
    values: object, kind: type[_Kind], where: str, *, strict: bool, root: str = ""
) -> _Kind:
    try:
        return msgspec.convert(values, kind, strict=strict)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        path = (root + place.rstrip("`")).lstrip(".")
        raise InputError(f"{where}: {message}" + (f" (at {path})" if path else "")) from error
