"""Part 7: when memory runs out the passes are halved, and the verdicts are those of full ones."""

import gc

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.findings import Notebook
from benchmarks.gpu.setting import Setting
from robench import evaluate
from robench.core.record import Record
from robench.core.statistics import mcnemar
from robench.data.evalset import EvalSet
from robench.models.build import build

SHARE = 0.02
OF_PEAK = 0.6
"""Of what the search took unhindered, where that is less than the share."""
WIDTH = 256
IMAGES = 64
P = 0.05


class Hungry(nn.Module):
    """A network for which the memory of a pretended device holds so many rows."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
        logits: Tensor = self.network(x)
        return logits


def run(setting: Setting, notes: Notebook) -> None:
    """The same search with all of the memory, and with a little of it."""
    images = setting.images(IMAGES if not setting.pretended else setting.sizes.images)
    if setting.pretended:
        network = setting.fresh_network()
        full = _record(setting, "full", Hungry(network, 1000), images)
        _compare(notes, full, _record(setting, "little", Hungry(network, 4), images))
        return
    network = build("resnet18", 10, WIDTH).eval()
    with torch.no_grad():
        labels = network(torch.from_numpy(images.images).float() / 255).argmax(1)
    images = EvalSet(
        images.name,
        images.images,
        labels.numpy().astype(np.int64),
        images.ids,
        images.class_names,
    )
    torch.cuda.reset_peak_memory_stats()
    full = _record(setting, "full", network, images)
    peak = torch.cuda.max_memory_reserved()
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    share = min(SHARE, OF_PEAK * peak / total)
    notes.figure("memory", f"{peak / 2**30:.2f} GiB unhindered, then {share:.2%} of the device")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    _compare(notes, full, _record(setting, "little", network, images))


def _record(setting: Setting, name: str, network: nn.Module, images: EvalSet) -> Record:
    result = evaluate(
        network,
        "pgd_sat[steps=3]",
        dataset=images,
        eps=1 / 255,
        device=setting.device,
        precision="fp32",
        out=setting.folder / name,
    )
    if not result.records:
        raise RuntimeError(f"{name}: {result.rows[0].reason}")
    return result.records[0]


def _compare(notes: Notebook, full: Record, little: Record) -> None:
    before, after = full.pass_shape.search, little.pass_shape.search
    notes.claim("rows of a pass", f"{before}, then {after}", "fewer", after < before)
    said = "pass_shape_halved" in {flag.name for flag in little.flags}
    notes.claim("flag", "pass_shape_halved" if said else "none", "pass_shape_halved", said)
    test = mcnemar(full.verdicts.survived, little.verdicts.survived)
    seen = (
        f"{sum(full.verdicts.survived)} and {sum(little.verdicts.survived)} of "
        f"{len(full.verdicts)} survive, {test.only_first}/{test.only_second} discordant"
    )
    notes.claim("verdicts", seen, f"McNemar p > {P}", test.p > P)
