"""The table of attacks. A new attack is one file and one line here."""

from robench.core.table import Table

ATTACKS = Table(
    kind="attack",
    lines={
        "fgsm": (
            "robench.attacks.fgsm:fgsm",
            ("white-box", "all", "paper"),
            "one signed-gradient step of eps on cross-entropy, no random start",
        ),
        "pgd_sat": (
            "robench.attacks.pgd:pgd_sat",
            ("white-box", "all", "paper"),
            "20 steps of 2/255 on cross-entropy from a uniform start",
        ),
        "pgd_trades": (
            "robench.attacks.pgd:pgd_trades",
            ("white-box", "all", "paper"),
            "20 steps of 0.003 on cross-entropy from a uniform start",
        ),
        "cw_inf": (
            "robench.attacks.pgd:cw_inf",
            ("white-box", "all", "paper"),
            "30 steps of 2/255 on the margin loss from a uniform start",
        ),
        "autoattack": (
            "robench.attacks.autoattack:autoattack",
            ("white-box", "all", "paper"),
            "worst case of APGD, FAB-T and Square; [version=standard|plus|rand]",
        ),
        "transfer_pgd_trades": (
            "robench.attacks.transfer:transfer_pgd_trades",
            ("black-box", "all", "paper"),
            "pgd_trades crafted on a surrogate (--surrogate REF)",
        ),
        "transfer_cw_inf": (
            "robench.attacks.transfer:transfer_cw_inf",
            ("black-box", "all", "paper"),
            "cw_inf crafted on a surrogate (--surrogate REF)",
        ),
        "square": (
            "robench.attacks.square:square",
            ("black-box", "all", "paper"),
            "random search with square windows, 100 queries; linf or l2",
        ),
        "rays": (
            "robench.attacks.rays:rays",
            ("black-box", "all", "paper"),
            "ray search by predicted classes alone, 100 queries; linf",
        ),
        "gradient_estimation": (
            "robench.attacks.gradient_estimation:gradient_estimation",
            ("black-box", "all", "paper"),
            "signed steps along estimated gradients, 22,040 queries; [preset=lite|mid|full]",
        ),
        "screen": (
            "robench.attacks.screen:screen",
            (),
            "strong cheap margin searches: an upper bound, never AutoAttack; linf",
        ),
        "apgd_ce": (
            "robench.attacks.apgd:apgd_ce",
            ("parts",),
            "APGD, 100 adaptive steps on cross-entropy; linf or l2",
        ),
        "apgd_dlr": (
            "robench.attacks.apgd:apgd_dlr",
            ("parts",),
            "APGD, 100 adaptive steps on the DLR loss; linf or l2",
        ),
        "apgd_t": (
            "robench.attacks.apgd:apgd_t",
            ("parts",),
            "APGD, 100 adaptive steps on the targeted DLR loss for each of 9 targets",
        ),
        "square_5000": (
            "robench.attacks.square:square_5000",
            ("parts",),
            "random search with 5000 square windows, as in AutoAttack; linf or l2",
        ),
        "fab": (
            "robench.attacks.fab:fab",
            ("parts",),
            "FAB, 100 steps along the nearest decision boundary; linf or l2",
        ),
        "fab_t": (
            "robench.attacks.fab:fab_t",
            ("parts",),
            "FAB, 100 steps along the decision boundary to each of 9 targets; linf or l2",
        ),
    },
    entry_point_group="robench.attacks",
)

ADAPTERS = Table(
    kind="adapter",
    lines={
        "foolbox": (
            "robench.attacks.adapters.foolbox:adapt",
            (),
            "foolbox:<AttackClass>, e.g. foolbox:LinfPGD[steps=20]",
        ),
        "reference": (
            "robench.attacks.adapters.reference:adapt",
            (),
            "reference:autoattack[version=standard], the authors' code; or reference:apgd-ce, ...",
        ),
    },
    entry_point_group="robench.adapters",
)
