"""Metered views: what a black-box search is given instead of the model."""

from collections.abc import Callable

import torch
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
        self._charge, self._logits = _Allowance(view, stage).charge, view.logits
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


class _Allowance:
    """Refuses a query of an image that has had all those of the stage.

    Counted on the host: as long as the ids are the same tensor, each image is there as often as
    before. Other ids, or a bound that is reached, are counted out on the device.
    """

    def __init__(self, view: ModelView, stage: Stage) -> None:
        self._places, self._asked = view.places, view.forward_passes
        self._component, self._allowed = stage.component, stage.forward_passes
        self._most = 0
        """Queries that no image has had more of."""
        self._ids: tuple[Tensor, int] | None = None
        """The ids of the last query, and how often they have been written to."""
        self._each = 0
        """How often one image is among them at most."""

    def charge(self, ids: Tensor) -> None:
        """Count a query of `ids` (B,). Raises: RunError for one too many."""
        if not self._are(ids) or self._most + self._each > self._allowed:
            times = torch.zeros_like(self._asked)
            count(times, self._places(ids))
            # An image may be there several times: counting rows is not enough.
            both = torch.stack([times.max(), (self._asked + times).max()])
            self._each, self._most = both.tolist()
            self._ids = None if ids.is_inference() else (ids, ids._version)
        else:
            self._most += self._each
        if self._most > self._allowed:
            raise RunError(
                f"{self._component} asked about an image {self._most} times, {self._allowed} "
                "queries are allowed: this is a fault of the search"
            )

    def _are(self, ids: Tensor) -> bool:
        return self._ids is not None and ids is self._ids[0] and ids._version == self._ids[1]
