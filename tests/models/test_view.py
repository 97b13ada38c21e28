"""What a view notes of the images that a search asks about."""

import torch
from torch import Tensor, nn

from robench.models.prepare import SearchModel
from robench.models.view import ModelView
from robench.numerics.losses import cross_entropy


class LitFrom(nn.Module):
    """Logits of images brighter than a half; the others have no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        light = torch.relu(x.mean((1, 2, 3)) - 0.5)
        return torch.stack([light, -light], dim=1)


def test_an_image_is_noted_for_its_own_first_gradient() -> None:
    """Whenever that comes; a zero gradient later on proves nothing."""
    images = torch.tensor([0.2, 0.8, 0.3, 0.9]).reshape(4, 1, 1, 1).expand(4, 3, 2, 2)
    ids, labels, model = torch.tensor([7, 5, 9, 6]), torch.zeros(4, dtype=torch.long), LitFrom()
    search = SearchModel(model, "fp32", "")
    view = ModelView(search, model, 2, ids, torch.zeros(4, 2), lambda *_: None, {})

    def ask(*rows: int, x: Tensor = images) -> None:
        where = torch.tensor(rows)
        view.loss_gradient(cross_entropy, x[where], labels[where], ids[where])

    ask(0, 1)
    ask(3)
    dark = torch.zeros_like(images)
    ask(1, 3, x=dark)
    ask(2)
    ask(0, 1, 2, 3, x=dark)
    noted = {int(i) for i in ids if view.zero_gradient[view.places(i[None])]}
    assert noted == {7, 9}
