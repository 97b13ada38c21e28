"""Threads of the CPU: whose they are while a block is attacked and judged."""

import pytest
import torch
from torch import Tensor, nn

from robench.core.protocols import Draws, Stage, View
from robench.core.threat import ThreatModel
from robench.evaluation.block import Block
from robench.evaluation.judge import Judge
from robench.evaluation.standing import Standing
from robench.models.prepare import SearchModel

pytestmark = pytest.mark.usefixtures("two_threads")


class Watched(nn.Module):
    """A linear network that notes how many threads each of its passes had."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3)
        self.threads: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.threads.append(torch.get_num_threads())
        logits: Tensor = self.linear(x.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("traced", "adapter", "caller", "passes"),
    [(True, False, 1, 1), (False, False, 2, 2), (True, True, 2, 2)],
    ids=["search", "search of a copy that is not traced", "adapter"],
)
def test_a_search_an_adapter_and_the_judge_have_the_threads_they_need(
    traced: bool, adapter: bool, caller: int, passes: int
) -> None:
    judged, searched = Watched().eval(), Watched().eval()
    seen: list[int] = []

    def run(
        view: View, x: Tensor, y: Tensor, ids: Tensor, threat: ThreatModel, draws: Draws
    ) -> Tensor:
        if adapter:
            module = view.module(offer=False)
            judged.threads.clear()
            module(x)
        else:
            view.logits(x, ids)
        seen.append(torch.get_num_threads())
        return x

    judge = Judge(judged, ThreatModel("linf", 0.1), 4)
    images, ids = torch.rand(4, 3, 2, 2), torch.arange(4)
    logits = judge.logits(images)
    standing = Standing.of(ids, logits.argmax(1), ["watch"])
    block = Block(judge, "last", standing, images, logits)
    judged.threads.clear()
    block.run(Stage("watch", "", 1, 0, run), SearchModel(searched, "fp32", "", traced), 4, 0)
    assert seen == [caller]
    assert (judged.threads[:1] if adapter else searched.threads) == [passes]
    assert judged.threads[-1] == 2, "the judge has all threads"
    assert torch.get_num_threads() == 2
