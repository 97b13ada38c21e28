"""Block: the images in flight in one stage of a search, and the judge that hears its offers."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from robench.core.errors import RunError
from robench.core.protocols import Stage
from robench.core.record import Stop
from robench.evaluation.judge import Judge, Judgement
from robench.evaluation.standing import Standing
from robench.models.metered import metered
from robench.models.passes import reserved_for_passes
from robench.models.prepare import SearchModel
from robench.models.view import ModelView, count
from robench.numerics.random import ImageDraws


class Block:
    """One stage on images (N, C, H, W) float32, of which `rows` holds what is known.

    clean_logits: (N, K) float32, from the judge. A clean-wrong image is settled at once and not
    attacked, unless `every_image`. What the stage changes is in `rows`, to be put back by who gave
    them.
    """

    def __init__(
        self,
        judge: Judge,
        stop: Stop,
        rows: Standing,
        images: Tensor,
        clean_logits: Tensor,
        every_image: bool = False,
    ) -> None:
        self.judge, self.stop, self.rows = judge, stop, rows
        self.images, self.clean_logits = images, clean_logits
        rows.score_clean(clean_logits, settle_wrong=not every_image)
        # What an earlier stage left, where candidates are kept at all.
        self.candidates = rows.columns.get("candidate", images).clone()
        self.component = ""
        self.view: ModelView | None = None
        self._sorted, self._order = rows["ids"].sort()

    @property
    def attacked(self) -> Tensor:
        """(A,) positions of the images that are still open."""
        return (~self.rows["settled"]).nonzero()[:, 0]

    def run(
        self,
        stage: Stage,
        search: SearchModel,
        rows: int,
        seed: int,
        tick: Callable[[int], None] = lambda rows: None,
    ) -> bool:
        """Search on the copy at passes of `rows` rows, then judge what came out.

        Returns whether the attack left the images that it was given alone; verdicts are on our own
        copy either way. Raises: RunError when it returned anything but candidates.
        """
        attacked = self.attacked
        self.component = stage.component
        if not len(attacked):
            return True
        ids, images = self.rows["ids"][attacked], self.images[attacked]
        memory = {name: column[attacked] for name, column in self.rows.memory().items()}
        logits = self.clean_logits[attacked]
        self.view = ModelView(search, self.judge.model, rows, ids, logits, self.offer, memory, tick)
        given, labels = images.clone(), self.rows["labels"][attacked].clone()
        draws = ImageDraws(seed, stage.component)
        try:
            view = metered(self.view, stage)
            with reserved_for_passes() if self.view.side_by_side else nullcontext():
                candidates = stage.run(view, given, labels, ids.clone(), self.judge.threat, draws)
            if candidates is not None:
                self._submit(attacked, candidates)
        finally:
            self._count(attacked)
        kept = Standing({}, ())
        kept.remember(memory)
        for name, values in kept.columns.items():
            self.rows.column(name, values)[attacked] = values
        self.rows["stage"][attacked] += 1
        return torch.equal(given, images)

    def offer(self, ids: Tensor, x: Tensor, logits: Tensor) -> Tensor | None:
        """Rule `any`: judge what the search believes broken. Returns settled rows, or None."""
        if self.stop == "last":
            return None
        places, strange = self._places(ids)
        settled = self.rows["settled"]
        done = settled[places]
        # A NaN logit is no belief: argmax would return its index.
        believed = logits.isfinite().all(dim=1)
        believed &= logits.argmax(dim=1) != self.rows["labels"][places]
        believed &= ~done
        # All that the host has to know, at once: each question waits for a GPU.
        to_judge, done_before, not_ours = torch.stack([believed, done, strange]).cpu()
        if bool(not_ours.any()):
            raise RunError(f"{self.component} offered images that it was not given")
        if not bool((to_judge | done_before).any()):
            return None
        if bool(to_judge.any()):
            which = to_judge.nonzero()[:, 0].to(places.device)
            missed = ~self._judge(places[which], x[which])
            count(self.rows["unconfirmed/" + self.component], places[which], missed)
            self.rows.note("unconfirmed_hit", places[which], missed)
        return settled[places]

    def _submit(self, attacked: Tensor, candidates: object) -> None:
        """Judge the results of the stage under either stop rule."""
        expected = self.images[attacked].shape
        if not isinstance(candidates, Tensor) or candidates.shape != expected:
            got = getattr(candidates, "shape", type(candidates).__name__)
            raise RunError(
                f"{self.component} returned {got}, expected candidates {tuple(expected)}"
            )
        is_open = (~self.rows["settled"][attacked]).nonzero()[:, 0]
        if len(is_open):
            x = candidates.detach().to(self.images.device, torch.float32)
            self._judge(attacked[is_open], x[is_open])

    def _count(self, attacked: Tensor) -> None:
        """Charge the passes of the stage to its images."""
        view = self.view
        if view is not None:
            order = view.places(self.rows["ids"][attacked])
            self.rows["forward/" + self.component][attacked] += view.forward_passes[order]
            self.rows["backward/" + self.component][attacked] += view.backward_passes[order]
            self.rows.note("zero_gradient", attacked, view.zero_gradient[order])

    def passes(self) -> tuple[int, int]:
        """Forward and backward passes of this stage, summed over its images."""
        if self.view is None:
            return 0, 0
        return int(self.view.forward_passes.sum()), int(self.view.backward_passes.sum())

    def unsettled_passes(self) -> int:
        """Passes of this stage on images that are still open: lost when it is cut here."""
        if self.view is None:
            return 0
        lost = self.view.places(self.rows["ids"][self.attacked])
        spent = self.view.forward_passes + self.view.backward_passes
        return int(spent[lost].sum())

    def _places(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the block; and (B,) bool of ids that are not attacked here."""
        found = torch.searchsorted(self._sorted, ids).clamp(max=len(self._sorted) - 1)
        places = self._order[found]
        return places, (self.rows["ids"][places] != ids) | ~self.rows.correct[places]

    def _judge(self, places: Tensor, x: Tensor) -> Tensor:
        judgement = self.judge.verify(self.images[places], x.detach(), self.rows["labels"][places])
        for name, mark in judgement.findings.items():
            if name.startswith("rejected"):
                self.rows.note(name, places, mark)
        self._record(places, x, judgement)
        count(self.rows["checks"], places)
        return judgement.broken

    def _record(self, places: Tensor, x: Tensor, judgement: Judgement) -> None:
        """Keep the judged candidate that the verdict is of.

        Rule `last`: the latest. Rule `any`: the one that broke the image, else that of the smallest
        margin.
        """
        rows, kept = self.rows, _first_of_each(places, judgement.broken)
        if self.stop == "any":
            nearer = (rows["checks"][places] == 1) | (judgement.margin < rows["margin"][places])
            kept &= judgement.broken | nearer
        which = kept.nonzero()[:, 0]
        places, x, judgement = places[which], x[which], judgement.at(which)
        rows["prediction"][places] = judgement.prediction
        rows["margin"][places] = judgement.margin
        rows["distance"][places] = judgement.distance
        self.candidates[places] = x.detach().float()
        for name, mark in judgement.findings.items():
            if not name.startswith("rejected"):
                rows.column("finding/" + name, mark)[places] = mark
        by, broken = rows.components.index(self.component) + 1, judgement.broken
        rows["broken_by"][places] = torch.where(broken, by, rows["broken_by"][places])
        # Last: an interruption before this line leaves the image open, never half told.
        rows["settled"][places] |= broken


def _first_of_each(places: Tensor, broken: Tensor) -> Tensor:
    """(B,) bool: of the rows of an image that is there several times its first broken one, or
    its first."""
    order = (2 * places + ~broken).argsort(stable=True)
    ordered = places[order]
    new = torch.ones_like(broken)
    new[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(new).index_copy_(0, order, new)
