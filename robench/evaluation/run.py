"""`robench.evaluate`: text or objects in, rows out. What `robench eval` calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from robench.attacks.resolve import NamedAttack, resolve_attacks
from robench.attacks.transfer import Transfer
from robench.core.errors import InputError, RobenchError, RunError
from robench.core.project import records_place
from robench.core.record import Record, Stop, parse_ids
from robench.core.row import Row, row_of, worst_case
from robench.core.threat import DEFAULT_EPS, Norm, ThreatModel
from robench.data.evalset import EvalSet
from robench.data.open import base_name, check_no_class_order, load_evalset
from robench.defenses.defense import Defense
from robench.defenses.reference import load_for
from robench.evaluation.engine import Job, Sitting, check_job, draft_record, measure
from robench.evaluation.estimate import Estimate, estimate
from robench.evaluation.pace import Report
from robench.evaluation.result import Result
from robench.evaluation.store import RecordFile, Shard, superseded
from robench.evaluation.surrogate import Surrogates
from robench.evaluation.target import Target
from robench.models.devices import current
from robench.models.passes import resolve_device
from robench.models.world import given_back, own_world

_NORMALIZATION_IMAGES = 256


@dataclass(frozen=True)
class Options:
    """Everything about an evaluation but the defense and the attacks; the defaults are `eval`'s.

    dataset: a name, an image folder or an EvalSet; None: the one the defense was trained for.
    n: first n images, None: all. images: ids such as "0-99,512" instead. eps: None: the defense's
    own, else 8/255 (linf) or 0.5 (l2). stop: None: each attack's default. batch_size: images in
    flight, None: measured. out: folder of the records, None: that of robench.toml, else the user's
    data folder. surrogate: of transfer attacks, one or several references at commas, None: the data
    set's own. class_order: file with the classes of an image folder in label order, one name a
    line; None: its `classes.txt`, else what the names of the class folders say.
    """

    dataset: str | EvalSet | None = None
    n: int | None = None
    images: str | None = None
    norm: Norm = "linf"
    eps: float | None = None
    stop: Stop | None = None
    precision: str = "auto"
    device: str = "auto"
    batch_size: int | None = None
    seed: int = 0
    arch: str | None = None
    width: int | None = None
    normalize: str | None = None
    shard: str | None = None
    mixed_hardware: bool = False
    out: Path | str | None = None
    save_adversarial: bool = False
    pi_adv: float = 0.5
    surrogate: str | None = None
    class_order: Path | str | None = None


def evaluate(
    defense: str | nn.Module | Sequence[str | nn.Module],
    attacks: str = "white-box",
    *,
    progress: Report | None = None,
    on_estimate: Callable[[Estimate], None] | None = None,
    dry_run: bool = False,
    **options: object,
) -> Result:
    """Score one or several defenses; verdicts are kept on disk and reused by the next call.

    defense: a reference ("natural-resnet18", "runs/x.safetensors", "python:module:function"), a
    torch module that takes pixels in [0, 1], or several. attacks: a list such as
    "fgsm,pgd_sat[steps=50]". options: the fields of `Options`.

    A module comes back in the mode in which it was given, and so do PyTorch's settings, none of
    which changes a verdict.
    Raises: InputError for anything that cannot be used. An attack that fails, or a defense whose
    code raises, gives rows of status "failed", not an exception.
    """
    chosen = _options(options)
    defenses = [defense] if isinstance(defense, str | nn.Module) else list(defense)
    rows: list[Row] = []
    records: list[Record] = []
    warnings: list[str] = []
    read: list[str] = []
    with given_back(defenses), current(resolve_device(chosen.device)), own_world():
        named = resolve_attacks(attacks)
        for one in defenses:
            running = _Evaluation(one, named, chosen)
            running.prepare(on_estimate)
            if not dry_run:
                running.run(progress or (lambda state: None))
            rows += running.rows
            records += running.records
            warnings += running.warnings
            read += running.read
    return Result(rows, records, warnings, read)


def _options(options: dict[str, object]) -> Options:
    known = Options.__dataclass_fields__
    for name in options:
        if name not in known:
            raise InputError(f"evaluate takes no option {name!r}: it takes {', '.join(known)}")
    chosen = Options(**options)  # type: ignore[arg-type]
    if chosen.batch_size is not None and chosen.batch_size < 1:
        raise InputError(f"batch size must be at least 1, not {chosen.batch_size}")
    if not 0 <= chosen.pi_adv <= 1:
        raise InputError(f"pi_adv must lie in [0, 1], not {chosen.pi_adv}")
    if chosen.n is not None and chosen.images is not None:
        raise InputError("give --n or --images, not both")
    return chosen


class _Evaluation:
    """One defense under all attacks."""

    def __init__(
        self, defense: str | nn.Module, attacks: Sequence[NamedAttack], options: Options
    ) -> None:
        self.options = options
        self.attacks = attacks
        self.shard = Shard.parse(options.shard) if options.shard else None
        self.defense, self.images = loaded(defense, options)
        self.ref = options.dataset if isinstance(options.dataset, str) else self.images.name
        self.threat = threat_for(self.defense, options)
        self.threat.check_against(self.images.images[0].size)
        self.device = resolve_device(options.device)
        self.jobs: list[tuple[Job, str | None]] = []
        self.rows: list[Row] = []
        self.records: list[Record] = []
        self.warnings: list[str] = []
        self.read: list[str] = []

    def prepare(self, on_estimate: Callable[[Estimate], None] | None) -> None:
        """Make ready what is to be run. Where the defense's own code raises, its rows say so."""
        try:
            self.target = Target(
                self.defense, self.images, self.ref, self.device, self.options.precision
            )
            known = not isinstance(self.options.dataset, EvalSet)
            plain = base_name(self.ref) if known else self.images.name
            self.surrogates = Surrogates(
                self.images, self.ref, plain, self.device, self.options.precision
            )
            self.warnings += self._warnings()
            jobs = [job for attack in self.attacks for job in self._jobs(attack)]
            self._note_read(jobs)
            if on_estimate is not None:
                on_estimate(self.estimate(jobs))
            self.jobs = jobs
        except RunError as error:
            rows = [
                self._row(self._job(attack), str(error), failed=True) for attack in self.attacks
            ]
            self.rows += rows

    def _note_read(self, jobs: Sequence[tuple[Job, str | None]]) -> None:
        """Which records will be read, and of those what is not known of their defense."""
        unknown: dict[str, list[str]] = {}
        for job, reason in jobs:
            record = None if reason else self._finished(job)
            if record is None:
                continue
            self.read.append(job.attack.name)
            if record.behaviour is None:
                why = "by source and clean logits only, the records are older than the probe"
                unknown.setdefault(why, []).append(job.attack.name)
            elif record.behaviour.remarks:
                why = f"as far as can be seen: {', '.join(record.behaviour.remarks)}"
                unknown.setdefault(why, []).append(job.attack.name)
        self.warnings += [
            f"read for {self.defense.name}: {', '.join(attacks)}: identity {why}"
            for why, attacks in unknown.items()
        ]

    def _jobs(self, attack: NamedAttack) -> list[tuple[Job, str | None]]:
        """The attack's jobs, each with the reason why it cannot run; one for every surrogate."""
        if not isinstance(attack.attack, Transfer):
            job = self._job(attack)
            why_not = self.target.why_not(attack.attack, attack.name)
            return [(job, check_job(job) or why_not)]
        refs = self.surrogates.named(attack.attack.surrogate or self.options.surrogate)
        if not refs:
            return [(self._job(attack), "no surrogate: give --surrogate REF")]
        settled = [self.surrogates.settled(attack, ref) for ref in refs]
        jobs = [self._job(one) for one in settled]
        unfit = self.surrogates.why_not
        return [(job, check_job(job) or unfit(job.attack, self.target)) for job in jobs]

    def _job(self, attack: NamedAttack) -> Job:
        stop: Stop = self.options.stop or attack.attack.stops[0]
        options = self.options
        return Job(attack, self.threat, stop, options.seed, options.mixed_hardware)

    def _warnings(self) -> list[str]:
        few = slice(0, _NORMALIZATION_IMAGES)
        found = self.target.normalization_warning(few)
        return [found] if found else []

    def estimate(self, jobs: Sequence[tuple[Job, str | None]]) -> Estimate:
        """Passes and expected seconds of the jobs that can run and have no finished record."""
        able = [job for job, reason in jobs if reason is None]
        waiting = [job for job in able if self._finished(job) is None]
        own = estimate(self.target, waiting, self.shard)
        own = replace(own, read=tuple(job.attack.name for job in able if job not in waiting))
        crafting = [
            estimate(target, [job], self.shard)
            for target, job, file in self._crafting(waiting)
            if not file.suffices(file.load(), with_candidates=True)
        ]
        return own.plus(crafting)

    def _finished(self, job: Job) -> Record | None:
        """The job's record, where nothing of it is left to measure."""
        file = self._file(job)
        record = file.load()
        return record if file.suffices(record, self.options.save_adversarial) else None

    def _file(self, job: Job) -> RecordFile:
        out = Path(self.options.out or records_place(Path.cwd()))
        return RecordFile(out, draft_record(self.target, job), self.shard)

    def _crafting(self, jobs: Sequence[Job]) -> list[tuple[Target, Job, RecordFile]]:
        """What transfer jobs need crafted first, each once."""
        transfers = [job for job in jobs if isinstance(job.attack.attack, Transfer)]
        return [self.surrogates.crafting(job, self.shard) for job in transfers]

    def run(self, progress: Report) -> None:
        """Fill rows and records; a failed attack does not stop the others."""
        for job, reason in self.jobs:
            self.rows.append(
                self._measured(job, progress) if reason is None else self._row(job, reason)
            )
        self.rows += self._pools()
        row = worst_case(self.records, self.options.pi_adv)
        if row is not None:
            self.rows.append(row)

    def _pools(self) -> list[Row]:
        """Of each transfer attack the worst case over its surrogates, where it has several."""
        pools: dict[str, list[Record]] = {}
        for record in self.records:
            if record.attack.parameters.get("surrogate"):
                pools.setdefault(record.attack.name, []).append(record)
        rows = []
        for name, records in pools.items():
            row = worst_case(records, self.options.pi_adv, parameter="surrogate")
            if row is not None:
                row.attack = f"{name} (any)"
                rows.append(row)
        return rows

    def _measured(self, job: Job, progress: Report) -> Row:
        options, file = self.options, self._file(job)
        self.warnings += superseded(file)
        sitting = Sitting(options.batch_size, self.shard, options.save_adversarial, progress)
        try:
            record = measure(self.target, self._ready(job, file, sitting), file, sitting)
        except InputError:
            raise
        except RobenchError as error:
            kept = file.load()
            if kept is None:
                return self._row(job, str(error), failed=True)
            row = row_of(kept, options.pi_adv, str(file.path))
            row.status, row.reason = "failed", str(error)
            return row
        self.records.append(record)
        path = file.whole if record.status == "done" else file.path
        return row_of(record, options.pi_adv, str(path))

    def _ready(self, job: Job, file: RecordFile, sitting: Sitting) -> Job:
        """The job with its candidates, where it is a transfer that has no record yet."""
        done = file.suffices(file.load(), sitting.save_adversarial)
        if done or not isinstance(job.attack.attack, Transfer):
            return job
        return self.surrogates.crafted(job, sitting, self.warnings.append)

    def _row(self, job: Job, reason: str, failed: bool = False) -> Row:
        return Row(
            defense=self.defense.name,
            label=self.defense.label,
            dataset=self.images.name,
            attack=job.attack.name,
            parameters=job.attack.info.parameters,
            status="failed" if failed else "not_run",
            reason=reason,
            norm=job.threat.norm,
            eps=job.threat.eps,
            flags=() if failed else self.target.flags,
        )


def loaded(defense: str | nn.Module, options: Options) -> tuple[Defense, EvalSet]:
    """The defense and its images; the data set may come from the defense, the classes from it."""
    images = options.dataset if isinstance(options.dataset, EvalSet) else None
    order = options.class_order
    if images is not None:
        check_no_class_order(images.name, order)
    elif options.dataset is not None:
        images = load_evalset(options.dataset, class_order=order)  # type: ignore[arg-type]
    named = options.dataset if isinstance(options.dataset, str) else None
    found = load_for(
        None if named is None else base_name(named),
        defense,
        options.norm,
        arch=options.arch,
        width=options.width,
        num_classes=images.num_classes if images else None,
        normalize=options.normalize,
        input_shape=images.images.shape[1:] if images else (3, 32, 32),
    )
    if images is None:
        if found.dataset is None:
            raise InputError(
                f"{found.name} does not say which data set it was trained for: give --dataset"
            )
        images = load_evalset(found.dataset, class_order=order)
    if options.images is not None:
        images = images.select(parse_ids(options.images))
    elif options.n is not None:
        images = images.first(options.n)
    return found, images


def threat_for(defense: Defense, options: Options) -> ThreatModel:
    """The norm asked for, at the radius asked for, else the defense's own, else the usual one."""
    eps = options.eps
    if eps is None and (defense.norm or "linf") == options.norm:  # a bare radius is one of linf
        eps = defense.eps
    # An unknown norm has no default; ThreatModel says so.
    return ThreatModel(options.norm, DEFAULT_EPS.get(options.norm, 0.0) if eps is None else eps)
