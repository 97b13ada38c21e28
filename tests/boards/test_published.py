"""Published figures: read once, never corrected, each W-Robust recomputed."""

import csv
import json
from collections import Counter
from decimal import Decimal

import pytest

from robench.attacks.resolve import resolve_attacks
from robench.boards.published import SOURCES, names, paper, robustbench
from robench.boards.published.paper import PaperRow, paper_rows
from robench.core.record import Stop
from robench.models.build import build_empty

CHECKS = json.loads(paper.FILE.with_name("paper_checks.json").read_text())


def row(**fields):
    texts = ("source", "table", "dataset", "role", "architecture", "method", "setting")
    numbers = {name: Decimal(text) for name, text in fields.items()}
    return PaperRow(**dict.fromkeys(texts, ""), **numbers)


def entry(method, dataset="cifar10", architecture="ResNet-18", attack="pgd_sat"):
    (found,) = (
        e
        for e in paper.entries()
        if (e.name, e.dataset, e.architecture, e.attack) == (method, dataset, architecture, attack)
    )
    return found


@pytest.mark.parametrize(
    ("printed", "consistency"),
    [
        ({"clean": "80", "robust": "50", "w_robust": "65.015"}, "consistent"),
        ({"clean": "80", "robust": "50", "w_robust": "64.985"}, "consistent"),
        ({"clean": "80", "robust": "50", "w_robust": "65.016"}, "inconsistent"),
        ({"clean": "80", "robust": "50", "w_robust": "64.984"}, "inconsistent"),
        ({"robust": "50", "w_robust": "65"}, "not checkable"),
        ({"clean": "80", "w_robust": "65"}, "not checkable"),
        ({"clean": "80", "robust": "50"}, "not checkable"),
    ],
)
def test_consistency_by_hand(printed, consistency):
    assert row(**printed).consistency == consistency


def test_every_row_is_recomputed():
    assert len(paper_rows()) == CHECKS["rows"] == 679
    counts = Counter(row.consistency for row in paper_rows())
    assert counts == {"consistent": 613, "inconsistent": 7, "not checkable": 59}
    assert counts["consistent"] + counts["inconsistent"] == 620
    with paper.FILE.open() as file:
        said = list(csv.DictReader(file))
    words = {"true": "consistent", "false": "inconsistent", "": "not checkable"}
    for ours, theirs in zip(paper_rows(), said, strict=True):
        assert ours.consistency == words[theirs["consistent"]]
        if theirs["w_robust_recomputed"]:
            assert ours.w_robust_recomputed == Decimal(theirs["w_robust_recomputed"])


def test_the_inconsistent_rows_are_the_seven_of_the_checks():
    fields = ("source", "table", "dataset", "architecture", "method", "attack", "variant")
    found = [
        {name: getattr(row, name) for name in fields}
        | {name: str(getattr(row, name)) for name in ("clean", "robust", "w_robust")}
        | {"w_robust_recomputed": f"{row.w_robust_recomputed.normalize()}"}
        for row in paper_rows()
        if row.consistency == "inconsistent"
    ]
    assert found == CHECKS["inconsistent"]


def test_a_planted_inconsistency_is_flagged(tmp_path):
    # Table 3, CIFAR-10, ResNet-18, natural under FGSM: its mean is printed half a point higher.
    text = paper.FILE.read_text()
    printed = "bmtard,3,CIFAR-10,student,ResNet-18,natural,fgsm,,94.57,18.60,56.59,"
    assert text.count(printed) == 1
    planted = tmp_path / "planted.csv"
    planted.write_text(text.replace(printed, printed.replace("56.59", "57.09")))
    counts = Counter(row.consistency for row in paper.read(planted))
    assert counts == {"consistent": 612, "inconsistent": 8, "not checkable": 59}


def test_an_inconsistent_entry_says_so_and_keeps_what_is_printed():
    found = entry("ard", "cifar100", attack="rays_100")
    assert (found.clean, found.robust, found.w_robust) == (0.6011, 0.4804, 0.5608)
    assert found.w_robust_recomputed == 0.54075
    assert found.remarks == (
        "inconsistent: W-Robust is printed as 56.08, 60.11 and 48.04 give 54.075",
    )


def test_suspect_cells_keep_their_remark():
    found = entry("trades", "cifar100", "MobileNet-v2", "cw_inf")
    assert found.remarks == ("suspect: cw_inf 27.72 above pgd_sat 23.33",)
    assert (found.robust, found.unranked) == (0.2772, None)


def test_what_tables_print_alike_is_one_entry():
    sat = entry("sat")
    assert sat.where == ("T3", "poster T2")
    assert (sat.clean, sat.robust, sat.w_robust) == (0.842, 0.4595, 0.6508)
    assert entry("bmtard").where == ("T3", "T10")
    assert entry("lmtn").clean is None


def test_what_tables_print_otherwise_stays_two():
    found = [
        (e.where, e.robust)
        for e in paper.entries()
        if (e.name, e.dataset, e.attack) == ("sat", "cifar10", "transfer_cw_inf")
        and e.architecture == "ResNet-18"
    ]
    printed = {
        (f"poster T{row.table}" if row.source == "mtard-poster" else f"T{row.table}",): row.robust
        for row in paper_rows()
        if (row.method, row.dataset, row.attack) == ("sat", "CIFAR-10", "transfer_cw_inf")
        and row.architecture == "ResNet-18"
    }
    assert len(found) == 2
    assert found == [(where, float(robust / 100)) for where, robust in printed.items()]


def test_variants_and_knowledge_scales_are_no_further_methods():
    assert entry("bmtard (tau=5)").unranked == "variant"
    assert entry("natural", "cifar10", "ResNet-56").unranked is None  # teacher_type is no variant
    assert not any(e.attack == "" for e in paper.entries())


def test_every_published_name_is_in_the_table():
    attacks = {row.attack for row in paper_rows() if row.attack}
    assert attacks == set(names.ATTACKS)
    assert {row.dataset for row in paper_rows()} <= set(names.DATASETS)
    assert names.ATTACKS["square_100"].attack == "square"
    assert names.ATTACKS["rays_100"].attack == "rays"
    assert names.ATTACKS["square"] is names.ATTACKS["pgd_20"] is None


KNOWN = [setting for setting in names.ATTACKS.values() if setting and not setting.unknown]


@pytest.mark.parametrize("setting", KNOWN, ids=lambda setting: setting.attack)
def test_published_settings_are_our_defaults(setting):
    (ours,) = resolve_attacks(setting.attack)
    stop: Stop = ours.attack.stops[0]
    assert setting.departures(stop, ours.info.parameters) == []


def test_a_departure_is_named():
    setting = names.ATTACKS["pgd_sat"]
    parameters = {**setting.parameters, "steps": 50, "extra": True}
    assert setting.departures("any", parameters) == [
        "extra=true (published nothing)",
        "steps=50 (published 20)",
        "stop=any (published last)",
    ]


@pytest.mark.parametrize("architecture", [a for a in names.ARCHITECTURES if "56" not in a])
@pytest.mark.parametrize("classes", [10, 100, 200])
def test_parameter_counts_are_those_of_the_networks(architecture, classes):
    network = build_empty(architecture, classes)
    count = sum(weights.numel() for weights in network.parameters())
    assert names.parameters(names.ARCHITECTURES[architecture], classes) == count


@pytest.mark.parametrize("name", ["ResNet-56", "XCiT-S12", "WideResNet-34-R", "Swin-B"])
def test_a_name_that_does_not_decide_gives_no_count(name):
    assert names.parameters(name, 10) is None


def test_leaderboards_as_their_source_counts_them():
    rows = robustbench.robustbench_rows()
    counts = Counter((row.dataset, row.threat_model) for row in rows)
    assert counts == {
        ("cifar10", "Linf"): 99,
        ("cifar10", "L2"): 21,
        ("cifar10", "corruptions"): 23,
        ("cifar100", "Linf"): 38,
        ("cifar100", "corruptions"): 13,
        ("imagenet", "Linf"): 30,
        ("imagenet", "corruptions"): 12,
    }
    assert len(rows) == 236
    assert len(robustbench.loader_rows()) == 206
    external = [row for row in rows if row.external_acc is not None]
    assert len(external) == 25
    assert all(row.best_known == row.external_acc for row in external)
    others = [r for r in rows if r.external_acc is None and r.threat_model != "corruptions"]
    assert all(row.best_known == row.autoattack_acc for row in others)


def test_corruptions_and_foreign_data_sets_give_no_entries():
    assert len(robustbench.entries()) == 99 + 21 + 38
    boards = Counter((e.dataset, e.norm, e.eps) for e in robustbench.entries())
    assert boards == {
        ("cifar10", "linf", 8 / 255): 93,
        ("cifar10", "linf", 0.031): 6,
        ("cifar10", "l2", 0.5): 21,
        ("cifar100", "linf", 8 / 255): 38,
    }


def test_entries_of_robustbench_by_name():
    found = {(e.name, e.norm): e for e in robustbench.entries() if e.dataset == "cifar10"}
    kang = found["Kang2021Stable", "linf"]
    assert (kang.robust, kang.best_known) == (0.7128, 0.642)
    assert kang.unranked == "RobustBench calls its AutoAttack unreliable"
    assert found["Zhang2019Theoretically", "linf"].eps == 0.031
    assert found["Zhang2020Geometry", "linf"].unranked.startswith("eps in doubt")
    addepalli = found["Addepalli2022Efficient_RN18", "linf"]
    assert (addepalli.parameters, addepalli.unranked) == (11_173_962, None)
    # A class of its own under a plain name, and one of four PreActResNet-18.
    assert found["Augustin2020Adversarial_34_10", "l2"].parameters is None
    assert found["Wong2020Fast", "linf"].parameters is None
    assert found["Wang2023Better_WRN-70-16", "linf"].parameters == 266_796_506


@pytest.mark.parametrize("source", SOURCES.names())
def test_every_source_says_what_it_is(source):
    assert SOURCES.help(source)
    assert all(0 <= e.robust <= 1 for e in SOURCES.load(source)() if e.robust is not None)


def test_the_source_and_its_licence_lie_beside_the_data():
    text = paper.FILE.with_name("SOURCE.md").read_text()
    assert "Permission is hereby granted, free of charge" in text
    assert "78fcc9e48a07a861268f295a777b975f25155964" in text
