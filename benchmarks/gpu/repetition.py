"""Part 3: the same measurement again, in other batches, shards and orders, bit for bit."""

from typing import Any

import torch

from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import Setting, comparable
from robench.core.record import Record
from robench.data.evalset import EvalSet


def run(setting: Setting, notes: Notebook) -> None:
    """Whole records are compared, times aside; verdicts where the images come in another order."""
    sizes, images = setting.sizes, setting.images(setting.sizes.images)
    attacks = (
        f"pgd_sat[steps={sizes.steps}],apgd_ce[steps={max(6, sizes.steps)}],"
        f"fab_t[steps={max(1, sizes.steps // 4)}],square[queries={sizes.queries}]"
    )
    if setting.pretended:
        attacks = f"pgd_sat[steps={sizes.steps}],square[queries={sizes.queries}]"
    for precision in ("bf16",) if setting.pretended else ("bf16", "fp32"):
        first = setting.records(f"{precision}-first", attacks, images, precision=precision)

        def again(
            name: str, chosen: EvalSet = images, precision: str = precision, **options: Any
        ) -> list[Record]:
            folder = f"{precision}-{name}"
            return setting.records(folder, attacks, chosen, precision=precision, **options)

        _same(notes, f"{precision}, once more", first, again("again"))
        if precision == "fp32":
            continue  # what is left is the same code in both
        _same(notes, f"{precision}, other batches", first, again("batches", batch_size=7))
        again("shards", shard="1/2")
        _same(notes, f"{precision}, two shards", first, again("shards", shard="2/2"))
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        shuffled = images.select([int(images.ids[i]) for i in order.tolist()])
        _same_verdicts(notes, f"{precision}, ids in another order", first, again("ids", shuffled))


def _same(notes: Notebook, what: str, first: list[Record], again: list[Record]) -> None:
    pairs = zip(first, again, strict=True)
    apart = [one.attack.name for one, two in pairs if comparable(one) != comparable(two)]
    _claim(notes, what, first, apart, "records equal")


def _same_verdicts(notes: Notebook, what: str, first: list[Record], again: list[Record]) -> None:
    pairs = zip(first, again, strict=True)
    apart = [one.attack.name for one, two in pairs if one.verdicts != two.verdicts]
    _claim(notes, what, first, apart, "verdict columns equal")


def _claim(notes: Notebook, what: str, records: list[Record], apart: list[str], asked: str) -> None:
    names = ", ".join(record.attack.name for record in records)
    notes.claim(what, f"differ: {', '.join(apart)}" if apart else names, asked, not apart)
