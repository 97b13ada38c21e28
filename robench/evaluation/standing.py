"""Standing: what is known so far of every image of a sitting, column by column, on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robench.core.record import Component, Verdict
from robench.numerics.losses import margin_of

_FINDING, _MEMORY = "finding/", "memory/"
_COUNTERS = ("forward/", "backward/", "unconfirmed/")


class Standing:
    """Columns (N, ...) of N images: verdicts in the making, passes by component, search memory.

    columns: `stage` (stages done), `broken_by` (1 + place in `components`, 0 while unbroken),
    `settled`, what the judge last said, `forward/<component>`, `finding/<name>`, `memory/<name>`.
    Images leave and enter by `take` and `put`: what a stage did not finish is simply not put back.
    """

    def __init__(self, columns: dict[str, Tensor], components: Sequence[str]) -> None:
        self.columns, self.components = columns, tuple(components)

    @classmethod
    def of(cls, ids: Tensor, labels: Tensor, components: Sequence[str]) -> "Standing":
        """Images of which nothing is known. ids, labels: (N,) int64."""
        names = ("stage", "checks", "broken_by", "clean_prediction", "prediction")
        counters = [kind + component for kind in _COUNTERS for component in components]
        columns = {name: torch.zeros_like(ids) for name in (*names, *counters)}
        columns |= {
            name: torch.zeros_like(ids, dtype=torch.float64)
            for name in ("clean_margin", "margin", "distance")
        }
        columns["settled"] = torch.zeros_like(ids, dtype=torch.bool)
        return cls({"ids": ids, "labels": labels, **columns}, components)

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self["ids"])

    @property
    def correct(self) -> Tensor:
        """(N,) bool, once the clean images are scored."""
        return self["clean_prediction"] == self["labels"]

    def score_clean(self, logits: Tensor, settle_wrong: bool = True) -> None:
        """Take in the judge's clean logits (N, K). settle_wrong: clean-wrong images are done."""
        self.columns["clean_prediction"] = logits.argmax(dim=1)
        self.columns["clean_margin"] = margin_of(logits, self["labels"]).double()
        new = self["checks"] == 0
        self["prediction"][new] = self["clean_prediction"][new]
        self["margin"][new] = self["clean_margin"][new]
        self["checks"][new] = 1
        if settle_wrong:
            self["settled"][new] = ~self.correct[new]

    def open_at(self, stage: int) -> Tensor:
        """(A,) positions of the images whose next stage it is."""
        return (~self["settled"] & (self["stage"] == stage)).nonzero()[:, 0]

    def take(self, places: Tensor) -> "Standing":
        """A copy of some rows."""
        return Standing({name: c[places] for name, c in self.columns.items()}, self.components)

    def put(self, places: Tensor, rows: "Standing") -> None:
        """Overwrite rows; columns that are new here are zero elsewhere."""
        for name, values in rows.columns.items():
            self.column(name, values)[places] = values

    def column(self, name: str, like: Tensor) -> Tensor:
        """The column of that name, made of zeros shaped like rows of `like` where it is new."""
        if name not in self.columns:
            shape = (len(self), *like.shape[1:])
            self.columns[name] = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return self.columns[name]

    def note(self, name: str, places: Tensor, mark: Tensor) -> None:
        """Raise a finding on those of `places` (B,) that `mark` (B,) names."""
        # Added up, since a place may be there twice; not picked, since a GPU would be waited for.
        marked = torch.zeros_like(self["ids"]).index_add_(0, places, mark.long())
        self.column(_FINDING + name, mark).logical_or_(marked > 0)

    def memory(self) -> dict[str, Tensor]:
        """What searches keep between stages, by name."""
        return {
            name.removeprefix(_MEMORY): column
            for name, column in self.columns.items()
            if name.startswith(_MEMORY)
        }

    def remember(self, memory: dict[str, Tensor]) -> None:
        """Take in what a search kept."""
        self.columns |= {_MEMORY + name: column for name, column in memory.items()}

    def forget(self, places: Tensor) -> None:
        """Begin again with the images at `places`."""
        fresh = Standing.of(self["ids"][places], self["labels"][places], self.components)
        self.put(places, fresh)

    def verdicts(self, places: Tensor, charged: bool) -> list[Verdict]:
        """The verdicts of settled images. charged: forward passes count as queries."""
        rows = self.take(places)
        names = sorted(n.removeprefix(_FINDING) for n in rows.columns if n.startswith(_FINDING))
        marks = [rows[_FINDING + name].tolist() for name in names]
        # Attacked images that the defense is surer of after the attack than before.
        rose = (rows.correct & (rows["margin"] > rows["clean_margin"])).tolist()
        names, marks = [*names, "margin_rose"], [*marks, rose]
        searches, backward = (rows._total(kind) for kind in _COUNTERS[:2])
        queries = searches.tolist() if charged else [None] * len(rows)
        columns = zip(
            rows["ids"].tolist(),
            rows["labels"].tolist(),
            rows["clean_prediction"].tolist(),
            rows["prediction"].tolist(),
            (rows.correct & (rows["broken_by"] == 0)).tolist(),
            rows["distance"].tolist(),
            rows["margin"].tolist(),
            (searches + rows["checks"]).tolist(),
            backward.tolist(),
            queries,
            rows._origins(),
            [
                tuple(sorted(n for n, m in zip(names, row, strict=True) if m))
                for row in zip(*marks, strict=True)
            ],
            strict=True,
        )
        return [Verdict(*row) for row in columns]

    def _total(self, kind: str) -> Tensor:
        return torch.stack([self[kind + component] for component in self.components]).sum(dim=0)

    def _origins(self) -> list[str | None]:
        names = [None, *self.components]
        pairs = zip(self.correct.tolist(), self["broken_by"].tolist(), strict=True)
        return [names[by] if correct else "clean" for correct, by in pairs]

    def costs(self) -> list[Component]:
        """What each component broke and spent on all the images here."""
        return [
            Component(
                name=component,
                broken=int(((self["broken_by"] == place + 1) & self.correct).sum()),
                forward_passes=int(self["forward/" + component].sum()),
                backward_passes=int(self["backward/" + component].sum()),
                unconfirmed_hits=int(self["unconfirmed/" + component].sum()),
            )
            for place, component in enumerate(self.components)
        ]
