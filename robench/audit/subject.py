"""Subject: the float32 unmodified defense and its images, as every test sees them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from robench.audit.budget import Budget
from robench.core.errors import InputError
from robench.core.protocols import Attack
from robench.core.record import Flag, Stop
from robench.core.threat import ThreatModel
from robench.data.evalset import EvalSet
from robench.evaluation.block import Block
from robench.evaluation.flags import defense_flags
from robench.evaluation.judge import Judge
from robench.evaluation.standing import Standing
from robench.models.gradient import loss_gradient
from robench.models.layout import padded_chunks
from robench.models.passes import exact_float32, pass_shape
from robench.models.prepare import SearchModel
from robench.models.view import forward_padded
from robench.numerics.losses import Loss
from robench.numerics.random import ImageDraws

IN_FLIGHT = 128
"""Images in a block: bounds the memory of a search, changes no verdict."""

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Outcome:
    """What the judge says of an attack. broken: (A,) bool. candidates: (A, C, H, W)."""

    broken: Tensor
    candidates: Tensor


class Subject:
    """What is audited: only the images that the defense classifies correctly.

    model: in evaluation mode, on the device. images: (N, C, H, W) float32, labels, ids: (N,).
    surrogate: another network, for transfer. tick: told the rows of each pass of an attack.

    Not a `Target`: that one prepares a search copy, which a defense without gradients may not
    survive, and no probe may run on it.
    Raises: InputError when no clean image is classified correctly, or logits are not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        images: EvalSet,
        threat: ThreatModel,
        budget: Budget,
        device: torch.device,
        seed: int = 0,
        surrogate: nn.Module | None = None,
        tick: Tick = lambda rows: None,
    ) -> None:
        self.model, self.threat, self.budget, self.seed = model, threat, budget, seed
        self.surrogate, self.tick = surrogate, tick
        self.shape = pass_shape(device, images.images[0].size)
        pixels = torch.from_numpy(images.images).to(device).float() / 255
        labels, ids = (torch.from_numpy(a).to(device) for a in (images.labels, images.ids))
        logits = self.judge(threat, self.shape.judge).logits(pixels)
        self._check(logits, images)
        correct = logits.argmax(dim=1) == labels
        if not bool(correct.any()):
            raise InputError(
                f"none of {len(ids)} images of {images.name} is classified correctly: nothing can "
                "be attacked; is the normalisation right (--normalize)?"
            )
        self.images, self.labels, self.ids = pixels[correct], labels[correct], ids[correct]
        self.clean_logits = logits[correct]
        self._known: dict[tuple[str, Attack, float, Stop], Outcome] = {}

    @staticmethod
    def _check(logits: Tensor, images: EvalSet) -> None:
        expected = (len(images), images.num_classes)
        if tuple(logits.shape) != expected:
            raise InputError(f"the defense gives {tuple(logits.shape)}, expected {expected}")
        if not bool(logits.isfinite().all()):
            raise InputError("the defense gives logits that are not finite on clean images")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> int:
        return self.clean_logits.shape[1]

    def pixels(self, where: slice) -> Tensor:
        """Images (B, C, H, W), as `evaluation.flags` asks for them."""
        return self.images[where]

    def judge(self, threat: ThreatModel, rows: int) -> Judge:
        """A judge of the defense."""
        return Judge(self.model, threat, rows)

    @cached_property
    def flags(self) -> dict[str, Flag]:
        """The sanity flags of the defense by name."""
        return {flag.name: flag for flag in defense_flags(self)}

    def draws(self, component: str) -> ImageDraws:
        """The random numbers of a test."""
        return ImageDraws(self.seed, component)

    def forward(self, x: Tensor) -> Tensor:
        """One pass of the defense, with a graph where that is on."""
        with exact_float32():
            return self.model(x)  # type: ignore[no-any-return]

    def logits(self, x: Tensor) -> Tensor:
        """(B, K) float32 logits of x (B, C, H, W)."""
        with exact_float32():
            return forward_padded(self.model, x, self.shape.search)

    def gradients(self, loss: Loss, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and exact gradient (B, C, H, W) of a loss of the images at `places`."""
        rows, labels = self.shape.search, self.labels[places]
        found = [
            loss_gradient(self.forward, loss, chunk, own, exact=True)
            for (_, chunk), (_, own) in zip(
                padded_chunks(x, rows), padded_chunks(labels, rows), strict=True
            )
        ]
        logits, gradient = (torch.cat(parts)[: len(x)] for parts in zip(*found, strict=True))
        return logits, gradient

    @property
    def everyone(self) -> Tensor:
        """(N,) the places of all images."""
        return torch.arange(len(self), device=self.ids.device)

    def attack(
        self, name: str, attack: Attack, *, eps: float | None = None, stop: Stop = "any"
    ) -> Outcome:
        """An attack on all images, run once however many tests ask for it."""
        eps = self.threat.eps if eps is None else eps
        key = (name, attack, eps, stop)
        if key not in self._known:
            self._known[key] = self.attack_some(name, attack, self.everyone, eps=eps, stop=stop)
        return self._known[key]

    def attack_some(
        self,
        name: str,
        attack: Attack,
        places: Tensor,
        *,
        eps: float | None = None,
        stop: Stop = "any",
        along: nn.Module | None = None,
    ) -> Outcome:
        """An attack on the images at `places` (A,), judged on the defense.

        along: the network that it searches on; None: the defense.
        """
        threat = self.threat if eps is None else ThreatModel(self.threat.norm, eps)
        search = self.forward if along is None else along
        found = [
            self._block(name, attack, block, threat, stop, SearchModel(search, "fp32", "as it is"))
            for block in torch.split(places, IN_FLIGHT)
        ]
        return Outcome(
            torch.cat([outcome.broken for outcome in found]),
            torch.cat([outcome.candidates for outcome in found]),
        )

    def _block(
        self,
        name: str,
        attack: Attack,
        places: Tensor,
        threat: ThreatModel,
        stop: Stop,
        search: SearchModel,
    ) -> Outcome:
        judge = self.judge(threat, self.shape.judge)
        stages = attack.stages(name, self.classes)
        components = list(dict.fromkeys(stage.component for stage in stages))
        standing = Standing.of(self.ids[places], self.labels[places], components)
        images, logits = self.images[places], self.clean_logits[places]
        candidates = images.clone()
        for number, stage in enumerate(stages):
            rows = standing.open_at(number)
            block = Block(judge, stop, standing.take(rows), images[rows], logits[rows])
            with exact_float32():
                block.run(stage, search, self.shape.search, self.seed, self.tick)
            standing.put(rows, block.rows)
            candidates[rows] = block.candidates
        return Outcome(standing["broken_by"] > 0, candidates)
