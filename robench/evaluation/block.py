"""Block: the images in flight, and what the judge has said of them so far."""

from collections.abc import Callable

import torch
from torch import Tensor

from robench.attacks.resolve import NamedAttack
from robench.core.errors import RunError
from robench.core.record import Stop, Verdict
from robench.evaluation.judge import Judge, Judgement
from robench.models.prepare import SearchModel
from robench.models.view import ModelView
from robench.numerics.losses import margin_of
from robench.numerics.random import ImageDraws


class Block:
    """Verdicts in the making for images (N, C, H, W) float32, labels (N,), ids (N,).

    clean_logits: (N, K) float32, from the judge. component: who is credited with a broken image.
    A clean-wrong image is settled at once and never attacked.
    """

    def __init__(
        self,
        judge: Judge,
        component: str,
        stop: Stop,
        ids: Tensor,
        labels: Tensor,
        images: Tensor,
        clean_logits: Tensor,
    ) -> None:
        self.judge, self.component, self.stop = judge, component, stop
        self.ids, self.labels, self.images = ids, labels, images
        self.clean_prediction = clean_logits.argmax(dim=1)
        self.clean_margin = margin_of(clean_logits, labels).double()
        self.correct = self.clean_prediction == labels
        self.settled = ~self.correct
        self.broken = torch.zeros_like(self.settled)
        self.prediction, self.margin = self.clean_prediction.clone(), self.clean_margin.clone()
        self.distance = torch.zeros_like(self.margin)
        self.checks = torch.ones_like(ids)  # the clean forward
        self.findings: dict[str, Tensor] = {}
        self.candidates = images.clone()
        self.view: ModelView | None = None

    @property
    def attacked(self) -> Tensor:
        """(A,) positions of the images that are attacked at all."""
        return self.correct.nonzero()[:, 0]

    def run(
        self,
        named: NamedAttack,
        search: SearchModel,
        rows: int,
        seed: int,
        tick: Callable[[int], None] = lambda rows: None,
    ) -> bool:
        """Search on the copy at passes of `rows` rows, then judge; every image has its verdict.

        Returns whether the attack left the images that it was given alone; verdicts are on our own
        copy either way. Raises: RunError when it returned anything but candidates.
        """
        attacked = self.attacked
        if not len(attacked):
            self.settled[:] = True
            return True
        ids, images = self.ids[attacked], self.images[attacked]
        self.view = ModelView(search, self.judge.model, rows, ids, self.offer, self.submit, tick)
        given, draws = images.clone(), ImageDraws(seed, named.name)
        labels = self.labels[attacked].clone()
        candidates = named.attack.run(
            self.view, given, labels, ids.clone(), self.judge.threat, draws
        )
        self._finish(named.name, candidates)
        return torch.equal(given, images)

    def offer(self, ids: Tensor, x: Tensor, logits: Tensor) -> Tensor | None:
        """Rule `any`: judge what the search believes broken. Returns settled rows, or None."""
        if self.stop == "last":
            return None
        places = self._places(ids)
        # A NaN logit is no belief: argmax would return its index.
        believed = logits.isfinite().all(dim=1) & (logits.argmax(dim=1) != self.labels[places])
        believed &= ~self.settled[places]
        if bool(believed.any()):
            hits = self._judge(places[believed], x[believed])
            self._note("unconfirmed_hit", places[believed], ~hits)
        return self.settled[places]

    def submit(self, ids: Tensor, x: Tensor) -> Tensor:
        """Judge results of a search under either stop rule. Returns settled rows (B,)."""
        places = self._places(ids)
        is_open = ~self.settled[places]
        if bool(is_open.any()):
            self._judge(places[is_open], x[is_open])
        return self.settled[places]

    def _finish(self, name: str, candidates: object) -> None:
        images = self.images[self.attacked]
        if not isinstance(candidates, Tensor) or candidates.shape != images.shape:
            got = getattr(candidates, "shape", type(candidates).__name__)
            raise RunError(f"{name} returned {got}, expected candidates {tuple(images.shape)}")
        x = candidates.detach().to(images.device, torch.float32)
        self.submit(self.ids[self.attacked], x)
        self.settled[:] = True

    def unsettled_passes(self) -> int:
        """Passes spent on images that have no verdict yet: lost when the search stops here."""
        if self.view is None:
            return 0
        open_places = self.view.places(self.ids[(~self.settled).nonzero()[:, 0]])
        spent = self.view.forward_passes + self.view.backward_passes
        return int(spent[open_places].sum())

    def verdicts(self) -> list[Verdict]:
        """The verdicts of the settled images."""
        places = self.settled.nonzero()[:, 0]
        self._note("margin_rose", places, self._margin_rose(places))
        forward, backward = self._passes()
        names = sorted(self.findings)
        marks = torch.stack([self.findings[name][places] for name in names], dim=1).tolist()
        rows = zip(
            self.ids[places].tolist(),
            self.labels[places].tolist(),
            self.clean_prediction[places].tolist(),
            self.prediction[places].tolist(),
            (self.correct & ~self.broken)[places].tolist(),
            self.distance[places].tolist(),
            self.margin[places].tolist(),
            forward[places].tolist(),
            backward[places].tolist(),
            [None] * len(places),  # queries: no search of this kind is charged any
            self._origins(places),
            [tuple(n for n, m in zip(names, row, strict=True) if m) for row in marks],
            strict=True,
        )
        return [Verdict(*row) for row in rows]

    def _margin_rose(self, places: Tensor) -> Tensor:
        """Attacked images that the defense is surer of after the attack than before."""
        return self.correct[places] & (self.margin[places] > self.clean_margin[places])

    def _origins(self, places: Tensor) -> list[str | None]:
        correct, broken = self.correct[places].tolist(), self.broken[places].tolist()
        return [
            "clean" if not c else self.component if b else None
            for c, b in zip(correct, broken, strict=True)
        ]

    def _passes(self) -> tuple[Tensor, Tensor]:
        forward, backward = self.checks.clone(), torch.zeros_like(self.checks)
        if self.view is not None and len(self.attacked):
            places = self.attacked
            order = self.view.places(self.ids[places])
            forward[places] += self.view.forward_passes[order]
            backward[places] += self.view.backward_passes[order]
            self._note("zero_gradient", places, self.view.zero_gradient[order])
        return forward, backward

    def _places(self, ids: Tensor) -> Tensor:
        """Positions in the block; an id that is not attacked here is the search's mistake."""
        order = self.ids.argsort()
        found = torch.searchsorted(self.ids[order], ids).clamp(max=len(order) - 1)
        places = order[found]
        if not bool(((self.ids[places] == ids) & self.correct[places]).all()):
            raise RunError(f"{self.component} offered images that it was not given")
        return places

    def _judge(self, places: Tensor, x: Tensor) -> Tensor:
        judgement = self.judge.verify(self.images[places], x.detach(), self.labels[places])
        self.checks[places] += 1
        self._record(places, x, judgement)
        return judgement.broken

    def _record(self, places: Tensor, x: Tensor, judgement: Judgement) -> None:
        self.prediction[places] = judgement.prediction
        self.margin[places] = judgement.margin
        self.distance[places] = judgement.distance
        self.broken[places] = judgement.broken
        self.candidates[places] = x.detach().float()
        for name, mark in judgement.findings.items():
            if name.startswith("rejected"):
                self._note(name, places, mark)
            else:  # a finding about the candidate that the verdict is of: the latest
                self.findings.setdefault(name, torch.zeros_like(self.settled))[places] = mark
        # Last: an interruption before this line leaves the image open, never half told.
        self.settled[places] |= judgement.broken

    def _note(self, name: str, places: Tensor, mark: Tensor) -> None:
        column = self.findings.setdefault(name, torch.zeros_like(self.settled))
        column[places] |= mark
