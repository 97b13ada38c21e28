"""Every attack of the table with few steps: what a new attack is called here by itself."""

from dataclasses import fields

from robench.attacks import ATTACKS

SHORT: dict[str, object] = {
    "steps": 3,
    "target_steps": 3,
    "targets": 2,
    "queries": 8,
    "schedule": "1x4+1x6",
}
"""Of the parameters that an attack has, by name."""


def parameters(name: str) -> set[str]:
    """Names of the attack's parameters."""
    return {field.name for field in fields(ATTACKS.load(name))}


def short(name: str, **changes: object) -> str:
    """The attack with parameters, as `--attacks` takes it."""
    own = parameters(name)
    chosen = {**{key: value for key, value in SHORT.items() if key in own}, **changes}
    inside = ",".join(f"{key}={value}" for key, value in chosen.items())
    return f"{name}[{inside}]" if inside else name


def cases() -> list[tuple[str, str]]:
    """(attack, norm) for every attack and every norm that it is defined for.

    `foolbox:` and `reference:` are not in the table: they refuse tensors that are not PyTorch's
    own class. What they are given is held by the other tests, that they run there is not.
    """
    return [(name, norm) for name in ATTACKS.names() for norm in ATTACKS.load(name).norms]
