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
    },
    entry_point_group="robench.adapters",
)
