"""The gallery: which record, which images, what is said of them, and what the loader is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robench.boards.collect import Found, collect
from robench.boards.plots.gallery import gallery
from robench.boards.plots.plot import Plot, Records
from robench.core.errors import InputError
from robench.core.record import Record, write_record
from robench.core.threat import ThreatModel
from robench.figures.saving import rendered
from robench.figures.style import styled
from tests.boards.conftest import make_record

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog")


@dataclass(frozen=True)
class Given:
    """Images that differ by `step` grey levels of 255 in every value."""

    clean: NDArray[np.float32]
    adversarial: NDArray[np.float32]
    refused: tuple[bool, ...]
    class_names: tuple[str, ...] = CLASSES


def given(step: float = 8, *, refused: bool = False, names: tuple[str, ...] = CLASSES) -> Any:
    def load(found: Found, ids: Sequence[int]) -> Given:
        clean = np.stack([np.full((2, 2, 3), i / 16, np.float32) for i in ids])
        adversarial = clean if refused else clean + np.float32(step / 255)
        return Given(clean, adversarial, (refused,) * len(ids), names)

    return load


def unasked(found: Found, ids: Sequence[int]) -> Given:
    raise AssertionError("images were loaded for nothing")


def laid_out(folder: Path, *records: Record, kept: Sequence[int] = (0,), **wanted: Any) -> Records:
    """Records as `robench eval` lays them out, those of `kept` with an empty file of candidates."""
    for place, record in enumerate(records):
        path = folder / record.images.dataset / record.defense.name / f"{place}.json"
        write_record(path, record)
        if place in kept:
            path.with_suffix(".adversarial").mkdir()
            (path.with_suffix(".adversarial") / "00000000-4.safetensors").touch()
    wanted.setdefault("pixels", given())
    return Records(found=collect([folder]).found, **wanted)


def svg(plot: Plot) -> bytes:
    with styled():
        figure = plot.draw()
    return rendered(figure, ["svg"], plot.data)["svg"]


def test_broken_images_come_first_then_survivors_and_clean_wrong_ones_never(tmp_path: Path) -> None:
    record = make_record("mine", clean="11011111", survived="10010111", label="small-scale")
    data = gallery(laid_out(tmp_path, record)).data
    assert [row.id for row in data.rows] == [1, 4, 0, 3, 5]
    assert [row.fate for row in data.rows] == ["broken"] * 2 + ["survived"] * 3
    first = data.rows[0]
    assert (first.label, first.clean_prediction, first.prediction) == ("cat", "cat", "dog")
    assert (data.defense, data.attack, data.record) == (
        "mine (small-scale)",
        "pgd_sat",
        record.key,
    )


def test_ids_are_shown_in_their_order_whatever_became_of_them(tmp_path: Path) -> None:
    records = laid_out(tmp_path, make_record(clean="1101", survived="1000"))
    rows = gallery(records, ids=[2, 0]).data.rows
    assert [(row.id, row.fate) for row in rows] == [(2, "wrong when clean"), (0, "survived")]
    with pytest.raises(InputError, match=r"no image 4 in .*0\.json: it has 0-3"):
        gallery(records, ids=[0, 4])
    with pytest.raises(InputError, match="room for 40 images, not 41"):
        gallery(records, ids=range(41))


@pytest.mark.parametrize(
    ("step", "scale"), [(8, 16), (4, 32), (16, 8), (200, 1), (0, 1), (1e-5, 1)]
)
def test_the_scale_takes_the_largest_difference_to_black_or_white(
    tmp_path: Path, step: float, scale: int
) -> None:
    plot = gallery(laid_out(tmp_path, make_record(), pixels=given(step)))
    assert plot.data.scale == scale
    assert f"perturbation x {scale}<".encode() in svg(plot)


def test_the_perturbation_is_drawn_around_mid_grey(tmp_path: Path) -> None:
    plot = gallery(laid_out(tmp_path, make_record(), pixels=given(8)), ids=[0])
    with styled():
        shown = [axes.images[0].get_array() for axes in plot.draw().axes]
    clean, delta, adversarial = (float(np.asarray(image).mean()) for image in shown)
    assert clean == 0 and adversarial == pytest.approx(8 / 255)
    assert delta == 1  # .5 + 16 x 8/255, clipped


def test_the_digest_knows_every_pixel_and_the_bytes_repeat(tmp_path: Path) -> None:
    records = laid_out(tmp_path, make_record())
    one, same, other = (
        gallery(r).data for r in (records, records, replace(records, pixels=given(8.001)))
    )
    assert one == same and one.scale == other.scale
    assert {row.pixels for row in one.rows}.isdisjoint(row.pixels for row in other.rows)
    assert svg(gallery(records)) == svg(gallery(records))


def test_without_candidates_the_command_that_keeps_them_is_said(tmp_path: Path) -> None:
    records = laid_out(tmp_path / "out", make_record("mine"), kept=(), pixels=unasked)
    with pytest.raises(InputError) as caught:
        gallery(records)
    assert str(caught.value) == (
        f"no candidates beside {tmp_path}/out/cifar10/mine/0.json: robench eval --defense mine "
        "--attacks 'pgd_sat[steps=20]' --dataset cifar10 --n 4 --norm linf --eps 8/255 --stop last "
        f"--precision fp32 --seed 0 --save-adversarial --out {tmp_path}/out keeps them"
    )


def test_without_any_candidates_what_there_is_is_listed(tmp_path: Path) -> None:
    several = [make_record("mine", attack) for attack in "abcdef"]
    with pytest.raises(
        InputError, match=r"beside any of 6 records .mine under a on .*2 more.: for"
    ):
        gallery(laid_out(tmp_path, *several, kept=(), pixels=unasked))


def test_of_several_records_with_candidates_one_must_be_meant(tmp_path: Path) -> None:
    records = laid_out(
        tmp_path,
        make_record("mine"),
        make_record("mine", "fgsm"),
        make_record("mine", threat=ThreatModel("linf", 4 / 255)),
        make_record("yours"),  # has none, so it is not meant
        kept=(0, 1, 2),
    )
    with pytest.raises(InputError, match=r"3 have candidates .* mine under fgsm on cifar10, linf"):
        gallery(records)
    with pytest.raises(InputError, match="choose one with --defense, --attack"):
        gallery(records, eps=8 / 255)
    assert gallery(records, attack="fgsm").data.attack == "fgsm"
    assert gallery(records, attack="pgd_sat", eps=4 / 255).data.eps == 4 / 255
    with pytest.raises(InputError, match=r"no candidates beside .*yours"):
        gallery(replace(records, defenses=("yours",)))
    with pytest.raises(InputError, match="no records with --eps 2/255"):
        gallery(records, eps=2 / 255)
    with pytest.raises(InputError, match="did you mean 'fgsm'"):
        gallery(records, attack="fgsn")


def test_a_refused_candidate_is_told(tmp_path: Path) -> None:
    plot = gallery(laid_out(tmp_path, make_record(), pixels=given(refused=True)), ids=[1])
    assert plot.remarks == ("image 1: the judge refused the candidate and judged the clean image",)
    assert b">refused<" in svg(plot)


def test_images_that_nothing_can_load_and_records_without_any_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="robench plot gallery"):
        gallery(laid_out(tmp_path / "a", make_record(), pixels=None))
    with pytest.raises(InputError, match="choose some with --ids"):
        gallery(laid_out(tmp_path / "b", make_record(clean="00", survived="00")))


def test_words_of_strangers_are_only_words(tmp_path: Path) -> None:
    """Neither line breaks nor formulas, and classes that the data set does not have a name for."""
    record = make_record("$x^$\nname", clean="1", survived="0")
    plot = gallery(laid_out(tmp_path, record, pixels=given(names=("a", "b", "c", "$y_$\nz"))))
    (row,) = plot.data.rows
    assert (plot.data.defense, row.label, row.prediction) == ("$x^$?name", "$y_$?z", "class 5")
    drawn = svg(plot)
    assert b"$x^$?name" in drawn and b"true: $y_$?z" in drawn
