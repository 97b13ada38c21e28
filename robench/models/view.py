"""ModelView: what a search sees. Fixed padded passes, counters per image, offers to the judge."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from robench.models.gradient import loss_gradient
from robench.models.layout import padded_chunks, with_channels_last
from robench.models.near import News, Surroundings, plan_near
from robench.models.near_plan import Plan
from robench.models.passes import exact_float32, side_by_side, use_all_threads
from robench.models.prepare import SearchModel
from robench.numerics.losses import Loss

Offer = Callable[[Tensor, Tensor, Tensor], Tensor | None]
_Chunk = TypeVar("_Chunk")
_Out = TypeVar("_Out")


def forward_padded(
    forward: Callable[[Tensor], Tensor],
    x: Tensor,
    rows: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Logits (B, K) of x (B, ...), every pass at exactly `rows` rows, no gradient."""
    # no_grad, not inference_mode: a defense may differentiate inside its forward. clone: a defense
    # that works in place must not change the images.
    with torch.no_grad():
        pieces = [
            forward(chunk.clone()).to(dtype)[: where.stop - where.start]
            for where, chunk in padded_chunks(x, rows)
        ]
    return torch.cat(pieces)


class ModelView:
    """The model of the images that one stage of a search works on.

    search: the copy that passes run on. defense: the unmodified network, for adapters. rows: rows
    of every pass. ids: (N,) the ids of the images. clean_logits: (N, K) float32. offer: the judge's
    ear (see `core.protocols`). memory: name -> (N, ...) what earlier stages kept, written to as
    well. tick: called after each pass with the rows it served.
    """

    def __init__(
        self,
        search: SearchModel,
        defense: nn.Module,
        rows: int,
        ids: Tensor,
        clean_logits: Tensor,
        offer: Offer,
        memory: dict[str, Tensor],
        tick: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._search, self._defense, self._rows, self._tick = search, defense, rows, tick
        self._sorted, self._order = ids.sort()
        self._clean_logits, self._offer, self._memory = clean_logits, offer, memory
        self.forward_passes = torch.zeros_like(ids)
        self.backward_passes = torch.zeros_like(ids)
        self._dead = torch.zeros_like(ids)
        self._all_had_gradients = False

    @property
    def side_by_side(self) -> bool:
        """Whether passes run side by side: on the CPU, where the copy can take it."""
        return self._search.traced and self._sorted.device.type == "cpu"

    @property
    def zero_gradient(self) -> Tensor:
        """(N,) bool: images with a first gradient that is zero or not finite."""
        return self._dead > 0

    def places(self, ids: Tensor) -> Tensor:
        """(B,) positions of `ids` among the images."""
        return self._order[torch.searchsorted(self._sorted, ids)]

    def offer(self, ids: Tensor, x: Tensor, logits: Tensor) -> Tensor | None:
        """See `core.protocols.View.offer`."""
        return self._offer(ids, x, logits)

    def clean_logits(self, ids: Tensor) -> Tensor:
        """See `core.protocols.View.clean_logits`."""
        return self._clean_logits[self.places(ids)]

    def keep(self, name: str, ids: Tensor, values: Tensor) -> None:
        """See `core.protocols.View.keep`."""
        if name not in self._memory:
            shape = (len(self._sorted), *values.shape[1:])
            self._memory[name] = torch.zeros(shape, dtype=values.dtype, device=values.device)
        self._memory[name][self.places(ids)] = values

    def recall(self, name: str, ids: Tensor) -> Tensor:
        """See `core.protocols.View.recall`."""
        return self._memory[name][self.places(ids)]

    def logits(self, x: Tensor, ids: Tensor) -> Tensor:
        """See `core.protocols.View.logits`."""
        count(self.forward_passes, self.places(ids))
        return torch.cat(list(self._each(self._chunk_logits, padded_chunks(x, self._rows))))

    def near(self, x: Tensor, ids: Tensor, side: int | None) -> "_Whole | _Near":
        """See `core.protocols.LogitsView.near`. What it holds costs a pass that is not charged."""
        graph = self._search.forward
        if side is None or not self.side_by_side or not isinstance(graph, fx.GraphModule):
            return _Whole(self)
        plan = plan_near(graph, self._laid_out(x[:1]), side)
        return _Whole(self) if plan is None else _Near(self, graph, plan, x, ids)

    def loss_gradient(
        self, loss: Loss, x: Tensor, labels: Tensor, ids: Tensor, *, exact: bool = False
    ) -> tuple[Tensor, Tensor]:
        """See `core.protocols.View.loss_gradient`. labels: (B, ...) whatever the loss takes."""
        places = self.places(ids)
        pieces = zip(padded_chunks(x, self._rows), padded_chunks(labels, self._rows), strict=True)
        chunks = ((where, chunk, own) for (where, chunk), (_, own) in pieces)
        passes = self._each(lambda piece: self._chunk_gradient(loss, exact, *piece), chunks)
        logits, gradients = zip(*passes, strict=True)
        gradient = torch.cat(gradients)
        if not self._all_had_gradients:
            self._note_zero_gradients(places, gradient)
        count(self.forward_passes, places)
        count(self.backward_passes, places)
        return torch.cat(logits), gradient

    def _each(self, run: Callable[[_Chunk], _Out], chunks: Iterator[_Chunk]) -> Iterator[_Out]:
        """Every pass, in order."""
        for done in (side_by_side if self.side_by_side else map)(run, chunks):
            self._tick(self._rows)
            yield done

    def _laid_out(self, x: Tensor) -> Tensor:
        """In the memory format of the search's passes."""
        return with_channels_last(x) if self._search.channels_last else x.contiguous()

    def _chunk_logits(self, piece: tuple[slice, Tensor]) -> Tensor:
        where, chunk = piece
        with torch.no_grad():
            return self._search.forward(self._laid_out(chunk)).float()[: where.stop - where.start]

    def _chunk_gradient(
        self, loss: Loss, exact: bool, where: slice, chunk: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        n = where.stop - where.start
        z, gradient = loss_gradient(
            self._search.forward, loss, self._laid_out(chunk), labels, exact=exact
        )
        return z[:n], gradient[:n]

    def _note_zero_gradients(self, places: Tensor, gradient: Tensor) -> None:
        """Images whose first gradient is zero or not finite: an ascent goes nowhere from there."""
        rows = gradient.flatten(1)
        dead = ~rows.isfinite().all(dim=1) | (rows == 0).all(dim=1)
        had = self.backward_passes > 0
        count(self._dead, places, dead & ~had[places])
        had[places] = True
        self._all_had_gradients = bool(had.all())

    def module(self, *, offer: bool) -> nn.Module:
        """See `core.protocols.View.module`."""
        use_all_threads()  # until the block ends: an adapter makes no passes side by side
        return _CountingModule(self, offer)


class _Whole:
    """Passes near a point that are passes like any other."""

    def __init__(self, view: ModelView) -> None:
        self._view = view

    def logits(self, z: Tensor, ids: Tensor, corners: Tensor) -> Tensor:
        """See `core.protocols.Near.logits`."""
        return self._view.logits(z, ids)

    def keep(self, kept: Tensor) -> None:
        """See `core.protocols.Near.keep`."""


class _Near:
    """Passes near a point on what `robench.models.near` computes again."""

    def __init__(
        self, view: ModelView, graph: fx.GraphModule, plan: Plan, x: Tensor, ids: Tensor
    ) -> None:
        self._view, self._around = view, Surroundings(graph, plan, len(view.forward_passes))
        self._news: list[tuple[int, News]] = []
        self._kept = torch.zeros(0, dtype=torch.bool)
        for (_, places), (_, chunk) in self._chunks(view.places(ids), x):
            self._around.hold(places, view._laid_out(chunk))

    def _chunks(self, *values: Tensor) -> list[tuple[tuple[slice, Tensor], ...]]:
        rows = self._view._rows
        return list(zip(*(padded_chunks(value, rows) for value in values), strict=True))

    def logits(self, z: Tensor, ids: Tensor, corners: Tensor) -> Tensor:
        """See `core.protocols.Near.logits`."""
        places = self._view.places(ids)
        count(self._view.forward_passes, places)
        chunks = self._chunks(places, z, corners)
        before = [news.rows for _, news in self._news]
        now = [chunk for (_, chunk), *_ in chunks]
        # Each pass writes what it keeps of its last one, unless the images have moved.
        if len(now) != len(before) or not all(map(torch.equal, now, before)):
            self._write_all()
        news = list(self._view._each(self._chunk, enumerate(chunks)))
        self._kept = torch.zeros(len(z), dtype=torch.bool)
        self._news = [
            (at.stop - at.start, n) for ((at, _), *_), n in zip(chunks, news, strict=True)
        ]
        return torch.cat([news.logits[:n] for n, news in self._news])

    def _chunk(self, numbered: tuple[int, tuple[tuple[slice, Tensor], ...]]) -> News:
        number, pieces = numbered
        self._write(number)
        return self._around.logits(*(piece for _, piece in pieces))

    def _write(self, number: int) -> None:
        if number < len(self._news):
            n, news = self._news[number]
            first = sum(n for n, _ in self._news[:number])
            which = self._kept[first : first + n].nonzero()[:, 0]
            if len(which):
                self._around.keep(news, which)

    def _write_all(self) -> None:
        for number in range(len(self._news)):
            self._write(number)
        self._news = []

    def keep(self, kept: Tensor) -> None:
        """See `core.protocols.Near.keep`."""
        self._kept = kept


def count(counter: Tensor, places: Tensor, which: Tensor | None = None) -> None:
    """Add one at each of `places` (B,), or those that `which` (B,) names; twice at one there twice.

    A mask is added and not picked by: a GPU would be asked how many rows it holds.
    """
    ones = torch.ones_like(places) if which is None else which
    counter.index_add_(0, places, ones.to(counter.dtype))


class _CountingModule(nn.Module):
    """The float32 unmodified defense for adapters; a pass over part of the block counts for all."""

    def __init__(self, view: ModelView, offer: bool) -> None:
        super().__init__()
        self.offer = offer
        self.seen_by: Callable[[], ModelView] = lambda: view  # no submodule: not our state

    def forward(self, x: Tensor) -> Tensor:
        view = self.seen_by()
        with exact_float32():
            logits: Tensor = view._defense(x.clone())  # a defense may work in place
        view.forward_passes += 1
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        view._tick(len(x))
        if self.offer and len(x) == len(view._sorted):
            ids = torch.empty_like(view._sorted).scatter_(0, view._order, view._sorted)
            view.offer(ids, x.detach().float(), logits.detach())
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.seen_by().backward_passes += 1
