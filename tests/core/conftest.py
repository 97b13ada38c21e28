"""Records small enough to count by hand."""

import pytest

from robench.core.record import (
    AttackInfo,
    Cost,
    DefenseInfo,
    ImagesInfo,
    PassShape,
    Record,
    Verdict,
    Verdicts,
)
from robench.core.threat import ThreatModel


def make_record(clean="1111", survived="1100", *, attack="pgd_sat", ids=None, **fields):
    """clean, survived: one character an image, 1 for clean-correct and for survived."""
    rows = [
        Verdict(
            id=i,
            label=3,
            clean_prediction=3 if c == "1" else 5,
            prediction=3 if s == "1" else 5,
            survived=s == "1",
            distance=0.03,
            margin=0.5,
            forward_passes=22,
            backward_passes=20,
            queries=fields.get("queries"),
        )
        for i, c, s in zip(ids or range(len(clean)), clean, survived, strict=True)
    ]
    columns = {name: [getattr(row, name) for row in rows] for name in Verdicts.__struct_fields__}
    return Record(
        status=fields.get("status", "done"),
        defense=DefenseInfo(
            name="trades",
            ref="trades",
            fingerprint=fields.get("fingerprint", "f" * 64),
            architecture="resnet18",
            parameters=11_173_962,
            num_classes=10,
            normalization="none",
        ),
        images=ImagesInfo(
            dataset="cifar10",
            ref="cifar10",
            n=len(rows),
            digest=fields.get("digest", "d" * 64),
            ids="0-3",
        ),
        threat=fields.get("threat", ThreatModel("linf", 8 / 255)),
        attack=AttackInfo(
            name=attack, parameters=fields.get("parameters", {"steps": 20, "step_size": 2 / 255})
        ),
        stop="last",
        precision="fp32",
        device_kind="cpu",
        pass_shape=PassShape(32, 32),
        seed=0,
        logit_probe="0" * 64,
        search_model="the defense itself",
        cost=Cost(seconds=2.0, sittings=1, started="2026-01-01T00:00:00Z"),
        flags=tuple(fields.get("flags", ())),
        verdicts=Verdicts(**columns),
    )


@pytest.fixture(scope="session")
def record():
    return make_record
