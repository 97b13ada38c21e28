"""The grammar of names: comma lists, `name[key=value]`, and the nearest names for typos."""

import difflib
import re
from collections.abc import Iterable

from robench.core.errors import InputError

_CALL = re.compile(r"(?P<name>[^\[\]]+?)\s*(?:\[(?P<arguments>[^\[\]]*)\])?")

_MOST_SHOWN = 40

_METHODS = {"iad": "iad-i", "lmtn": "lmtn-style", "vfd-style": "vfd-adv-style"}


def method_name(name: str) -> str:
    """Our name of a training method: tables of papers say `iad` and `lmtn`."""
    return _METHODS.get(name, name)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """': did you mean 'a' or 'b'?' for the nearest of `known`, or an empty text."""
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.6)
    likeness = [difflib.SequenceMatcher(None, name.lower(), other).ratio() for other in close]
    # Only what is about as near as the nearest: 'pgd_sta' is 'pgd_sat' and not 'pgd_trades'.
    near = [folded[o] for o, r in zip(close, likeness, strict=True) if r > likeness[0] - 0.1]
    return f": did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def shown(name: str) -> str:
    """A name that came from outside, fit for one line: printable, of at most 40 characters.

    Names of files may hold line ends, or bytes that are no text.
    """
    printable = name if name.isprintable() else name.encode("unicode_escape").decode()
    return printable if len(printable) <= _MOST_SHOWN else f"{printable[: _MOST_SHOWN - 3]}..."


def split_list(text: str) -> list[str]:
    """The items of a comma list; commas inside brackets do not split."""
    items, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth < 0:
            break
        if character == "," and depth == 0:
            items.append(text[start:position])
            start = position + 1
    if depth != 0:
        raise InputError(f"brackets do not match in {text!r}: expected name[key=value,...]")
    return [item.strip() for item in [*items, text[start:]] if item.strip()]


def parse_call(text: str) -> tuple[str, dict[str, str]]:
    """`pgd_sat[steps=50]` as its name and its arguments, both as text."""
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise InputError(f"cannot read {text!r}: expected name or name[key=value,...]")
    arguments: dict[str, str] = {}
    for item in (match["arguments"] or "").split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not item.strip():
            continue
        if not equals or not key or not value:
            raise InputError(f"cannot read {item.strip()!r} in {text!r}: expected key=value")
        if key in arguments:
            raise InputError(f"{key!r} is given twice in {text!r}")
        arguments[key] = value
    return match["name"].strip(), arguments
