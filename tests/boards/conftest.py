"""Records small enough to count by hand."""

import pytest

from robench.boards.collect import Found
from robench.core.record import (
    AttackInfo,
    Cost,
    DefenseInfo,
    ImagesInfo,
    PassShape,
    Record,
    Verdict,
    Verdicts,
    write_record,
)
from robench.core.threat import ThreatModel


def verdict(image, clean, survived):
    return Verdict(
        id=image,
        label=3,
        clean_prediction=3 if clean else 5,
        prediction=3 if survived else 5,
        survived=survived,
        distance=8 / 255 if clean else 0.0,
        margin=1.5 if survived else -0.5,
        forward_passes=22 if clean else 1,
        backward_passes=20 if clean else 0,
        broken_by=None if survived else ("pgd_sat" if clean else "clean"),
    )


def make_record(
    defense="trades",
    attack="pgd_sat",
    clean="1111",
    survived="1100",
    *,
    ref=None,
    fingerprint=None,
    parameters=None,
    dataset="cifar10",
    place=None,
    digest="d" * 64,
    n=None,
    ids=None,
    threat=None,
    stop="last",
    status="done",
    reason=None,
    started="2026-01-01T00:00:00Z",
    precision="fp32",
    seed=0,
    flags=(),
    label=None,
    notes=(),
):
    """clean, survived: one character an image, 1 for clean-correct and for survived."""
    order = range(len(clean)) if ids is None else ids
    columns = zip(order, clean, survived, strict=True)
    return Record(
        status=status,
        reason=reason,
        defense=DefenseInfo(
            name=defense,
            ref=ref or defense,
            fingerprint=fingerprint or defense[0] * 64,
            architecture="resnet18",
            width=32,
            parameters=2_797_610,
            num_classes=10,
            normalization="none",
            dataset="cifar10",
            label=label,
            notes=notes,
        ),
        images=ImagesInfo(
            dataset=dataset,
            ref=place or dataset,
            n=n or len(clean),
            digest=digest,
            ids=f"0-{(n or len(clean)) - 1}",
        ),
        threat=threat or ThreatModel("linf", 8 / 255),
        attack=AttackInfo(
            name=attack, parameters={"steps": 20} if parameters is None else parameters
        ),
        stop=stop,
        precision=precision,
        device_kind="cpu",
        pass_shape=PassShape(32, 32),
        seed=seed,
        logit_probe="0" * 64,
        search_model="the defense itself",
        cost=Cost(seconds=2.5, sittings=1, started=started),
        flags=tuple(flags),
        verdicts=Verdicts(
            **{
                name: [getattr(row, name) for row in rows]
                for rows in [[verdict(i, c == "1", s == "1") for i, c, s in columns]]
                for name in Verdicts.__struct_fields__
            }
        ),
    )


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def found():
    """Records as `collect` would give them, under made-up paths."""

    def wrap(*records):
        return [Found(f"records/{i}.json", record) for i, record in enumerate(records)]

    return wrap


@pytest.fixture
def folder(tmp_path):
    """Writes records into a folder in the layout of `robench eval`."""

    def write(*records):
        for i, record in enumerate(records):
            place = tmp_path / "records" / record.images.dataset / record.defense.name
            write_record(place / f"{record.attack.name}-{i}.json", record)
        return tmp_path / "records"

    return write
