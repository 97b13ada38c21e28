"""Target: one defense and one image set, made ready on one device and shared by all attacks."""

import copy
import hashlib
import time
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from robench.core.errors import InputError
from robench.core.protocols import Attack
from robench.core.record import DefenseInfo, Flag, ImagesInfo, PassShape, format_ids
from robench.core.threat import ThreatModel
from robench.data.evalset import EvalSet
from robench.defenses.defense import Defense
from robench.evaluation.flags import defense_flags
from robench.evaluation.judge import Judge
from robench.evaluation.pace import PassSeconds
from robench.models.passes import (
    exact_float32,
    pass_shape,
    passes_at_once,
    resolve_precision,
)
from robench.models.prepare import SearchModel, prepare
from robench.models.view import ModelView
from robench.numerics.losses import cross_entropy

PROBE_IMAGES = 8
_PREPARATION_IMAGES = 32


class Target:
    """A defense on its device with its search copy, clean logits and sanity flags.

    precision: auto, fp32 or bf16, of searches. images_ref: what the image set was asked for as.
    Raises: InputError for a defense whose logits have
    another shape than the image set's classes, or are not finite on clean images.
    """

    def __init__(
        self,
        defense: Defense,
        images: EvalSet,
        images_ref: str,
        device: torch.device,
        precision: str,
    ) -> None:
        self.defense, self.set, self.device = defense, images, device
        self.images_ref = images_ref
        self.images = torch.from_numpy(images.images).to(device)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.ids = torch.from_numpy(images.ids).to(device)
        self.model = _on_device(defense.model, device)
        self.shape = pass_shape(device, self.images[0].numel())
        self._clean: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._check_outputs()
        # The copy is made in the resolved precision, or in float32 where it says why not.
        wanted = resolve_precision(precision, device)
        with exact_float32():
            self.search = prepare(self.model, self.pixels(slice(0, _PREPARATION_IMAGES)), wanted)
        # Plain layers may run in several threads, the unmodified ones too.
        itself = "the unmodified defense"
        self._defense = SearchModel(self._exact, "fp32", itself, self.search.traced)
        self._seconds: dict[str, PassSeconds] = {}
        self.flags: tuple[Flag, ...] = (*defense_flags(self), *self._fallback_flags(wanted))

    def pixels(self, where: slice | Tensor) -> Tensor:
        """Images (B, C, H, W) as float32(k) / 255."""
        return self.images[where].float() / 255

    def judge(self, threat: ThreatModel, rows: int, repeats: int = 1) -> Judge:
        """A judge of this defense."""
        return Judge(self.model, threat, rows, repeats)

    def clean_logits(self, places: Tensor, judge: Judge) -> Tensor:
        """(B, K) float32 logits of clean images, computed once per pass shape and repeats."""
        kind = judge.rows, judge.repeats
        if kind not in self._clean:
            logits = torch.zeros(len(self.ids), self.defense.num_classes, device=self.device)
            self._clean[kind] = (logits, torch.zeros_like(self.ids, dtype=torch.bool))
        logits, known = self._clean[kind]
        missing = places[~known[places]]
        if len(missing):
            logits[missing] = judge.logits(self.pixels(missing))
            known[missing] = True
            self._check_finite(missing, logits[missing])
        return logits[places]

    @cached_property
    def logit_probe(self) -> str:
        """SHA-256 of the float32 logits of the first 8 ids: a resume must find the same bits."""
        first = torch.arange(min(PROBE_IMAGES, len(self.ids)), device=self.device)
        logits = self.judge(ThreatModel(eps=0), self.shape.judge).logits(self.pixels(first))
        return hashlib.sha256(logits.cpu().numpy().tobytes()).hexdigest()

    def state_digest(self) -> str:
        """SHA-256 of every parameter and buffer: attacking must not change the defense."""
        sha = hashlib.sha256()
        for tensor in self.model.state_dict().values():
            sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return sha.hexdigest()

    def _exact(self, x: Tensor) -> Tensor:
        with exact_float32():
            return self.model(x)  # type: ignore[no-any-return]

    def searched_by(self, attack: Attack) -> SearchModel:
        """What an attack's passes run on: the search copy, or the defense where it asks for it."""
        return self._defense if getattr(attack, "on_defense", False) else self.search

    def pass_seconds(self, attack: Attack) -> PassSeconds:
        """Measured time of a pass of an attack; kernels are warmed up on the way."""
        search = self.searched_by(attack)
        if search.note not in self._seconds:
            self._seconds[search.note] = self._measure_passes(search)
        return self._seconds[search.note]

    def _measure_passes(self, search: SearchModel) -> PassSeconds:
        # As many passes as run side by side, or the others' time would be missed.
        x = self.pixels(slice(0, self.shape.search * passes_at_once(self.device)))
        ids, labels = self.ids[: len(x)], self.labels[: len(x)]
        logits = torch.zeros(len(x), self.defense.num_classes, device=self.device)
        view = ModelView(search, self.model, self.shape.search, ids, logits, lambda *_: None, {})
        rows = -(-len(x) // self.shape.search) * self.shape.search
        return PassSeconds(
            self._fastest(lambda: view.logits(x, ids)) / rows,
            self._fastest(lambda: view.loss_gradient(cross_entropy, x, labels, ids)) / rows,
        )

    def _fastest(self, run: Callable[[], object]) -> float:
        times = []
        for _ in range(3):  # the first pass pays for allocation and kernel choice
            started = time.perf_counter()
            run()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - started)
        return min(times)

    def defense_info(self) -> DefenseInfo:
        """What a record says of the defense."""
        defense = self.defense
        return DefenseInfo(
            name=defense.name,
            ref=defense.ref,
            fingerprint=defense.fingerprint,
            architecture=defense.architecture,
            width=defense.width,
            parameters=defense.parameters,
            num_classes=defense.num_classes,
            normalization=defense.normalization,
            dataset=defense.dataset,
            checkpoint_sha256=(defense.source or {}).get("sha256"),
            key_rules=tuple(defense.key_rules),
            label=defense.label,
            notes=tuple(defense.notes),
        )

    def images_info(self) -> ImagesInfo:
        """What a record says of the image set."""
        return ImagesInfo(
            dataset=self.set.name,
            ref=self.images_ref,
            n=len(self.set),
            digest=self.set.digest,
            ids=format_ids(self.set.ids.tolist()),
        )

    def pass_shape(self, halvings: int = 0) -> PassShape:
        """The fixed pass shape, halved as often as memory ran out."""
        search, judge = self.shape.search >> halvings, self.shape.judge >> halvings
        return PassShape(max(1, search), max(1, judge))

    def _fallback_flags(self, wanted: str) -> list[Flag]:
        if self.search.precision == wanted:
            return []
        message = f"asked for {wanted}, searched in {self.search.precision}: {self.search.note}"
        return [Flag(name="precision_fallback", level="info", message=message)]

    def _check_outputs(self) -> None:
        first = torch.arange(min(PROBE_IMAGES, len(self.ids)), device=self.device)
        judge = self.judge(ThreatModel(eps=0), self.shape.judge)
        logits = judge.logits(self.pixels(first))
        expected = (len(first), self.set.num_classes)
        if tuple(logits.shape) != expected:
            raise InputError(
                f"{self.defense.name} gives outputs of shape {tuple(logits.shape)} for "
                f"{len(first)} images of {self.set.name}, expected {expected}"
            )
        self._check_finite(first, logits)

    def _check_finite(self, places: Tensor, logits: Tensor) -> None:
        bad = places[~logits.isfinite().all(dim=1)]
        if len(bad):
            named = ", ".join(str(i) for i in self.ids[bad][:5].tolist())
            raise InputError(
                f"{self.defense.name} gives logits that are not finite on {len(bad)} clean images "
                f"of {self.set.name} (ids {named}): nothing can be said of its robustness"
            )


def _on_device(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The module itself where it already is on the device, else a copy: the user's stays put."""
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.device.type == device.type for tensor in tensors):
        return model
    return copy.deepcopy(model).to(device)
