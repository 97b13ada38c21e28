"""Run the tests of the table on one defense, and keep what they find."""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import nn

from robench.audit import TESTS
from robench.audit.budget import QUICK, Budget
from robench.audit.finding import Finding, Report, not_run
from robench.audit.subject import Subject
from robench.core.errors import InputError
from robench.core.files import atomic_write, check_writable
from robench.core.project import records_place
from robench.core.threat import ThreatModel
from robench.data.evalset import EvalSet
from robench.defenses.defense import Defense, foreign
from robench.defenses.reference import load_for
from robench.evaluation.run import Options, loaded, threat_for
from robench.evaluation.store import safe_name
from robench.models.devices import current, on_device
from robench.models.global_rng import seed_torch
from robench.models.passes import device_kind, resolve_device
from robench.models.world import given_back, own_world

Watch = Callable[[str, int], None]
"""Told the id of the running test and the rows of each of its passes (0 when it begins)."""


@dataclass(frozen=True)
class Audit:
    """A report and the file that holds it."""

    report: Report
    path: Path


def audit(
    defense: str | nn.Module,
    *,
    budget: Budget = QUICK,
    surrogate: str | nn.Module | None = None,
    options: Options | None = None,
    watch: Watch = lambda test, rows: None,
) -> Audit:
    """Look for gradient masking. Every test of the table is run, whatever the others found.

    defense, surrogate: references or networks. options: dataset, n (None: the budget's), eps,
    device, seed, arch, width, normalize and out are used. An interrupted audit keeps the findings
    it has, in a report that says so, and the next one of the same kind takes them up.

    Networks that are given come back as they were, and so do PyTorch's settings.
    Raises: InputError for what cannot be used.
    """
    options = options or Options()
    device = resolve_device(options.device)
    with given_back([defense, surrogate]), current(device), own_world():
        return _audited(defense, budget, surrogate, options, device, watch)


def _audited(
    defense: str | nn.Module,
    budget: Budget,
    surrogate: str | nn.Module | None,
    options: Options,
    device: torch.device,
    watch: Watch,
) -> Audit:
    if options.norm != "linf":
        raise InputError("audit is defined for linf")
    found, images = loaded(defense, options)
    images = _first(images, options, budget)
    threat = threat_for(found, options)
    if threat.eps == 0:
        raise InputError("audit needs an eps above 0: nothing can be masked at 0")
    folder = Path(options.out or records_place(Path.cwd()))
    path = folder / safe_name(images.name) / safe_name(found.name) / "audit.json"
    check_writable(path.parent)
    other = None if surrogate is None else _surrogate(surrogate, images)
    report = _draft(found, images, threat, budget, options.seed, device, other)
    seed_torch(options.seed)  # own_world gives the caller's state back
    with foreign(found.name):
        subject = Subject(
            on_device(found.model, device),
            images,
            threat,
            budget,
            device,
            options.seed,
            None if other is None else on_device(other.model, device),
        )
    report.clean_correct = len(subject)
    fill(report, subject, _earlier(path, report.key), watch)
    atomic_write(path, msgspec.json.format(msgspec.json.encode(report), indent=1))
    return Audit(report, path)


def _first(images: EvalSet, options: Options, budget: Budget) -> EvalSet:
    """As many images as were asked for, else the budget's, where the set has them."""
    if options.n is not None or options.images is not None:
        return images
    return images.first(min(budget.images, len(images)))


def _surrogate(ref: str | nn.Module, images: EvalSet) -> Defense:
    return load_for(
        images.name, ref, num_classes=images.num_classes, input_shape=images.images.shape[1:]
    )


def _draft(
    defense: Defense,
    images: EvalSet,
    threat: ThreatModel,
    budget: Budget,
    seed: int,
    device: torch.device,
    surrogate: Defense | None,
) -> Report:
    """The report before its first finding."""
    if surrogate is not None and surrogate.fingerprint == defense.fingerprint:
        raise InputError(f"the surrogate {surrogate.name} is the defense itself")
    kind, spent = device_kind(device, "fp32"), dataclasses.asdict(budget)
    other = None if surrogate is None else surrogate.fingerprint
    parts = [defense.fingerprint, images.digest, threat, spent, seed, kind, other]
    return Report(
        key=hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:12],
        defense=defense.name,
        architecture=defense.architecture,
        fingerprint=defense.fingerprint,
        dataset=images.name,
        n=len(images),
        clean_correct=0,
        threat=threat,
        budget=spent,
        seed=seed,
        device_kind=kind,
        surrogate=None if surrogate is None else surrogate.name,
    )


def _earlier(path: Path, key: str) -> list[Finding]:
    """What an interrupted audit of the same kind had found."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.DecodeError):
        return []
    if report.key != key or not report.interrupted:
        return []
    return [finding for finding in report.findings if finding.status != "not_run"]


def fill(
    report: Report,
    subject: Subject,
    earlier: list[Finding] | None = None,
    watch: Watch = lambda test, rows: None,
) -> None:
    """Run the tests into the report and conclude; Ctrl-C ends it with what there is."""
    known = {finding.id: finding for finding in earlier or []}
    for test in TESTS.names():
        watch(test, 0)
        if test in known:
            finding = known[test]
        elif report.interrupted:
            finding = not_run("interrupted", cut=True)
        else:
            subject.tick = lambda rows, test=test: watch(test, rows)  # type: ignore[misc]
            finding = _run(test, subject, report)
        finding.id, finding.name = test, TESTS.help(test)
        report.findings.append(finding)
    report.seconds = sum(finding.seconds for finding in report.findings)
    report.conclude()


def _run(test: str, subject: Subject, report: Report) -> Finding:
    started = time.monotonic()
    try:
        finding: Finding = TESTS.load(test)(subject)
    except KeyboardInterrupt:
        report.interrupted = True
        return not_run("interrupted", cut=True)
    except Exception as error:  # a foreign defense may raise anything, a gradient first of all
        text = str(error).splitlines()[0][:120] if str(error) else ""
        finding = not_run(f"{type(error).__name__}: {text}", cut=True)
    finding.seconds = time.monotonic() - started
    return finding
