"""The compact backbone: what holds for any weights, frames and widths."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsn_core.unet import Block, UNet


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def net(fold: int = 2, widths: tuple[int, ...] = (8, 8, 16, 16, 16)) -> UNet:
    torch.manual_seed(0)
    return UNet(2, 3, fold=fold, widths=widths, finest=8).eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 32)])
@pytest.mark.parametrize(("fold", "widths"), [(2, (8, 8, 16, 16, 16)), (4, (8, 16, 16, 8))])
def test_it_answers_any_frame_that_32_divides(fold, widths, height, width):
    with torch.device("meta"):
        assert net(fold, widths)(torch.empty(2, 2, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize("fold", [2, 4])
def test_it_answers_the_same_in_training_as_in_use_and_for_each_image_alone(fold):
    unet, images = net(fold), random(3, 2, 64, 64)
    with torch.no_grad():
        trained, used, alone = unet.train()(images), unet.eval()(images), unet(images[1:2])
    assert torch.equal(trained, used) and not list(unet.buffers())
    torch.testing.assert_close(alone, used[1:2], atol=1e-4, rtol=1e-4)


def test_it_answers_the_same_whatever_the_order_of_its_weights_in_memory():
    unet, images = net(), random(2, 2, 64, 64)
    with torch.no_grad():
        plain = unet(images)
        torch.testing.assert_close(unet.to(memory_format=torch.channels_last)(images), plain, atol=1e-4, rtol=1e-4)


def without_norms(unet: UNet) -> UNet:
    """Of a flat map a norm would leave nothing."""
    for module in unet.modules():
        if isinstance(module, Block):
            module.norm = nn.Identity()
    return unet


@pytest.mark.parametrize("fold", [2, 4])
def test_it_sees_no_edge_in_a_flat_image(fold):
    """Zeros beyond the frame would show along it; only the place within a folded pixel may tell."""
    with torch.no_grad():
        flat = F.pixel_unshuffle(without_norms(net(fold))(torch.full((1, 2, 64, 64), 0.5)), fold)
    spread = flat.std(dim=(2, 3))
    assert (spread < 1e-5 * flat.abs().mean()).all() and flat.abs().mean() > 0


def test_an_image_moved_by_a_whole_coarsest_pixel_is_answered_moved():
    """Away from the frame's edge, without the norms that look at all of a map."""
    unet, images = without_norms(net(widths=(8, 8, 8))), random(1, 2, 96, 96)
    with torch.no_grad():
        there, here = unet(images), unet(images.roll((8, 8), dims=(2, 3)))
    torch.testing.assert_close(here[..., 48:56, 48:56], there[..., 40:48, 40:48], atol=1e-5, rtol=1e-4)
    assert there[..., 40:48, 40:48].std() > 0


def test_every_pixel_has_a_way_of_its_own_to_its_logits_and_all_see_far():
    """The finest detail is not lost: no two pixels of a folded one act alike. And one corner hears of the other."""
    unet, images = net(), random(1, 2, 64, 64).requires_grad_()
    unet(images)[0, 0, 20, 20].backward()
    block = images.grad[0, 0, 20:22, 20:22].flatten()
    assert (block != 0).all() and len(block.unique()) == 4
    assert images.grad[0, 0, -16:, -16:].abs().sum() > 0


def test_a_block_adds_what_it_finds_where_the_widths_agree():
    torch.manual_seed(0)
    x = random(2, 8, 16, 16)
    with torch.no_grad():
        same, other = Block(8, 8), Block(8, 4)
        found = F.pad(x, (1,) * 4, mode="replicate")
        found = F.relu(F.group_norm(F.conv2d(found, same.convolution.weight), 1))
        torch.testing.assert_close(same(x), x + found, atol=1e-5, rtol=1e-5)
        assert other(x).min() == 0
