"""One block of images through an attack and the judge, without records: for tests of searches."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robench.attacks.resolve import NamedAttack, resolve_attacks
from robench.core.protocols import Attack
from robench.core.record import Component, Stop, Verdict
from robench.core.threat import ThreatModel
from robench.evaluation.block import Block
from robench.evaluation.judge import Judge
from robench.evaluation.standing import Standing
from robench.models.prepare import SearchModel

ROWS = 8


@dataclass(frozen=True)
class Outcome:
    """What came out: verdicts, the candidates (N, C, H, W) that they are of, whether the attack
    left its input alone, and what each part of it took."""

    verdicts: list[Verdict]
    candidates: Tensor
    unchanged: bool
    components: list[Component]

    @property
    def survived(self) -> list[bool]:
        return [verdict.survived for verdict in self.verdicts]


def attack(
    model: nn.Module,
    text: str,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    stop: Stop | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    rows: int = ROWS,
    search: Attack | None = None,
) -> Outcome:
    """Run `text` (a name with parameters), or the attack `search`, on all images at once.

    stop: None for the attack's default.
    """
    model = model.eval()
    ids = torch.arange(len(images)) if ids is None else ids
    judge = Judge(model, threat, rows)
    named = NamedAttack(text, search) if search is not None else resolve_attacks(text)[0]
    stop = stop or named.attack.stops[0]
    clean_logits = judge.logits(images)
    stages = named.attack.stages(named.name, clean_logits.shape[1])
    standing = Standing.of(ids, labels, list(dict.fromkeys(stage.component for stage in stages)))
    charged = all(stage.sees != "gradients" for stage in stages)
    every_image = getattr(named.attack, "every_image", False)
    copy, candidates, unchanged = (
        SearchModel(model, "fp32", "the model itself"),
        images.clone(),
        True,
    )
    for number, stage in enumerate(stages):
        places = standing.open_at(number)
        rows_there = standing.take(places)
        block = Block(judge, stop, rows_there, images[places], clean_logits[places], every_image)
        unchanged &= block.run(stage, copy, rows, seed)
        standing.put(places, block.rows)
        candidates[places] = block.candidates
    return Outcome(
        standing.verdicts(torch.arange(len(images)), charged),
        candidates,
        unchanged,
        standing.costs(),
    )


def small_cnn(num_classes: int = 10, channels: int = 3, seed: int = 0) -> nn.Module:
    """A small convolutional network with batch norm, fixed random weights, eval mode."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(256, num_classes),
        )
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return network.eval()


def random_images(n: int, size: int = 8, channels: int = 3, seed: int = 0) -> Tensor:
    """Images (n, channels, size, size) float32 of whole grey levels."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (n, channels, size, size), generator=generator)
    return levels.float() / 255
