"""Images before and after the attack, and what the defense takes them for."""

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from robench.boards import words
from robench.boards.collect import Found, choose
from robench.boards.plots.choice import named, narrowed
from robench.boards.plots.plot import Pixels, Plot, Records
from robench.boards.reproduce import command
from robench.core.errors import InputError
from robench.core.record import Verdict, candidate_files, format_ids
from robench.core.threat import format_eps
from robench.figures.style import COLOURS, GREY, LINE, blank, wrapped

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_BY_DEFAULT = 5
_MOST = 40
_LISTED = 4  # records that an error names
_SIDE = 1.15  # of an image, inches
_WIDTH = 23  # of a line below it, characters
_ROUNDING = 1e-6
"""Devices divide pixels by 255 in their own ways: a smaller difference is none."""
_FATES = {"broken": COLOURS[1], "survived": COLOURS[2], "wrong when clean": GREY}


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the figure. The three classes are names."""

    id: int
    label: str
    clean_prediction: str
    prediction: str
    """On the adversarial image."""
    fate: str
    """broken, survived, or wrong when clean."""
    distance: float
    """Of the adversarial image from the clean one in the threat's norm, pixel units."""
    refused: bool
    """The judge refused the candidate and judged the clean image, which stands in its place."""
    pixels: str
    """SHA-256 of the two images: rows of RGB, little-endian float32."""


class Gallery(msgspec.Struct, frozen=True, kw_only=True):
    """What the figure shows. scale: what the perturbation is multiplied by to be seen."""

    defense: str
    attack: str
    dataset: str
    norm: str
    eps: float
    record: str
    """The record's key, the digits in its file name."""
    scale: int
    rows: tuple[Shown, ...]


def gallery(
    records: Records,
    *,
    attack: str | None = None,
    eps: float | None = None,
    ids: Sequence[int] | None = None,
) -> Plot:
    """A row per image of one record: clean, perturbation, adversarial, and the predictions.

    ids: of the images; by default the first few that were broken, then such that survived.
    Raises: InputError when the records do not say which record, when no candidates were kept beside
    it, and for ids that it does not have.
    """
    found = _one_record(narrowed(records, attack, eps))
    record = found.record
    chosen = _verdicts(found, ids)
    if records.pixels is None:
        raise InputError("images cannot be loaded from here: robench plot gallery draws them")
    pixels = records.pixels(found, [verdict.id for verdict in chosen])
    data = Gallery(
        defense=named(record.defense.name, record.defense),
        attack=words.plain(record.attack.name),
        dataset=words.plain(record.images.dataset),
        norm=record.threat.norm,
        eps=record.threat.eps,
        record=record.key,
        scale=_scale(pixels),
        rows=tuple(_shown(v, place, pixels) for place, v in enumerate(chosen)),
    )
    return Plot(data, partial(_draw, data, pixels), tuple(_remarks(data)))


def _one_record(found: Sequence[Found]) -> Found:
    """The one record that has candidates beside it."""
    kept = choose(item for item in found if candidate_files(Path(item.path)))
    if len(kept) == 1:
        return kept[0]
    if kept:
        raise InputError(
            f"a gallery is of one record, and {len(kept)} have candidates beside them: "
            f"{_listed(kept)}: choose one with --defense, --attack, --dataset, --norm, --eps, --n "
            "or --records"
        )
    cells = choose(found)
    if len(cells) == 1:
        where = f"{words.plain(cells[0].path)}:"
    else:
        where = f"any of {len(cells)} records ({_listed(cells)}): for the first,"
    raise InputError(f"no candidates beside {where} {_keeping(cells[0])} keeps them")


def _listed(found: Sequence[Found]) -> str:
    """`mine under pgd_sat on cifar10, linf eps 8/255; ...`, the first few."""
    said = [_said(item) for item in found[:_LISTED]]
    more = [f"{len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return "; ".join([*said, *more])


def _said(found: Found) -> str:
    record, threat = found.record, found.record.threat
    measured = f"{record.defense.name} under {record.attack.name} on {record.images.dataset}"
    return words.plain(f"{measured}, {threat.norm} eps {format_eps(threat.eps)}")


def _keeping(found: Found) -> str:
    """The command that leaves candidates beside the record."""
    folder = Path(found.path).parent.parent
    at_home = folder.name == found.record.images.dataset  # as `robench eval` lays records out
    out = f" --out {shlex.quote(folder.parent.as_posix())}" if at_home else ""
    return words.plain(f"{command(found.record)} --save-adversarial{out}")


def _verdicts(found: Found, ids: Sequence[int] | None) -> list[Verdict]:
    """The verdicts of the images to show, in their order."""
    there = {verdict.id: verdict for verdict in found.record.verdicts}
    if ids is None:
        attacked = [verdict for verdict in there.values() if verdict.clean_correct]
        if not attacked:
            raise InputError(
                f"{words.plain(found.path)} has no image that was classified correctly when clean: "
                "choose some with --ids"
            )
        return sorted(attacked, key=lambda verdict: verdict.survived)[:_BY_DEFAULT]
    if len(ids) > _MOST:
        raise InputError(f"a gallery has room for {_MOST} images, not {len(ids)}: give fewer --ids")
    if missing := [image_id for image_id in ids if image_id not in there]:
        has = format_ids(list(there)) or "none"
        raise InputError(f"no image {missing[0]} in {words.plain(found.path)}: it has {has}")
    return [there[image_id] for image_id in ids]


def _scale(pixels: Pixels) -> int:
    """What takes the largest difference to white or black: 16 for 8/255."""
    largest = float(abs(pixels.adversarial - pixels.clean).max())
    if largest < _ROUNDING:
        return 1
    # A hundredth more: 8/255 x 16 is .502, and a round figure is worth the clipped level.
    return max(1, int(1.01 * 0.5 / largest))


def _shown(verdict: Verdict, place: int, pixels: Pixels) -> Shown:
    both = pixels.clean[place].tobytes() + pixels.adversarial[place].tobytes()
    fate = "survived" if verdict.survived else "broken"
    return Shown(
        id=verdict.id,
        label=_name(verdict.label, pixels.class_names),
        clean_prediction=_name(verdict.clean_prediction, pixels.class_names),
        prediction=_name(verdict.prediction, pixels.class_names),
        fate=fate if verdict.clean_correct else "wrong when clean",
        distance=verdict.distance,
        refused=pixels.refused[place],
        pixels=hashlib.sha256(both).hexdigest(),
    )


def _name(label: int, class_names: Sequence[str]) -> str:
    """The class's name; a network may have more classes than the data set."""
    known = 0 <= label < len(class_names)
    return words.plain(class_names[label]) if known else f"class {label}"


def _remarks(data: Gallery) -> Iterator[str]:
    for row in data.rows:
        if row.refused:
            yield f"image {row.id}: the judge refused the candidate and judged the clean image"


def _draw(data: Gallery, pixels: Pixels) -> "Figure":
    captions = [_captions(row, data.norm) for row in data.rows]
    lines = sum(max(text.count("\n") + 1.6 for text in texts) for texts in captions)
    height = len(captions) * _SIDE + lines * LINE + 0.75
    figure = blank(3 * (_SIDE + 0.2) + 0.9, height)
    panels = figure.subplots(len(captions), 3, squeeze=False)
    heads = ("clean image", f"perturbation x {data.scale}", "adversarial image")
    for axes, head in zip(panels[0], heads, strict=True):
        axes.set_title(head, loc="center")
    for place, row in enumerate(data.rows):
        clean, adversarial = pixels.clean[place], pixels.adversarial[place]
        delta = (0.5 + data.scale * (adversarial - clean)).clip(0, 1)
        images = clean, delta, adversarial
        for axes, image, caption in zip(panels[place], images, captions[place], strict=True):
            _panel(axes, image, caption)
        _beside(panels[place][0], row)
    ground = f"{data.dataset}, {data.norm} eps {format_eps(data.eps)}, record {data.record}"
    title = "\n".join(wrapped(text, 72) for text in (f"{data.defense}, {data.attack}", ground))
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium").set_parse_math(False)
    return figure


def _captions(row: Shown, norm: str) -> tuple[str, str, str]:
    """What stands below the three images."""
    clean = [f"true: {row.label}", f"predicted: {row.clean_prediction}"]
    size = f"linf {255 * row.distance:.2f}/255" if norm == "linf" else f"{norm} {row.distance:.3f}"
    return (
        "\n".join(wrapped(text, _WIDTH) for text in clean),
        "refused" if row.refused else size,
        wrapped(f"predicted: {row.prediction}", _WIDTH),
    )


def _panel(axes: "Axes", image: "NDArray[np.float32]", caption: str) -> None:
    # Grey images have one channel, which a colour map would turn green.
    axes.imshow(image, interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    axes.grid(False)
    axes.spines[:].set(visible=True, color=GREY, linewidth=0.4)  # white pixels end somewhere
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(caption).set_parse_math(False)


def _beside(axes: "Axes", row: Shown) -> None:
    """Which image it is and how it fared, at the left."""
    at: dict[str, Any] = {"transform": axes.transAxes, "ha": "right"}
    axes.text(-0.08, 0.53, f"image {row.id}", va="bottom", **at)
    fate = row.fate.replace(" when", "\nwhen")
    axes.text(-0.08, 0.47, fate, va="top", color=_FATES[row.fate], fontweight="bold", **at)
