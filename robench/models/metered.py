"""Metered views: what a black-box search is given instead of the model."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from robench.core.errors import RunError
from robench.core.protocols import Near, Stage
from robench.models.view import ModelView, count


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
        self._charge, self._logits = _charge(view, stage), view.logits
        self._near, self._offer = view.near, view.offer
        self._classes: Callable[[Tensor], int] = lambda ids: view.clean_logits(ids[:1]).shape[1]

    def _query(self, x: Tensor, ids: Tensor) -> Tensor:
        self._charge(ids)
        return self._logits(x, ids)


class MeteredLogits(_Metered):
    """See `core.protocols.LogitsView`."""

    def logits(self, x: Tensor, ids: Tensor) -> Tensor:
        """See `core.protocols.LogitsView.logits`."""
        return self._query(x, ids)

    def near(self, x: Tensor, ids: Tensor, side: int | None) -> "_MeteredNear":
        """See `core.protocols.LogitsView.near`."""
        return _MeteredNear(self._charge, self._near(x, ids, side))

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


class _MeteredNear:
    def __init__(self, charge: Callable[[Tensor], None], near: Near) -> None:
        self._charge, self._near, self.keep = charge, near, near.keep

    def logits(self, z: Tensor, ids: Tensor, corners: Tensor) -> Tensor:
        """See `core.protocols.Near.logits`."""
        self._charge(ids)
        return self._near.logits(z, ids, corners)


def _charge(view: ModelView, stage: Stage) -> Callable[[Tensor], None]:
    """Refuses a query of an image that has had all those of the stage."""

    def charge(ids: Tensor) -> None:
        asked = view.forward_passes.clone()
        count(asked, view.places(ids))
        most = int(asked.max())  # an image may be there several times: counting rows is not enough
        if most > stage.forward_passes:
            raise RunError(
                f"{stage.component} asked about an image {most} times, {stage.forward_passes} "
                "queries are allowed: this is a fault of the search"
            )

    return charge
