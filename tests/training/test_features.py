"""Features in front of the last linear layer, and the adapter trained beside the student."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robench.core.errors import InputError
from robench.models.build import build
from robench.training.checkpoint import Progress, load_state, save_state
from robench.training.engine import Trainer
from robench.training.features import adapter, check_features, last_linear, tapped
from robench.training.methods.vfd import vfd_adv_style
from tests.training.test_engine import network, recipe, small_images

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Following(nn.Module):
    """A teacher whose features are the means of the three colours."""

    threads = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def features(self, x: Tensor) -> Tensor:
        self.asked.append(x)
        return x.mean(dim=(2, 3))


def trainer(teacher: Following) -> Trainer:
    settings = recipe("vfd-adv-style")
    return Trainer(settings, network(), vfd_adv_style, {"clean": teacher}, small_images(), "fp32")


def test_features_are_what_the_last_layer_turns_into_the_logits() -> None:
    plain = build("resnet18", 10, 2).eval()
    with torch.no_grad(), tapped(last_linear(plain)) as latest:
        logits = plain(IMAGES)
        features = latest()
    assert features.shape == (4, 16)
    assert torch.equal(features @ plain.linear.weight.T + plain.linear.bias, logits)


def test_no_hook_is_left_behind() -> None:
    layer = nn.Linear(2, 2)
    with tapped(layer) as latest:
        assert len(latest()) == 0  # nothing has passed
        layer(torch.ones(3, 2))
        assert torch.equal(latest(), torch.ones(3, 2))
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize(
    "strange",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Softmax(dim=1)),
        nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()),
    ],
)
def test_a_network_whose_last_layer_gives_no_logits_cannot_be_followed(strange: nn.Module) -> None:
    with pytest.raises(InputError, match="no features"):
        check_features(strange, IMAGES, "teacher clean=strange")
    check_features(strange[:2] if len(strange) == 3 else network(), IMAGES, "fine")


def test_the_adapter_is_there_only_where_widths_differ_and_depends_on_the_seed_only() -> None:
    assert isinstance(adapter(5, 5, seed=0), nn.Identity)
    first, again, other = (adapter(5, 3, seed) for seed in (0, 0, 1))
    assert first(torch.ones(2, 5)).shape == (2, 3)
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)


def test_the_adapter_learns_beside_the_student_and_the_teacher_sees_clean_images() -> None:
    teacher = Following()
    run = trainer(teacher)
    before = run.adapter.weight.detach().clone()  # type: ignore[union-attr]
    run.step(run.batches(1)[0], 1, 1)
    assert not torch.equal(run.adapter.weight, before)
    assert len(teacher.asked) == 2  # for its width, and once a step
    assert "adapter" not in "".join(run.network.state_dict())


def test_state_holds_the_adapter_and_its_momentum(tmp_path: Path) -> None:
    run, fresh = trainer(Following()), trainer(Following())
    rows = run.batches(1)
    run.step(rows[0], 1, 1)
    save_state(tmp_path / "state.safetensors", run.learners, run.optimizer, Progress(step=1))
    progress = load_state(tmp_path / "state.safetensors", fresh.learners, fresh.optimizer)
    assert progress.step == 1
    ends = []
    for one in (run, fresh):
        one.step(rows[1], 1, 2)
        ends.append(one.learners.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert "adapter.weight" in ends[0]
