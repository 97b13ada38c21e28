"""Two contestants on the same images: ratio, verdicts, passes and parts, as text."""

from collections.abc import Sequence
from dataclasses import dataclass

import typer

from benchmarks.contest import MODEL_BACKWARD, MODEL_FORWARD, Side
from robench.core.record import Component

BARS = {"amx_bf16": 5.0, "avx512_bf16": 3.5, "fp32": 1.5, "cuda": 3.0}
# Images more that may survive ours than the reference: so many, or this share where it is more.
MOST_APART, MOST_SHARE_APART = 2, 0.002


@dataclass(frozen=True)
class Compared:
    """Both sides on the same images, in the same order."""

    theirs: Side
    ours: Side

    @property
    def ratio(self) -> float:
        """How many times faster ours is, set-up left out."""
        return self.theirs.seconds / self.ours.seconds

    @property
    def only_ours(self) -> list[int]:
        """Positions of images that are robust for us and broken for the reference."""
        return self._where(ours=True, theirs=False)

    @property
    def only_theirs(self) -> list[int]:
        """Positions of images that are broken for us and robust for the reference."""
        return self._where(ours=False, theirs=True)

    def _where(self, ours: bool, theirs: bool) -> list[int]:
        both = zip(self.ours.robust, self.theirs.robust, strict=True)
        return [place for place, pair in enumerate(both) if pair == (ours, theirs)]


def united(sides: Sequence[Side]) -> Side:
    """One side of several: columns end to end, costs added."""
    components: dict[str, Component] = {}
    for part in (component for side in sides for component in side.components):
        whole = components.setdefault(part.name, Component(name=part.name))
        whole.broken += part.broken
        whole.forward_passes += part.forward_passes
        whole.backward_passes += part.backward_passes
        whole.unconfirmed_hits += part.unconfirmed_hits
        whole.seconds += part.seconds
    first = sides[0]
    return Side(
        ids=[i for side in sides for i in side.ids],
        robust=[robust for side in sides for robust in side.robust],
        margin=[margin for side in sides for margin in side.margin],
        seconds=sum(side.seconds for side in sides),
        set_up=sum(side.set_up for side in sides),
        forward=sum(side.forward for side in sides),
        backward=sum(side.backward for side in sides),
        unconfirmed=sum(side.unconfirmed for side in sides),
        components=list(components.values()),
        precision=first.precision,
        device_kind=first.device_kind,
        search_model=first.search_model,
        hardware=first.hardware,
        versions=first.versions,
    )


def report(title: str, both: Compared) -> None:
    """One shard or all: time, verdicts, passes, our parts, and what it was measured on."""
    typer.echo(f"\n{title}: {len(both.ours.ids)} images")
    report_time(both)
    report_disagreement(both)
    report_passes(both)
    report_parts(both.ours)
    typer.echo(f"  {both.ours.device_kind}; {both.ours.search_model}")
    facts = {**both.ours.hardware, **both.ours.versions}
    typer.echo("  " + ", ".join(f"{key} {value}" for key, value in facts.items()))


def report_time(both: Compared) -> None:
    """Seconds, their ratio against its bar, robust accuracies."""
    theirs, ours = both.theirs, both.ours
    bar, whole = time_bar(ours), theirs.seconds / (ours.seconds + ours.set_up)
    typer.echo(
        f"  reference {theirs.seconds:.1f} s, ours {ours.seconds:.1f} s: {both.ratio:.2f}x,"
        f" bar {bar:g}x: {met(both.ratio >= bar)};"
        f" with our set-up ({ours.set_up:.1f} s) {whole:.2f}x"
    )
    typer.echo(f"  robust accuracy: reference {accuracy(theirs):.2%}, ours {accuracy(ours):.2%}")


def time_bar(ours: Side) -> float:
    """The ratio that is asked for on this device in this precision; 1 where none is."""
    if ours.device_kind.startswith("cuda"):
        return BARS["cuda"]
    if ours.precision == "fp32":
        return BARS["fp32"]
    return next((bar for kind, bar in BARS.items() if f"/{kind}/" in ours.device_kind), 1.0)


def report_disagreement(both: Compared) -> None:
    """Images on which the two differ with both margins, and their net number against the bar."""
    net = len(both.only_ours) - len(both.only_theirs)
    bar = max(MOST_APART, MOST_SHARE_APART * len(both.ours.ids))
    typer.echo(
        f"  robust here and broken there {len(both.only_ours)}, the converse"
        f" {len(both.only_theirs)}: net {net:+d}, bar {bar:g}: {met(net <= bar)};"
        f" broken by the reference, not confirmed in float32: {both.theirs.unconfirmed}"
    )
    kinds = {
        "robust here, broken there": both.only_ours,
        "broken here, robust there": both.only_theirs,
    }
    for kind, places in kinds.items():
        for place in places:
            here, there = both.ours.margin[place], both.theirs.margin[place]
            typer.echo(
                f"    image {both.ours.ids[place]}: {kind};"
                f" margin {_number(here)} here, {_number(there)} there"
            )


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:+.3g}"


def report_passes(both: Compared) -> None:
    """Passes an image, and the reference's by the cost model, which counts robust images only."""
    share = accuracy(both.theirs)
    lines = {
        "reference": _passes(both.theirs),
        "its cost model": (MODEL_FORWARD * share, MODEL_BACKWARD * share),
        "ours": _passes(both.ours),
    }
    typer.echo("  passes an image      forward   backward")
    for name, (forward, backward) in lines.items():
        typer.echo(f"    {name:15} {forward:10.0f} {backward:10.0f}")


def _passes(side: Side) -> tuple[float, float]:
    return side.forward / len(side.ids), side.backward / len(side.ids)


def report_parts(side: Side) -> None:
    """What each part of ours broke and took, over all images."""
    typer.echo("  part of ours         forward   backward  broken  unconfirmed   seconds")
    for part in side.components:
        typer.echo(
            f"    {part.name:15} {part.forward_passes:10} {part.backward_passes:10}"
            f" {part.broken:7} {part.unconfirmed_hits:12} {part.seconds:9.1f}"
        )


def accuracy(side: Side) -> float:
    """Robust images as a share of all."""
    return sum(side.robust) / len(side.robust)


def met(holds: bool) -> str:
    """What is said of a bar."""
    return "met" if holds else "NOT met"
