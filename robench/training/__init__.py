"""Training methods by name. Listing imports no torch. A new method is one file and one line."""

from robench.core.table import Table

METHODS = Table(
    kind="method",
    lines={
        "natural": (
            "robench.training.methods.natural:natural",
            (),
            "cross-entropy on clean images: no defense, trains clean teachers",
        ),
        "sat": (
            "robench.training.methods.sat:sat",
            (),
            "adversarial training on cross-entropy (Madry et al. 2018)",
        ),
        "fast-at": (
            "robench.training.methods.fast_at:fast_at",
            (),
            "one noisy step instead of many (N-FGSM, de Jorge et al. 2022)",
        ),
        "trades": (
            "robench.training.methods.trades:trades",
            (),
            "cross-entropy on clean images plus lambda KL to adversarial ones (Zhang et al. 2019)",
        ),
        "score": (
            "robench.training.methods.score:score",
            (),
            "trades with squared errors, which cost nothing once small (Pang et al. 2022)",
        ),
        "ard": (
            "robench.training.methods.ard:ard",
            (),
            "distils a robust teacher's tempered answer to clean images (Goldblum et al. 2020)",
        ),
        "iad-i": (
            "robench.training.methods.iad:iad_1",
            (),
            "ard that trusts its teacher as far as that one is right (Zhu et al. 2022)",
        ),
        "iad-ii": (
            "robench.training.methods.iad:iad_2",
            (),
            "iad-i with a clean teacher beside the robust one (Zhu et al. 2022)",
        ),
        "rslad": (
            "robench.training.methods.rslad:rslad",
            (),
            "distils one robust teacher's soft labels on both kinds of images (Zi et al. 2021)",
        ),
        "fair-ard": (
            "robench.training.methods.fair:fair_ard",
            (),
            "ard with more weight on the classes that resist least (Yue et al. 2023)",
        ),
        "fair-rslad": (
            "robench.training.methods.fair:fair_rslad",
            (),
            "rslad with more weight on the classes that resist least (Yue et al. 2023)",
        ),
        "absld": (
            "robench.training.methods.absld:absld",
            (),
            "rslad with a teacher temperature for each class (Zhao et al. 2023)",
        ),
        "lmtn-style": (
            "robench.training.methods.lmtn:lmtn_style",
            (),
            "one teacher from the averaged logits of two, a reconstruction (after You et al. 2017)",
        ),
        "mmard-style": (
            "robench.training.methods.mmard:mmard_style",
            (),
            "attacks the robust teacher, too, and learns how its answers move; a reconstruction",
        ),
        "vfd-adv-style": (
            "robench.training.methods.vfd:vfd_adv_style",
            (),
            "sat that keeps its features near a clean teacher's, a reconstruction",
        ),
        "mtard-baseline": (
            "robench.training.methods.bmtard:mtard_baseline",
            (),
            "two teachers, clean and robust, with constant weights and temperatures",
        ),
        "mtard-ebb": (
            "robench.training.methods.bmtard:mtard_ebb",
            (),
            "mtard-baseline with temperatures that balance the teachers' entropies",
        ),
        "mtard": (
            "robench.training.methods.bmtard:mtard",
            (),
            "mtard-baseline with weights that balance the relative losses (Zhao et al. 2022)",
        ),
        "bmtard": (
            "robench.training.methods.bmtard:bmtard",
            (),
            "two teachers, balanced in entropy and in loss (Zhao et al. 2023)",
        ),
    },
    entry_point_group="robench.methods",
)
