"""Winograd's convolution is torch's, at every grid size, forwards and backwards."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from train.heads.blocks.conv3x3 import WIDE, Conv3x3, weight_points, winograd


@pytest.mark.parametrize("grid_size", range(1, 15))
def test_it_is_the_same_convolution(grid_size):
    torch.manual_seed(grid_size)
    maps = torch.randn(2, 5, grid_size, grid_size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    seen = torch.randn(2, 3, grid_size, grid_size, dtype=torch.float64)

    ours = winograd(maps, weight_points(weight), bias)
    torchs = F.conv2d(maps, weight, bias, padding=1)
    torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-11)
    inputs = (maps, weight, bias)
    for one, other in zip(
        torch.autograd.grad((ours * seen).sum(), inputs),
        torch.autograd.grad((torchs * seen).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_float32_is_close_at_real_sizes():
    torch.manual_seed(0)
    conv = Conv3x3(WIDE, 64, bias=False)
    maps = torch.randn(4, WIDE, 7, 7).relu()

    expected = F.conv2d(maps.double(), conv.weight.double(), padding=1)
    error = (conv(maps) - expected).abs().max() / expected.abs().max()
    assert 0 < error < 2e-5
    assert not torch.equal(conv(maps), F.conv2d(maps, conv.weight, padding=1))


@pytest.mark.parametrize(("dim", "dtype"), [(WIDE, torch.bfloat16), (8, torch.float32)])
def test_few_channels_and_bfloat16_are_torchs_own(dim, dtype):
    conv = Conv3x3(dim, 4).to(dtype)
    maps = torch.randn(1, dim, 7, 7, dtype=dtype)

    assert torch.equal(conv(maps), F.conv2d(maps, conv.weight, conv.bias, padding=1))


def test_its_parameters_are_those_of_torch():
    torch.manual_seed(0)
    ours = Conv3x3(8, 4)
    torch.manual_seed(0)
    torchs = torch.nn.Conv2d(8, 4, 3, padding=1)

    assert ours.state_dict().keys() == torchs.state_dict().keys()
    assert torch.equal(ours.weight, torchs.weight)


def test_it_can_be_trained_after_it_has_predicted():
    conv, maps = Conv3x3(WIDE, 3), torch.randn(1, WIDE, 13, 13)
    with torch.inference_mode():
        conv(maps)

    conv(maps).sum().backward()
    assert conv.weight.grad is not None


def test_prepared_once_it_convolves_every_map():
    torch.manual_seed(0)
    conv = Conv3x3(WIDE, 3).double()
    first, second = torch.randn(2, 2, WIDE, 7, 7, dtype=torch.float64)

    convolve = conv.prepared()
    (convolve(first) + convolve(second)).sum().backward()
    ours = conv.weight.grad.clone()
    conv.weight.grad = None
    (F.conv2d(first + second, conv.weight, padding=1)).sum().backward()

    torch.testing.assert_close(ours, conv.weight.grad)
