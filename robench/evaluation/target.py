"""Target: one defense and one image set, made ready on one device and shared by all attacks."""

import dataclasses
import time
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from robench.core.errors import InputError, RobenchError, RunError
from robench.core.protocols import Attack
from robench.core.record import Behaviour, DefenseInfo, Flag, ImagesInfo, PassShape, format_ids
from robench.core.references import portable
from robench.core.threat import ThreatModel
from robench.data.evalset import EvalSet
from robench.defenses.check import normalization_warning
from robench.defenses.defense import Defense, foreign
from robench.defenses.state import state_digest
from robench.evaluation.behaviour import IMAGES, clean_probe, probe
from robench.evaluation.flags import defense_flags
from robench.evaluation.judge import Judge
from robench.evaluation.pace import PassSeconds
from robench.models.devices import let_go, on_device
from robench.models.passes import (
    exact_float32,
    out_of_memory,
    pass_shape,
    passes_at_once,
    resolve_precision,
)
from robench.models.prepare import (
    Probe,
    SearchModel,
    as_it_is,
    prepare,
    reason,
)
from robench.models.view import ModelView
from robench.numerics.losses import cross_entropy

_Out = TypeVar("_Out")

HALVED = "pass_shape_halved"


class Target:
    """A defense on its device with its search copy, clean logits and sanity flags.

    precision: auto, fp32 or bf16, of searches. images_ref: what the image set was asked for as.
    Raises: InputError for a defense that fails on its first images, whose logits have another shape
    than the image set's classes, or are not finite on clean images; RunError where its code raises
    afterwards, or memory is full at one row.
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
        self.model = on_device(defense.model, device)
        self.shape = pass_shape(device, self.images[0].numel())
        if defense.rows is not None:
            self.shape = PassShape(defense.rows, defense.rows)
        self.flags: tuple[Flag, ...] = ()
        self._clean: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._seconds: dict[str, PassSeconds] = {}
        # The copy is made in the resolved precision, or in float32 where it says why not.
        wanted = resolve_precision(precision, device)
        if defense.refused is not None:
            raise InputError(defense.refused)
        with foreign(defense.name):
            self._in_memory(self._check_outputs)
        self._passes(lambda: self._make_ready(wanted))

    def _passes(self, run: Callable[[], _Out]) -> _Out:
        """First passes of a foreign network, which may raise anything: that fails its rows, no
        others. With fewer rows where memory runs out."""
        try:
            return self._in_memory(run)
        except RobenchError:
            raise
        except (Exception, SystemExit) as error:
            kind, name = type(error).__name__, self.defense.name
            raise RunError(f"{name} raised {kind}: {reason(error)}") from error

    def _in_memory(self, run: Callable[[], _Out]) -> _Out:
        while True:
            try:
                return run()
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if self.shape.search == 1 or self.defense.rows is not None:
                    rows = self.shape.search
                    raise RunError(f"out of memory with passes of {rows} rows") from error
                let_go(error, self.device)
                self.shape = self.pass_shape(1)
                others = (flag for flag in self.flags if flag.name != HALVED)
                self.flags = (*others, halved_flag(self.shape.search))

    def _make_ready(self, wanted: str) -> None:
        with exact_float32():
            few = self.pixels(slice(0, self.shape.search))
            self.search = prepare(self.model, few, wanted, rows=self.shape.search)
        found = (*defense_flags(self), *self._fallback_flags(wanted))
        self.flags = (*(flag for flag in self.flags if flag.name == HALVED), *found)

    @property
    def no_gradient(self) -> str | None:
        """Why no attack that needs a gradient can run, or None."""
        return self.search.no_gradient

    @cached_property
    def _defense(self) -> SearchModel:
        """The unmodified defense as a search asks it."""
        # Plain layers may run in several threads, the unmodified ones too.
        traced, itself = self.search.traced, "the unmodified defense"

        def run() -> SearchModel:
            few = self.pixels(slice(0, self.shape.search))
            probe = Probe(few, self.shape.search, self.no_gradient)
            with exact_float32():
                return as_it_is(self.model, self._exact, itself, probe, traced=traced)

        return self._passes(run)

    def normalization_warning(self, where: slice) -> str | None:
        """One line when the normalisation looks wrong on some of the images, else None."""
        images, labels = self.pixels(where), self.labels[where]
        # Of the copy on the device: on the CPU a GPU's network can take minutes.
        here = dataclasses.replace(self.defense, model=self.model)
        return self._passes(lambda: normalization_warning(here, images, labels, self.shape.judge))

    def why_not(self, attack: Attack, component: str) -> str | None:
        """Why an attack cannot run on this defense, or None."""
        stages = attack.stages(component, self.defense.num_classes)
        if self.no_gradient is None or not any(stage.backward_passes for stage in stages):
            return None
        return f"no gradient: {self.no_gradient}"

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
            if problem := self._not_finite(missing, logits[missing]):
                raise RunError(problem)
        return logits[places]

    @cached_property
    def logit_probe(self) -> str:
        """SHA-256 of the float32 logits of the first 8 ids: a resume must find the same bits."""
        return self._passes(lambda: clean_probe(self.model, self._probed(), self.shape.judge))

    @cached_property
    def behaviour(self) -> Behaviour:
        """Noisy logits and gradients on the same images."""
        differentiable = self.no_gradient is None
        return self._passes(
            lambda: probe(self.model, self._probed(), self.shape.judge, differentiable)
        )

    def _probed(self) -> Tensor:
        return self.pixels(slice(0, IMAGES))

    def state_digest(self) -> str:
        """SHA-256 of every parameter and buffer: attacking must not change the defense."""
        return state_digest(self.model)

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
            self._seconds[search.note] = self._passes(lambda: self._measure_passes(search))
        return self._seconds[search.note]

    def _measure_passes(self, search: SearchModel) -> PassSeconds:
        # As many passes as run side by side, or the others' time would be missed.
        x = self.pixels(slice(0, self.shape.search * passes_at_once(self.device)))
        ids, labels = self.ids[: len(x)], self.labels[: len(x)]
        logits = torch.zeros(len(x), self.defense.num_classes, device=self.device)
        view = ModelView(search, self.model, self.shape.search, ids, logits, lambda *_: None, {})
        rows = -(-len(x) // self.shape.search) * self.shape.search
        forward = self._fastest(lambda: view.logits(x, ids)) / rows
        if self.no_gradient is not None:
            return PassSeconds(forward, forward)
        return PassSeconds(
            forward,
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
            ref=portable(defense.ref),
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
            ref=portable(self.images_ref),
            n=len(self.set),
            digest=self.set.digest,
            ids=format_ids(self.set.ids.tolist()),
            class_order=None if self.set.class_order is None else portable(self.set.class_order),
        )

    def pass_shape(self, halvings: int = 0) -> PassShape:
        """The fixed pass shape, halved as often as memory ran out."""
        if self.defense.rows is not None:
            return self.shape
        search, judge = self.shape.search >> halvings, self.shape.judge >> halvings
        return PassShape(max(1, search), max(1, judge))

    def _fallback_flags(self, wanted: str) -> list[Flag]:
        if self.search.precision == wanted:
            return []
        message = f"asked for {wanted}, searched in {self.search.precision}: {self.search.note}"
        return [Flag(name="precision_fallback", level="info", message=message)]

    def _check_outputs(self) -> None:
        first = torch.arange(min(IMAGES, len(self.ids)), device=self.device)
        judge = self.judge(ThreatModel(eps=0), self.shape.judge)
        logits = judge.logits(self.pixels(first))
        expected = (len(first), self.set.num_classes)
        if tuple(logits.shape) != expected:
            raise InputError(
                f"{self.defense.name} gives outputs of shape {tuple(logits.shape)} for "
                f"{len(first)} images of {self.set.name}, expected {expected}"
            )
        if problem := self._not_finite(first, logits):
            raise InputError(problem)

    def _not_finite(self, places: Tensor, logits: Tensor) -> str | None:
        bad = places[~logits.isfinite().all(dim=1)]
        if not len(bad):
            return None
        named = ", ".join(str(i) for i in self.ids[bad][:5].tolist())
        return (
            f"{self.defense.name} gives logits that are not finite on {len(bad)} clean images "
            f"of {self.set.name} (ids {named}): nothing can be said of its robustness"
        )


def halved_flag(rows: int) -> Flag:
    """That passes have fewer rows than they should."""
    message = f"out of memory: passes of {rows} rows from there on, verdicts may round otherwise"
    return Flag(name="pass_shape_halved", level="info", message=message, value=rows)
