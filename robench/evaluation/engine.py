"""The engine: runs one attack over the open images, block by block, and keeps what is judged."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from robench.attacks.resolve import NamedAttack
from robench.core.errors import InputError, RobenchError, RunError
from robench.core.protocols import Stage
from robench.core.record import Component, Cost, Flag, Record, Stop, Verdict, Verdicts
from robench.core.threat import ThreatModel
from robench.evaluation.block import Block
from robench.evaluation.flags import nondeterministic_flag, record_flags
from robench.evaluation.in_flight import most_in_flight
from robench.evaluation.pace import Pace, Report
from robench.evaluation.standing import Standing
from robench.evaluation.store import RecordFile, Shard, united_components
from robench.evaluation.target import HALVED, Target, halved_flag
from robench.models.determinism import deterministic_search
from robench.models.devices import let_go
from robench.models.global_rng import seeded_global_rng
from robench.models.passes import (
    device_kind,
    exact_float32,
    hardware,
    out_of_memory,
    passes_at_once,
)
from robench.models.prepare import reason

BLOCK_SECONDS = 55.0
"""A block of images in flight is sized to take at most about this long; larger ones fill passes."""
SAVE_SECONDS = 5.0
"""Between partial records. With a block it is what a SIGKILL can cost: a minute."""
REPORT_SECONDS = 0.1
"""Between reports within a block: one costs half a millisecond, a pass a dozen."""
ADAPTER_IN_FLIGHT = 64


def even_block(waiting: int, most: int, fill: int) -> int:
    """Images of the next block, of at most `most` but a multiple of `fill`, all about as large.

    One small block at the end would leave its passes half empty from first to last.
    """
    most = max(1, most // fill) * fill
    return math.ceil(waiting / math.ceil(waiting / most) / fill) * fill


@dataclass(frozen=True)
class Job:
    """One defense x one attack: all that can change a verdict beside the target."""

    attack: NamedAttack
    threat: ThreatModel
    stop: Stop
    seed: int = 0
    mixed_hardware: bool = False


@dataclass(frozen=True)
class Sitting:
    """How one run goes about it; nothing here can change a verdict.

    batch_size: images in flight, or None for a measured choice. shard: the part to do. report:
    told after each pass.
    """

    batch_size: int | None = None
    shard: Shard | None = None
    save_adversarial: bool = False
    report: Report = lambda progress: None


def draft_record(target: Target, job: Job) -> Record:
    """The record of a job before its first verdict."""
    search = target.searched_by(job.attack.attack)
    kind = device_kind(target.device, search.precision)
    return Record(
        status="partial",
        defense=target.defense_info(),
        images=target.images_info(),
        threat=job.threat,
        attack=job.attack.info,
        stop=job.stop,
        precision=search.precision,
        device_kind="mixed" if job.mixed_hardware else kind,
        pass_shape=target.pass_shape(),
        seed=job.seed,
        logit_probe=target.logit_probe,
        behaviour=target.behaviour,
        search_model=search.note,
        cost=Cost(started=datetime.now(UTC).isoformat(timespec="seconds")),
        versions=_versions(),
        hardware=hardware(target.device),
        verdicts=Verdicts(),
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("robench", "torch", "numpy", "foolbox", "pyautoattack"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def measure(target: Target, job: Job, file: RecordFile, sitting: Sitting) -> Record:
    """Judge every open image of the job; the record is on disk after each block.

    What an interruption finds judged is saved before it goes on. Raises: RunError when the attack
    or the defense fails: the record then says so and keeps its verdicts.
    """
    record = file.load() or file.draft
    if file.suffices(record, sitting.save_adversarial):
        return record
    if record.status == "done":
        record = file.draft  # the candidates are wanted and were not kept: search again
    target.pass_seconds(job.attack.attack)  # kernels warmed up before the record's clock starts
    run = _Run(target, job, file, sitting, record)
    # Foreign code may draw from the global generators: what it draws is the same each time.
    with seeded_global_rng(), exact_float32(), deterministic_search(target.device) as run.uncertain:
        run.go()
    return run.record


class _Run:
    """One sitting on one record: every stage of the attack on every image that is still open."""

    def __init__(
        self, target: Target, job: Job, file: RecordFile, sitting: Sitting, record: Record
    ) -> None:
        self.target, self.job, self.file, self.sitting = target, job, file, sitting
        self.record = record
        self.verdicts: dict[int, Verdict] = {v.id: v for v in record.verdicts}
        self.broken = sum(not verdict.survived for verdict in record.verdicts)
        self.lasting = {f.name: f for f in record.flags if f.name in _LASTING}
        self.uncertain: list[str] = []  # operators without a deterministic kernel
        self.halvings = 0
        bound = target.defense.rows is not None  # it takes no smaller passes
        while not bound and target.pass_shape(self.halvings).search > record.pass_shape.search:
            self.halvings += 1
        self.begun = self.saved = time.monotonic()
        self.save_every = SAVE_SECONDS
        self.seconds_before = record.cost.seconds
        record.cost.sittings += 1
        attack = job.attack.attack
        self.repeats = getattr(attack, "verification_passes", 1)
        self.stages = attack.stages(job.attack.name, target.defense.num_classes)
        self.standing = self._standing()
        self.one = target.pass_seconds(attack)
        self.pace = Pace(job.attack.name, self.stages, self.one, self.total)
        self.components_before = {c.name: c for c in record.components}
        self.seconds = dict.fromkeys(self.standing.components, 0.0)

    def _standing(self) -> Standing:
        """The images of this sitting that have no verdict yet, with what earlier sittings kept."""
        ids = self.target.set.ids.tolist()
        mine = self.sitting.shard.take(ids) if self.sitting.shard else ids
        self.total = len(mine)
        place_of = {image_id: place for place, image_id in enumerate(ids)}
        places = [place_of[i] for i in mine if i not in self.verdicts]
        self.places = torch.tensor(places, dtype=torch.int64, device=self.target.device)
        components = list(dict.fromkeys(stage.component for stage in self.stages))
        standing = Standing.of(
            self.target.ids[self.places], self.target.labels[self.places], components
        )
        if self.sitting.save_adversarial:
            standing.columns["candidate"] = self.target.pixels(self.places)
        self.file.load_progress(self._progress_key(), standing)
        return standing

    def _progress_key(self) -> dict[str, str]:
        """What progress must have been made with to be taken up."""
        return {
            "search_rows": str(self.target.pass_shape(self.halvings).search),
            "logit_probe": self.target.logit_probe,
            "candidates": str(self.sitting.save_adversarial),
        }

    def go(self) -> None:
        state = self.target.state_digest()
        try:
            while (number := self._next_stage()) is not None:
                self._block(number)
        except KeyboardInterrupt:
            self._save("partial")
            raise
        except RobenchError as error:
            self._fail(str(error))
            raise
        except (Exception, SystemExit) as error:  # a foreign defense or search may raise anything
            why = f"{type(error).__name__}: {reason(error)}"
            self._fail(why)
            raise RunError(f"{self.job.attack.name} failed: {why}") from error
        if self.target.state_digest() != state:
            message = "parameters or buffers of the defense changed while it was attacked"
            self._keep(Flag(name="defense_changed", level="fail", message=message))
        self._complete(len(self.target.set.ids))

    def _next_stage(self) -> int | None:
        """The earliest stage that an open image waits for: all images go through it together."""
        waiting = self.standing["stage"][~self.standing["settled"]]
        return int(waiting.min()) if len(waiting) else None

    def _complete(self, n: int) -> None:
        if len(self.verdicts) == n:
            return self._save("done")
        self._save("partial")
        # The last part to finish makes the whole record.
        united = self.file.united(self.file.shards())
        if united is not None and len(united.verdicts) == n:
            self.record = united
            self.verdicts = {v.id: v for v in united.verdicts}
            self.components_before = {c.name: c for c in united.components}
            self.standing = self.standing.take(self.places[:0])
            self.seconds = dict.fromkeys(self.seconds, 0.0)
            self.begun, self.seconds_before = time.monotonic(), united.cost.seconds
            self._save("done")

    def _in_flight(self, stage: Stage, waiting: int) -> int:
        if self.sitting.batch_size is not None:
            return self.sitting.batch_size
        if getattr(self.job.attack.attack, "batch_dependent", False):
            return ADAPTER_IN_FLIGHT
        rows = self.record.pass_shape.search * passes_at_once(self.target.device)
        fill = max(1, rows // stage.width)  # images that fill the passes that run side by side
        seconds = max(self.one.of_stage(stage), 1e-9)
        most = most_in_flight(self.target.device, stage.width * self.target.images[0].numel())
        return even_block(waiting, int(min(most, BLOCK_SECONDS / seconds)), fill)

    def _block(self, number: int) -> None:
        """One stage on as many of the images that wait for it as a block holds."""
        stage = self.stages[number]
        waiting = self.standing.open_at(number)
        places = waiting[: self._in_flight(stage, len(waiting))]
        started = time.monotonic()
        try:
            self._attack(number, places)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self._halve(error)
        finally:
            self.seconds[stage.component] += time.monotonic() - started
        if time.monotonic() - self.saved >= self.save_every:
            self._save("partial")

    def _attack(self, number: int, places: Tensor) -> None:
        shape, stage = self.record.pass_shape, self.stages[number]
        judge = self.target.judge(self.job.threat, shape.judge, self.repeats)
        images = self.target.pixels(self.places[places])
        logits = self.target.clean_logits(self.places[places], judge)
        every_image = getattr(self.job.attack.attack, "every_image", False)
        standing = self.standing.take(places)
        block = Block(judge, self.job.stop, standing, images, logits, every_image)
        tick = self._ticker(number, places, len(block.attacked))
        try:
            search = self.target.searched_by(self.job.attack.attack)
            unchanged = block.run(stage, search, shape.search, self.job.seed, tick)
        except BaseException as error:
            self.record.cost.passes_redone += block.unsettled_passes()
            if isinstance(error, KeyboardInterrupt):
                self._take(number, places, block, block.rows["settled"])  # settled stays settled
            raise
        self.pace.spent(*block.passes())
        if number + 1 == len(self.stages):
            block.rows["settled"][:] = True  # nothing is left to try
        self._take(number, places, block, torch.ones_like(block.rows["settled"]))
        if not unchanged:
            message = (
                "the attack changed the images that it was given; verdicts are on our own copy"
            )
            self._keep(Flag(name="modified_input", level="fail", message=message))

    def _ticker(self, number: int, places: Tensor, attacked: int) -> Callable[[int], None]:
        """Progress within a block, by the passes that it has had of those it can cost."""
        stage, done, told = self.stages[number], 0, -math.inf
        most = max(1, stage.forward_passes) * max(1, attacked)

        def tick(rows: int) -> None:
            nonlocal done, told
            done = min(most, done + rows)
            if time.monotonic() - told >= REPORT_SECONDS:
                self._report(number, done / most, len(places))
                told = time.monotonic()

        return tick

    def _report(self, number: int, share: float = 0.0, images: int = 0) -> None:
        standing = self.standing
        waiting = standing["stage"][~standing["settled"]]
        open_at = torch.bincount(waiting, minlength=len(self.stages)).tolist()
        unbroken = self.total - self.broken
        self.sitting.report(self.pace.progress(number, share, images, open_at, unbroken))

    def _take(self, number: int, places: Tensor, block: Block, kept: Tensor) -> None:
        """Put rows of a block back, and read the verdicts of those that are settled."""
        if self.sitting.save_adversarial:
            block.rows.columns["candidate"] = block.candidates
        self.standing.put(places[kept], block.rows.take(kept))
        settled = block.rows["settled"].nonzero()[:, 0]
        charged = all(stage.sees != "gradients" for stage in self.stages)
        found = block.rows.verdicts(settled, charged)
        self.verdicts |= {verdict.id: verdict for verdict in found}
        self.broken += sum(not verdict.survived for verdict in found)
        if self.sitting.save_adversarial and found:
            self.file.save_adversarial(block.rows["ids"][settled], block.candidates[settled])
        if found:
            self._report(number)

    def _halve(self, error: BaseException) -> None:
        if self.record.pass_shape.search == 1:
            raise RunError("out of memory with one image at a time") from error
        if self.target.defense.rows is not None:
            raise RunError("out of memory, and the defense takes no smaller passes") from error
        self.halvings += 1
        self.record.pass_shape = self.target.pass_shape(self.halvings)
        rows = self.record.pass_shape.search
        self._keep(halved_flag(rows))
        # One pass shape for the whole of an image's search.
        self.standing.forget((~self.standing["settled"]).nonzero()[:, 0])
        let_go(error, self.target.device)

    def _keep(self, flag: Flag) -> None:
        self.lasting[flag.name] = flag

    def _fail(self, reason: str) -> None:
        self.record.reason = reason
        self._save("failed")

    def _save(self, status: str) -> None:
        record = self.record
        record.status = status  # type: ignore[assignment]
        if status != "failed":
            record.reason = None
        record.verdicts = Verdicts.of(self.verdicts.values())
        record.components = self._components()
        derived = record_flags(
            record.verdicts,
            record.components,
            self.job.attack.attack,
            self.job.threat,
            self.target.defense.num_classes,
            self.target.flags,
            self.target.set.class_names,
            self.target.set.notes,
        )
        if self.uncertain:
            self._keep(nondeterministic_flag(self.uncertain))
        mixed = [_MIXED] if self.job.mixed_hardware else []
        # What happened in this sitting is the later word on memory.
        own = (flag for flag in self.target.flags if flag.name not in self.lasting)
        record.flags = (*own, *derived, *mixed, *self.lasting.values())
        record.cost.seconds = round(self.seconds_before + time.monotonic() - self.begun, 3)
        started = time.monotonic()
        self.file.save(record)
        self.file.save_progress(self._progress_key(), self.standing)
        self.saved = time.monotonic()
        # Large images make large files: writing may take a twentieth of the time.
        self.save_every = max(SAVE_SECONDS, 20 * (self.saved - started))

    def _components(self) -> list[Component]:
        """What each part took on the images that have a verdict."""
        settled = self.standing["settled"].nonzero()[:, 0]
        found = self.standing.take(settled).costs()
        for component in found:
            component.seconds = self.seconds[component.name]
        return united_components([list(self.components_before.values()), found])


_MIXED = Flag(
    name="mixed_hardware",
    level="info",
    message="parts may come from other hardware: verdicts at the edge may round otherwise",
)
_LASTING = ("modified_input", HALVED, "defense_changed", "nondeterministic_search")
"""Flags of what happened in a sitting: they stay when the record is resumed."""


def check_job(job: Job) -> str | None:
    """Why a job cannot run ("not run" in tables), or None.

    Raises: InputError for a stop rule that the attack does not have.
    """
    attack = job.attack.attack
    if job.threat.norm not in attack.norms:
        return f"{job.attack.name} is defined for {' and '.join(attack.norms)}"
    if job.stop not in attack.stops:
        raise InputError(
            f"--stop {job.stop}: {job.attack.name} runs with {' or '.join(attack.stops)} only"
        )
    return None
