"""How often a search waits for a GPU: launches, host syncs and uploads a step, without a GPU.

Counted on the pretended CUDA of the tests, on bundled images. A step on images that nothing breaks
is the difference of a long and a short search; the mean with hits is of a whole stage at 8/255,
what is before and after the steps included. Numbers of a real GPU are not here.

`python -m benchmarks.syncs`, from the root of the repository.
"""

from dataclasses import dataclass, replace
from typing import Annotated
from unittest.mock import patch

import torch
import typer

from robench.attacks.resolve import resolve_attacks
from robench.core.record import PassShape
from robench.core.threat import ThreatModel
from robench.data.class_names import class_order
from robench.data.open import load_evalset
from robench.defenses.reference import load_defense
from robench.evaluation import target as targets
from robench.evaluation.block import Block
from robench.evaluation.standing import Standing
from robench.evaluation.target import Target
from robench.models.passes import exact_float32
from robench.training import METHODS
from robench.training.engine import Trainer
from robench.training.images import TrainingImages
from robench.training.recipe import Recipe, Student, Teacher
from robench.training.student import new_network
from robench.training.teachers import load_teachers
from tests.pretend_cuda import Cuda, pretended

DEVICE = torch.device("cuda", 0)
DEFENSE, DATASET = "fast-at-resnet18-w32", "cifar10-sample"
ROWS = 16
"""Of a pass: it is the CPU that computes."""
QUIET, LOUD = ThreatModel(eps=0.01 / 255), ThreatModel(eps=8 / 255)
SEARCHES = {
    "pgd_sat": ("pgd_sat[steps={}]", 4, 12),
    "apgd_ce": ("apgd_ce[steps={}]", 4, 12),
    "apgd_t": ("apgd_t[steps={},targets=3]", 4, 12),
    "fab_t": ("fab_t[steps={},targets=3]", 4, 12),
    "square": ("square[queries={}]", 14, 32),
    "rays": ("rays[queries={}]", 14, 32),
}
"""Attack, and the steps of its short and its long search."""


@dataclass(frozen=True)
class Counts:
    """What a search took, and how many images it settled."""

    launches: float
    syncs: float
    uploads: float
    settled: int = 0

    def a_step(self, steps: int, before: "Counts | None" = None) -> "Counts":
        """The mean of so many steps, those that `before` counts left out."""
        less = before or Counts(0, 0, 0)
        return replace(
            self,
            launches=(self.launches - less.launches) / steps,
            syncs=(self.syncs - less.syncs) / steps,
            uploads=(self.uploads - less.uploads) / steps,
        )

    def __str__(self) -> str:
        return f"{self.launches:5.0f} launches {self.syncs:5.2f} syncs {self.uploads:5.2f} uploads"


def ready(images: int) -> Target:
    """The defense and its first images on the pretended device."""
    dataset = load_evalset(DATASET)
    dataset = dataset.select(dataset.ids.tolist()[:images])
    with patch.object(targets, "pass_shape", lambda *given: PassShape(ROWS, ROWS)):
        return Target(load_defense(DEFENSE), dataset, DATASET, DEVICE, "bf16")


def count(cuda: Cuda, target: Target, text: str, threat: ThreatModel) -> Counts:
    """The first stage of an attack on all images."""
    named = resolve_attacks(text)[0]
    stages = named.attack.stages(named.name, target.defense.num_classes)
    judge = target.judge(threat, ROWS)
    places = torch.arange(len(target.ids), device=DEVICE)
    logits = target.clean_logits(places, judge)
    standing = Standing.of(target.ids, target.labels, [stages[0].component])
    block = Block(judge, named.attack.stops[0], standing, target.pixels(places), logits)
    clean = int(standing["settled"].sum())
    search = target.searched_by(named.attack)
    cuda.reset()
    with exact_float32():
        block.run(stages[0], search, ROWS, seed=0)
    found = Counts(cuda.launches, cuda.syncs, cuda.uploads)
    return replace(found, settled=int(block.rows["settled"].sum()) - clean)


def count_training(cuda: Cuda, images: int) -> Counts:
    """A step of bmtard in float32, augmentation included."""
    train = load_evalset(DATASET)
    teachers = {"clean": Teacher(ref="natural-resnet18"), "robust": Teacher(ref=DEFENSE)}
    recipe = Recipe(
        method="bmtard",
        dataset="cifar10",
        batch_size=images,
        student=Student(arch="resnet18", width=32),
        teachers=teachers,
    )
    order = class_order(train.class_names)
    loaded = load_teachers(teachers, train, "cifar10", order, DEVICE, "fp32")
    student = new_network(recipe, train.num_classes).to(DEVICE)
    pool = TrainingImages.of(train, DEVICE)
    trainer = Trainer(recipe, student, METHODS.load("bmtard"), loaded, pool, "fp32")
    rows = torch.arange(images, device=DEVICE)
    trainer.step(rows, 1, 1)
    cuda.reset()
    trainer.step(rows, 1, 2)
    return Counts(cuda.launches, cuda.syncs, cuda.uploads)


def main(
    images: Annotated[int, typer.Option(help="Of the bundled sample.")] = 12,
    search: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SEARCHES)}.")] = None,
    train: Annotated[bool, typer.Option(help="A training step as well.")] = True,
) -> None:
    """A line for each search."""
    torch.set_num_threads(1)
    with pretended() as cuda:
        target = ready(images)
        for name in search or SEARCHES:
            text, few, many = SEARCHES[name]
            short, long = (count(cuda, target, text.format(n), QUIET) for n in (few, many))
            typer.echo(f"{name:8} nothing breaks: {long.a_step(many - few, short)}")
            hits = count(cuda, target, text.format(many), LOUD)
            mean = hits.a_step(many)
            typer.echo(f"{name:8} {mean.settled} of {images} break: {mean}")
        if train:
            typer.echo(f"bmtard   a training step: {count_training(cuda, images)}")


if __name__ == "__main__":
    typer.run(main)
