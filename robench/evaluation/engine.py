"""The engine: runs one attack over the open images, block by block, and keeps what is judged."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from robench.attacks.resolve import NamedAttack
from robench.core.errors import InputError, RobenchError, RunError
from robench.core.record import Cost, Flag, Record, Stop, Verdict, Verdicts
from robench.core.threat import ThreatModel
from robench.evaluation.block import Block
from robench.evaluation.flags import record_flags
from robench.evaluation.store import RecordFile, Shard
from robench.evaluation.target import Target
from robench.models.passes import device_kind, exact_float32, hardware, passes_at_once

BLOCK_SECONDS = 55.0
"""A block of images in flight is sized to take at most about this long; larger ones fill passes."""
MOST_IN_FLIGHT = 1024
SAVE_SECONDS = 5.0
"""Between partial records. With a block it is what a SIGKILL can cost: a minute."""
ADAPTER_IN_FLIGHT = 64

Progress = Callable[[str, float, int], None]
"""(label, images done, images in all), called after each pass."""


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

    batch_size: images in flight, or None for a measured choice. shard: the part to do.
    """

    batch_size: int | None = None
    shard: Shard | None = None
    save_adversarial: bool = False
    progress: Progress = lambda label, done, total: None


def draft_record(target: Target, job: Job) -> Record:
    """The record of a job before its first verdict."""
    # Adapters and black-box searches query the unmodified defense in float32, not the copy.
    on_defense = getattr(job.attack.attack, "on_defense", False)
    precision = "fp32" if on_defense else target.search.precision
    kind = device_kind(target.device, precision)
    return Record(
        status="partial",
        defense=target.defense_info(),
        images=target.images_info(),
        threat=job.threat,
        attack=job.attack.info,
        stop=job.stop,
        precision=precision,
        device_kind="mixed" if job.mixed_hardware else kind,
        pass_shape=target.pass_shape(),
        seed=job.seed,
        logit_probe=target.logit_probe,
        search_model="the unmodified defense" if on_defense else target.search.note,
        cost=Cost(started=datetime.now(UTC).isoformat(timespec="seconds")),
        versions=_versions(),
        hardware=hardware(),
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
    if record.status == "done":
        if not sitting.save_adversarial or file.has_candidates(record):
            return record
        record = file.draft  # the candidates are wanted and were not kept: search again
    target.seconds_per_row()  # measured, and kernels warmed up, before the record's clock starts
    run = _Run(target, job, file, sitting, record)
    # The global random state belongs to the caller; foreign code may draw from it.
    devices = [target.device] if target.device.type == "cuda" else []
    with torch.random.fork_rng(devices), exact_float32():
        run.go()
    return run.record


class _Run:
    """One sitting on one record."""

    def __init__(
        self, target: Target, job: Job, file: RecordFile, sitting: Sitting, record: Record
    ) -> None:
        self.target, self.job, self.file, self.sitting = target, job, file, sitting
        self.record = record
        self.verdicts: dict[int, Verdict] = {v.id: v for v in record.verdicts}
        self.lasting = {f.name: f for f in record.flags if f.name in _LASTING}
        self.halvings = 0
        while target.pass_shape(self.halvings).search > record.pass_shape.search:
            self.halvings += 1
        self.begun = self.saved = time.monotonic()
        self.seconds_before = record.cost.seconds
        record.cost.sittings += 1

    def go(self) -> None:
        ids = self.target.set.ids.tolist()
        mine = self.sitting.shard.take(ids) if self.sitting.shard else ids
        position = {image_id: place for place, image_id in enumerate(ids)}
        places = [position[i] for i in mine if i not in self.verdicts]
        self.total = len(mine)
        state = self.target.state_digest()
        try:
            while places:
                places = places[self._block(places[: self._in_flight()]) :]
        except KeyboardInterrupt:
            self._save("partial")
            raise
        except RobenchError as error:
            self._fail(str(error))
            raise
        except Exception as error:  # a foreign defense or search may raise anything
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            self._fail(reason)
            raise RunError(f"{self.job.attack.name} failed: {reason}") from error
        if self.target.state_digest() != state:
            message = "parameters or buffers of the defense changed while it was attacked"
            self._keep(Flag(name="defense_changed", level="fail", message=message))
        self._complete(len(ids))

    def _complete(self, n: int) -> None:
        if len(self.verdicts) == n:
            return self._save("done")
        self._save("partial")
        # The last part to finish makes the whole record.
        united = self.file.united(self.file.shards())
        if united is not None and len(united.verdicts) == n:
            self.record = united
            self.verdicts = {v.id: v for v in united.verdicts}
            self.begun, self.seconds_before = time.monotonic(), united.cost.seconds
            self._save("done")

    def _in_flight(self) -> int:
        if self.sitting.batch_size is not None:
            return self.sitting.batch_size
        attack = self.job.attack.attack
        if getattr(attack, "batch_dependent", False):
            return ADAPTER_IN_FLIGHT
        rows = self.record.pass_shape.search * passes_at_once(self.target.device)
        seconds = self.target.seconds_per_row() * max(1, attack.passes()[0])
        return int(min(MOST_IN_FLIGHT, max(1, BLOCK_SECONDS / seconds // rows) * rows))

    def _block(self, places: list[int]) -> int:
        """Judge the images at these places; how many of them are done now."""
        try:
            block = self._attack(torch.tensor(places, device=self.target.device))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            self._halve(error)
            return 0
        self._take(block)
        if time.monotonic() - self.saved >= SAVE_SECONDS:
            self._save("partial")
        return len(places)

    def _attack(self, places: torch.Tensor) -> Block:
        shape = self.record.pass_shape
        judge = self.target.judge(self.job.threat, shape.judge)
        block = Block(
            judge,
            self.job.attack.name,
            self.job.stop,
            self.target.ids[places],
            self.target.labels[places],
            self.target.pixels(places),
            self.target.clean_logits(places, shape.judge),
        )
        tick = self._ticker(len(places), len(block.attacked))
        search = self.target.search
        try:
            unchanged = block.run(self.job.attack, search, shape.search, self.job.seed, tick)
        except KeyboardInterrupt:
            self._take(block)  # what is settled stays settled
            raise
        finally:
            self.record.cost.passes_redone += block.unsettled_passes()
        if not unchanged:
            message = (
                "the attack changed the images that it was given; verdicts are on our own copy"
            )
            self._keep(Flag(name="modified_input", level="fail", message=message))
        return block

    def _ticker(self, images: int, attacked: int) -> Callable[[int], None]:
        """Progress within a block, by the passes that it has had of those it can cost."""
        done, most = 0, max(1, self.job.attack.attack.passes()[0]) * attacked
        before = len(self.verdicts)

        def tick(rows: int) -> None:
            nonlocal done
            done = min(most, done + rows)
            self.sitting.progress(self.job.attack.name, before + images * done / most, self.total)

        return tick

    def _take(self, block: Block) -> None:
        verdicts = block.verdicts()
        self.verdicts |= {verdict.id: verdict for verdict in verdicts}
        if self.sitting.save_adversarial and verdicts:
            places = block.settled.nonzero()[:, 0]
            self.file.save_adversarial(block.ids[places], block.candidates[places])
        self.sitting.progress(self.job.attack.name, len(self.verdicts), self.total)

    def _halve(self, error: BaseException) -> None:
        if self.record.pass_shape.search == 1:
            raise RunError("out of memory with one image at a time") from error
        self.halvings += 1
        self.record.pass_shape = self.target.pass_shape(self.halvings)
        rows = self.record.pass_shape.search
        message = (
            f"out of memory: passes of {rows} rows from there on, verdicts may round otherwise"
        )
        self._keep(Flag(name="pass_shape_halved", level="info", message=message, value=rows))
        if self.target.device.type == "cuda":
            torch.cuda.empty_cache()

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
        derived = record_flags(record.verdicts, self.job.attack.attack, self.job.threat)
        mixed = [_MIXED] if self.job.mixed_hardware else []
        record.flags = (*self.target.flags, *derived, *mixed, *self.lasting.values())
        record.cost.seconds = round(self.seconds_before + time.monotonic() - self.begun, 3)
        self.file.save(record)
        self.saved = time.monotonic()


_MIXED = Flag(
    name="mixed_hardware",
    level="info",
    message="parts may come from other hardware: verdicts at the edge may round otherwise",
)
_LASTING = ("modified_input", "pass_shape_halved", "defense_changed")
"""Flags of what happened in a sitting: they stay when the record is resumed."""


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)  # the CPU allocator raises a plain RuntimeError
    return "can't allocate memory" in text or "not enough memory" in text


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
