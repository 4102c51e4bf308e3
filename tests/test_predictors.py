"""Networks of the downstream tasks: what they are blind to, what a region is; torchvision as judge of their size."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lsn_core.predictors import NETWORKS, Predictor, compact, resnet

ALL = pytest.mark.parametrize(("name", "channels"), [(name, channels) for name in NETWORKS for channels in (1, 2)])
CLOSE = {"atol": 1e-3, "rtol": 1e-4}  # numbers are tens and hundreds


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def made(name: str, channels: int, *, outputs: int = 3) -> Predictor:
    """A network whose head is not 0 any more."""
    torch.manual_seed(0)
    network = NETWORKS[name](channels, outputs).eval()
    nn.init.normal_(network.head.weight)
    nn.init.normal_(network.head.bias)
    return network


def parameters(network: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(value.numel() for value in network.parameters())


@ALL
def test_all_numbers_are_0_at_first(name, channels):
    network = NETWORKS[name](channels, 4)
    found = network(random(2, channels, 64, 64), random(2, 3, 64, 64))
    assert found.shape == (2, 3, 4) and not found.any()
    found.sum().backward()
    assert network.head.weight.grad.any()  # and it learns from there


@ALL
@torch.no_grad()
def test_exposure_is_not_seen(name, channels):
    """Each image has a gain and an offset of its own; a thousandth of its spread is all that is left of it."""
    network, image, regions = made(name, channels), random(2, channels, 64, 64), torch.ones(2, 1, 64, 64)
    gain, offset = torch.tensor([0.4, 2.5])[:channels, None, None], torch.tensor([0.3, -1.0])[:channels, None, None]
    expected = network(image, regions)
    torch.testing.assert_close(network(image + offset, regions), expected, atol=1e-3, rtol=1e-3)
    spread = expected.std().item()
    assert (network(gain * image + offset, regions) - expected).abs().max() < 0.02 * spread
    assert (network(image**2, regions) - expected).abs().max() > 0.02 * spread  # a curve is


@ALL
@torch.no_grad()
def test_a_regions_number_depends_on_its_own_weights_alone(name, channels):
    network, image = made(name, channels), random(2, channels, 64, 64)
    regions = random(2, 2, 64, 64, seed=1)
    whole = network(image, regions)
    for region in (0, 1):
        torch.testing.assert_close(network(image, regions[:, [region]]), whole[:, [region]], **CLOSE)
    torch.testing.assert_close(network(image, regions.flip(1)), whole.flip(1), **CLOSE)
    torch.testing.assert_close(network(image, 0.5 * regions), whole, **CLOSE)  # however much a region weighs
    left, right = (torch.zeros(2, 1, 64, 64) for _ in range(2))
    left[..., :32], right[..., 32:] = 1, 1
    halves = network(image, torch.cat((left, right), dim=1))
    both = network(image, torch.ones(2, 1, 64, 64))
    torch.testing.assert_close(halves.mean(dim=1, keepdim=True), both, **CLOSE)
    assert (halves[:, 0] - halves[:, 1]).abs().min() > 1e-4


@ALL
@torch.no_grad()
def test_items_of_a_batch_are_seen_by_themselves(name, channels):
    network, image, regions = made(name, channels), random(3, channels, 64, 64), random(3, 2, 64, 64, seed=1)
    apart = torch.cat([network(image[[k]], regions[[k]]) for k in range(3)])
    torch.testing.assert_close(network(image, regions), apart, **CLOSE)


@given(st.integers(0, 100))
def test_a_number_is_the_mean_over_its_region(seed):
    """Without a trunk: the standardised image's mean, weighted; with one of half the resolution, the same."""
    image, regions = random(1, 1, 16, 16, seed=seed), random(1, 2, 16, 16, seed=seed + 1)
    standard = (image[0, 0].numpy() - image.mean().item()) / (image.std().item() + 1e-3)
    for trunk, block in ((nn.Identity(), 1), (nn.AvgPool2d(2), 2)):
        network = Predictor(trunk, 1, 1)
        nn.init.ones_(network.head.weight)
        seen, *weights = (
            plane.reshape(16 // block, block, 16 // block, block).mean(axis=(1, 3))
            for plane in (standard, *regions[0].numpy())
        )
        expected = [np.average(seen, weights=weight) for weight in weights]
        np.testing.assert_allclose(network(image, regions)[0, :, 0].detach(), expected, atol=1e-5)


def test_a_region_of_nothing_has_the_numbers_of_nothing():
    network = made("compact", 1)
    found = network(random(1, 1, 64, 64), torch.zeros(1, 1, 64, 64))
    torch.testing.assert_close(found[0, 0], network.head.bias)


@torch.no_grad()
def test_numbers_are_whole_floats_in_any_precision():
    network, image, regions = made("compact", 2), random(2, 2, 64, 64), random(2, 2, 64, 64, seed=1)
    expected = network(image, regions)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image, regions)
    assert found.dtype == expected.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * expected.std()


def test_networks_are_as_large_as_they_say():
    for channels in (1, 2):
        assert parameters(compact(channels, 4)) == pytest.approx(0.3e6, abs=0.05e6)
    for channels, theirs in ((1, torchvision.models.resnet50), (2, torchvision.models.resnet34)):
        expected = parameters(theirs(num_classes=5)) - (3 - channels) * 64 * 7 * 7
        assert parameters(resnet(channels, 5)) == expected
    assert parameters(resnet(1, 1)) == pytest.approx(24e6, abs=0.6e6)
