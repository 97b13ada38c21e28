"""Part 4: searches in bfloat16 against searches in float32."""

from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import Setting
from robench.core.statistics import mcnemar

ATTACKS = "pgd_sat,cw_inf,apgd_ce"
SMALL_ATTACKS = "pgd_sat[steps=2]"
P = 0.05


def run(setting: Setting, notes: Notebook) -> None:
    """As many images survive as chance allows, attack by attack."""
    images = setting.images(setting.sizes.whole)
    attacks = SMALL_ATTACKS if setting.pretended else ATTACKS
    exact, low = (
        setting.records(precision, attacks, images, precision=precision)
        for precision in ("fp32", "bf16")
    )
    for one, other in zip(exact, low, strict=True):
        test = mcnemar(one.verdicts.survived, other.verdicts.survived)
        seen = (
            f"{sum(one.verdicts.survived)} and {sum(other.verdicts.survived)} of {len(images)} "
            f"survive, {test.only_first}/{test.only_second} discordant, p {test.p:.2f}"
        )
        what = f"{one.attack.name}, float32 and {other.precision} search"
        notes.claim(what, seen, f"McNemar p > {P}", test.p > P and other.precision == "bf16")
