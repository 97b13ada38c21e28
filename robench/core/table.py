"""Table: the one list of attacks, defenses, data sets, architectures of a package.

A table is data (`name -> "module:attribute", groups, help`), so listing imports nothing heavy; the
target is imported when it is asked for. Entry points of other packages are read when a name is not
in the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from robench.core.errors import InputError
from robench.core.names import did_you_mean

Line = tuple[str, tuple[str, ...], str]


@dataclass(frozen=True)
class Table:
    """Named things of one kind.

    kind: the word for one of them ("attack"), used in errors and in `robench list <kind>s`.
    lines: name -> (target "module:attribute", groups, one line of help).
    entry_point_group: where other packages add names.
    """

    kind: str
    lines: Mapping[str, Line]
    entry_point_group: str

    @property
    def plural(self) -> str:
        return f"{self.kind}s"

    def names(self) -> list[str]:
        """Every name: the table's own in their order, then those of other packages."""
        foreign = (point.name for point in entry_points(group=self.entry_point_group))
        return [*self.lines, *sorted(set(foreign) - set(self.lines))]

    def help(self, name: str) -> str:
        """The one line of help of `name`."""
        if name in self.lines:
            return self.lines[name][2]
        return "from another package"

    def group(self, group: str) -> list[str]:
        """The names whose line carries `group`, in the order of the table."""
        return [name for name, line in self.lines.items() if group in line[1]]

    def groups(self) -> list[str]:
        """Every group, in the order of first mention."""
        return list(dict.fromkeys(group for line in self.lines.values() for group in line[1]))

    def load(self, name: str) -> Any:
        """The thing itself.

        Raises: InputError for a name nobody registered, with the nearest names, and for a line
        whose target is not there.
        """
        if name in self.lines:
            return self._load_own(name)
        for point in entry_points(group=self.entry_point_group, name=name):
            return self._load_foreign(point)
        hint = did_you_mean(name, [*self.names(), *self.groups()]) or "."
        raise InputError(f"unknown {self.kind} {name!r}{hint} See robench list {self.plural}.")

    def _load_own(self, name: str) -> Any:
        target = self.lines[name][0]
        module, _, attribute = target.partition(":")
        thing = getattr(import_module(module), attribute, None)
        if thing is None or isinstance(thing, type):
            what = "not there" if thing is None else "a class"
            raise InputError(
                f"{self.kind} {name!r}: {target} is {what}: the table takes module:instance"
            )
        return thing

    def _load_foreign(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"{self.kind} {point.name!r} comes from {point.value}, which does not load: {error}"
            ) from error
