"""The networks against published counts of parameters and multiplications, and by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from robench.core.errors import InputError
from robench.models import ARCHITECTURES, preactresnet, resnet56, wrn_deepmind, wrn_trades
from robench.models.build import build, build_empty, layout
from robench.models.keys import load_strictly

PARAMETERS = [
    ("resnet18", 10, 11_173_962),
    ("resnet18", 100, 11_220_132),
    ("resnet18", 200, 11_271_432),
    ("mobilenet_v2", 10, 2_296_922),
    ("mobilenet_v2", 100, 2_412_212),
    ("mobilenet_v2", 200, 2_540_312),
    ("preactresnet18", 200, 11_269_640),
    ("preactresnet18", 10, 11_172_170),
    ("preactresnet34", 200, 21_377_800),
    ("preactresnet34", 10, 21_280_330),
    ("resnet56", 10, 853_018),
    ("resnet56b", 10, 855_770),
    ("wrn34_10", 10, 46_160_474),
    ("wrn34_10", 100, 46_218_164),
    ("wrn22_6", 100, 9_693_108),
    ("wrn70_16", 10, 266_796_506),
    ("wrn70_16", 100, 266_888_756),
]
# Strides and feature map sizes show in the multiplications, not in the parameters.
GIGA_MULTIPLICATIONS = [
    ("resnet18", 10, 32, 0.555),
    ("mobilenet_v2", 10, 32, 0.091),
    ("preactresnet18", 200, 64, 2.222),
    ("preactresnet34", 200, 64, 4.638),
    ("resnet56", 10, 32, 0.125),
    ("resnet56b", 10, 32, 0.126),
    ("wrn34_10", 10, 32, 6.659),
    ("wrn22_6", 100, 32, 1.385),
    ("wrn70_16", 10, 32, 38.76),
]
SMALL = dict.fromkeys(ARCHITECTURES.lines, 4) | {"wrn34_10": 1, "wrn22_6": 1, "wrn70_16": 1}
NAMES = list(ARCHITECTURES.lines)


@pytest.mark.parametrize(("name", "classes", "expected"), PARAMETERS)
def test_parameters_are_those_of_the_published_network(name, classes, expected):
    network = build_empty(name, classes)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(("name", "classes", "size", "expected"), GIGA_MULTIPLICATIONS)
def test_multiplications_are_those_of_the_published_network(name, classes, size, expected):
    network = build_empty(name, classes).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, size, size, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(expected, abs=6e-4, rel=1e-3)


def test_every_registered_network_is_counted():
    assert {row[0] for row in PARAMETERS} == set(NAMES) == {row[0] for row in GIGA_MULTIPLICATIONS}


@pytest.mark.parametrize("name", NAMES)
def test_the_traced_network_is_the_same_function_at_both_sizes(name):
    torch.manual_seed(0)
    network = build(name, 7, SMALL[name]).eval()
    traced = fx.symbolic_trace(network)
    for size in (32, 64):
        images = torch.rand(2, 3, size, size)
        with torch.no_grad():
            logits = network(images)
            assert logits.shape == (2, 7)
            assert torch.equal(traced(images), logits)
        assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet18", "conv1 bn1 layer1.0.conv1 layer4.1.bn2 layer2.0.shortcut.1 linear"),
        ("mobilenet_v2", "conv1 layers.0.bn3 layers.16.conv2 layers.0.shortcut.0 conv2 bn2 linear"),
        ("preactresnet18", "conv1 layer1.0.bn1 layer2.0.shortcut.0 layer4.1.conv2 bn linear"),
        ("preactresnet34", "layer3.5.conv2 layer4.0.shortcut.0 bn linear"),
        ("resnet56", "conv1 bn1 layer3.8.bn2 linear"),
        ("resnet56b", "conv1 bn1 layer2.0.downsample.0 layer3.0.downsample.1 fc"),
        ("wrn34_10", "conv1 block1.layer.0.convShortcut block3.layer.4.bn2 bn1 fc"),
        ("wrn22_6", "init_conv layer.0.block.0.shortcut layer.2.block.2.conv_1 batchnorm logits"),
        ("wrn70_16", "layer.2.block.10.batchnorm_1 batchnorm logits"),
    ],
)
def test_layers_have_the_names_of_the_checkpoints_in_circulation(name, keys):
    names = layout(build_empty(name, 10))
    assert [key for key in keys.split() if f"{key}.weight" not in names] == []


def test_a_block_between_stages_has_the_only_shortcuts():
    assert not any("layer1" in k for k in layout(build_empty("resnet18", 10)) if "shortcut" in k)
    assert not any("shortcut" in name for name in layout(build_empty("resnet56", 10)))


def _one_pixel(convolution: nn.Conv2d, row: int, column: int) -> None:
    """The convolution that copies one place of its window, channel by channel."""
    weight = torch.zeros_like(convolution.weight)
    for channel in range(weight.shape[0]):
        weight[channel, channel % weight.shape[1], row, column] = 1
    convolution.weight.data = weight


def _exact_norms(block: nn.Module) -> nn.Module:
    """Batch norms that are the identity up to float32 rounding."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    return block.eval()


def test_deepmind_blocks_pad_right_and_below_only():
    block = _exact_norms(wrn_deepmind.Block(2, 4, 2))
    block.shortcut.weight.data.zero_()
    _one_pixel(block.conv_1, 1, 1)
    x = torch.rand(1, 2, 6, 6)
    once = F.silu(x)
    _one_pixel(block.conv_0, 0, 0)  # unpadded on the left and above: the window starts at 0
    torch.testing.assert_close(block(x)[:, :2], F.silu(once[:, :, ::2, ::2]))
    _one_pixel(block.conv_0, 2, 2)  # padded on the right and below: the last window ends in zeros
    last = block(x)[0, 0]
    torch.testing.assert_close(last[:2, :2], F.silu(once[0, 0, 2::2, 2::2]))
    assert not last[2].any() and not last[:, 2].any()


def test_an_impulse_in_the_corner_meets_the_first_weight():
    """T16: 8x8, weights 1 to 9 row by row, stride 2; symmetric padding would meet the fifth."""
    block = _exact_norms(wrn_deepmind.Block(1, 2, 2))
    block.shortcut.weight.data.zero_()
    block.conv_0.weight.data = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3).repeat(2, 1, 1, 1)
    _one_pixel(block.conv_1, 1, 1)
    x = torch.zeros(1, 1, 8, 8)
    x[..., 0, 0] = 3.0
    expected = torch.zeros(1, 2, 4, 4)
    expected[..., 0, 0] = F.silu(F.silu(torch.tensor(3.0)))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("block", "branch", "shortcut", "activation"),
    [
        (lambda: wrn_deepmind.Block(2, 4, 2), "conv_1", "shortcut", F.silu),
        (lambda: wrn_trades.Block(2, 4, 2), "conv2", "convShortcut", F.relu),
        (lambda: preactresnet.Block(2, 4, 2), "conv2", "shortcut.0", F.relu),
    ],
)
def test_a_shortcut_with_weights_starts_from_the_activated_input(
    block, branch, shortcut, activation
):
    block = _exact_norms(block())
    block.get_submodule(branch).weight.data.zero_()
    _one_pixel(block.get_submodule(shortcut), 0, 0)
    x = torch.randn(1, 2, 6, 6)
    torch.testing.assert_close(block(x)[:, :2], activation(x)[:, :, ::2, ::2])


@pytest.mark.parametrize("family", [wrn_deepmind, wrn_trades, preactresnet])
def test_a_shortcut_without_weights_is_the_input_itself(family):
    block = _exact_norms(family.Block(3, 3, 1))
    last = block.conv_1 if family is wrn_deepmind else block.conv2
    last.weight.data.zero_()
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(block(x), x)


def test_option_a_pads_channels_on_both_sides():
    block = _exact_norms(resnet56.PaddedBlock(2, 4, 2))
    block.conv2.weight.data.zero_()
    x = torch.rand(1, 2, 4, 4)
    out = block(x)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert not out[:, 0].any() and not out[:, 3].any()


def test_an_empty_network_draws_no_random_number():
    before = torch.get_rng_state()
    for name in NAMES:
        build_empty(name, 10, SMALL[name])
    assert torch.equal(torch.get_rng_state(), before)


def test_trades_stores_a_block_that_is_never_called():
    with pytest.raises(InputError, match=r"unexpected: sub_block1\.layer\.0\.bn1\.weight"):
        network = build("wrn34_10", 10, 1)
        extra = {"sub_block1.layer.0.bn1.weight": torch.ones(1)}
        load_strictly(build_empty("wrn34_10", 10, 1), {**network.state_dict(), **extra}, "it")


@pytest.mark.parametrize(
    ("name", "classes", "width", "message"),
    [
        ("resnet81", 10, None, "did you mean 'resnet18'"),
        ("resnet18", 1, None, "cannot have 1 classes and width 64"),
        ("resnet18", 10, 0, "at least 2 classes and width 1"),
        ("mobilenet_v2", 10, 30, "divisible by 4, not 30"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, classes, width, message):
    with pytest.raises(InputError, match=message):
        build(name, classes, width)
