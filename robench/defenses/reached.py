"""What the code of a foreign network reaches beyond its own classes: definitions and values.

A fingerprint must differ when the function does. A network is more than its weights and the source
of its classes: a helper that `forward` calls, the `backward` of an autograd function, a constant of
the module, what a closure holds, an attribute. `reached` walks from the roots (each module's
`forward` and hooks, the factory) through the names that compiled code uses, and keeps for
everything of the user's own

- the *source* of a definition, each by itself: an edit elsewhere in its file changes nothing;
- the *value* of whatever is data, under the place where it was found.

Installed libraries and robench are not entered: they count by name. Methods and attributes are
found by name alone, whatever object they are asked of, which may reach more than is used. Names
that code makes up while it runs cannot be followed: there the whole file counts, and that is said.
"""

from dataclasses import dataclass

from torch import nn

from robench.defenses.walk import Walk


@dataclass(frozen=True)
class Reached:
    """sources: names and texts. values: digest by place. remarks: what is to be said.

    modules: names of those of the user's that were loaded and named.
    """

    sources: frozenset[tuple[str, str]]
    values: dict[str, str]
    remarks: tuple[str, ...]
    modules: frozenset[str]


def reached(network: nn.Module, factory: object = None, also: nn.Module | None = None) -> Reached:
    """Everything of the user's own that `network`, made by `factory`, reaches; nothing is run.

    also: what `network` is a copy of: code may hold on to it.
    """
    walk = Walk(network, also)
    walk.network(network, "network")
    if factory is not None:
        walk.factory(factory)
    walk.go_on()
    return Reached(
        frozenset(walk.sources),
        walk.values,
        tuple(walk.remarks),
        frozenset(walk.loaded),
    )


def moved_by_a_pass(before: Reached, after: Reached) -> set[str]:
    """Places whose value a pass changed or made; they say nothing of what the network is."""
    late = _imported_late(before, after)
    changed = {place for place in before.values if before.values[place] != after.values.get(place)}
    return changed | {place for place in after.values.keys() - before.values if place not in late}


def further_text(before: Reached, after: Reached, moved: set[str]) -> str:
    """What the fingerprint's text is continued with; empty where nothing further is reached.

    Sources as they are after a pass, when all that is imported late is there; values as they were
    before it.
    """
    # A cache that grows counts with nothing that it holds: what that is depends on earlier calls.
    beneath = tuple(f"{place}{sign}" for place in moved for sign in ".[{ ")

    def is_kept(place: str) -> bool:
        return place not in moved and not place.startswith(beneath)

    late = _imported_late(before, after)
    values = {**{place: after.values[place] for place in late}, **before.values}
    lines = [f"{name}\n{text}" for name, text in sorted(after.sources)]
    lines += [f"{place} = {value}" for place, value in sorted(values.items()) if is_kept(place)]
    return "\n".join(lines)


def _imported_late(before: Reached, after: Reached) -> set[str]:
    """Places in modules that the pass was first to load."""
    modules = tuple(f"{name}." for name in after.modules - before.modules)
    return {place for place in after.values if place.startswith(modules)} if modules else set()
