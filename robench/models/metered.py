"""Metered views: what a black-box search is given instead of the model."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import RunError
from robench.core.protocols import Stage
from robench.models.view import ModelView, count

_Query = Callable[[Tensor, Tensor], Tensor]


def metered(view: ModelView, stage: Stage) -> "ModelView | MeteredLogits | MeteredLabels":
    """The view that `stage` declares; black-box ones allow each image the stage's passes."""
    if stage.sees == "gradients":
        return view
    kind = MeteredLogits if stage.sees == "logits" else MeteredLabels
    return kind(view, stage)


class _Metered:
    """Holds no view, only what a black-box search may do with it."""

    def __init__(self, view: ModelView, stage: Stage) -> None:
        self.keep, self.recall = view.keep, view.recall
        self._query = _charged(view, stage)
        self._offer = view.offer
        self._classes: Callable[[Tensor], int] = lambda ids: view.clean_logits(ids[:1]).shape[1]


class MeteredLogits(_Metered):
    """See `core.protocols.LogitsView`."""

    def logits(self, x: Tensor, ids: Tensor) -> Tensor:
        """See `core.protocols.LogitsView.logits`."""
        return self._query(x, ids)

    def offer(self, ids: Tensor, x: Tensor, logits: Tensor) -> Tensor | None:
        """See `core.protocols.View.offer`."""
        return self._offer(ids, x, logits)


class MeteredLabels(_Metered):
    """See `core.protocols.LabelsView`."""

    def predictions(self, x: Tensor, ids: Tensor) -> Tensor:
        """See `core.protocols.LabelsView.predictions`."""
        return self._query(x, ids).argmax(dim=1)

    def offer(self, ids: Tensor, x: Tensor, predictions: Tensor) -> Tensor | None:
        """See `core.protocols.LabelsView.offer`."""
        return self._offer(ids, x, F.one_hot(predictions, self._classes(ids)).float())


def _charged(view: ModelView, stage: Stage) -> _Query:
    """`view.logits`, until an image has had all queries of the stage."""

    def query(x: Tensor, ids: Tensor) -> Tensor:
        asked = view.forward_passes.clone()
        count(asked, view.places(ids))
        most = int(asked.max())  # an image may be there several times: counting rows is not enough
        if most > stage.forward_passes:
            raise RunError(
                f"{stage.component} asked about an image {most} times, {stage.forward_passes} "
                "queries are allowed: this is a fault of the search"
            )
        return view.logits(x, ids)

    return query
