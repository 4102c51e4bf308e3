"""Batches: resizing keeps millimetres, stacking widens the masks and fills the bones."""

from dataclasses import fields, replace

import pytest
import torch

from lsn_core.batch import Batch, concatenate, resize, soft_fill, stack
from lsn_core.files import InputError
from lsn_core.masks import bones, dilate
from lsn_core.phantom import Phantom, phantoms
from lsn_core.pseudo import harmonic_fill
from lsn_core.radiograph import centroid


@pytest.fixture(scope="module")
def joints():
    return list(phantoms(3, seed=1, size=128))


@pytest.mark.parametrize("size", [64, 96, 200])
def test_resizing_keeps_millimetres_and_two_valued_masks(joints, size):
    for joint in joints:
        small = resize(joint, size)
        assert small.image.shape == (1, size, size) and small.masks.shape == small.layers.shape == (3, size, size)
        assert small.spacing_mm * size == pytest.approx(joint.spacing_mm * 128)
        assert set(small.masks.unique().tolist()) <= {0, 1}
        for k in (1, 2):  # a bone keeps its area and place in mm
            area = [float(each.masks[k].sum()) * each.spacing_mm**2 for each in (joint, small)]
            assert area[1] == pytest.approx(area[0], rel=0.02)
            before, after = (torch.stack(centroid(each.masks[None, k : k + 1])) + 0.5 for each in (joint, small))
            torch.testing.assert_close(after, before * size / 128, atol=0.15, rtol=0)
        assert (small.name, small.jsw_mm, small.finger) == (joint.name, joint.jsw_mm, joint.finger)


def test_halving_averages_so_that_fine_stripes_turn_grey_and_not_black():
    joint = replace(Phantom(0, size=64).render(), image=torch.eye(2).repeat(32, 32)[None])  # a chessboard of pixels
    inner = resize(joint, 32).image[:, 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.01, rtol=0)
    assert resize(joint, 64) is joint


def test_a_joint_without_spacing_or_layers_stays_without():
    bare = replace(Phantom(0, size=64).render(), spacing_mm=None, layers=None, jsw_mm=None)
    assert resize(bare, 32).spacing_mm is None and resize(bare, 32).layers is None


def test_a_stack_holds_the_images_their_masks_and_the_same_widened(joints):
    batch = stack(joints, size=64, dilate_px=8.0)  # 2 px of this frame
    assert len(batch) == 3
    for k, joint in enumerate(joints):
        small = resize(joint, 64)
        assert torch.equal(batch.image[k], small.image)
        assert torch.equal(batch.drawn[k].float(), small.masks)
        assert torch.equal(batch.masks[k], dilate(small.masks[None], 2.0)[0])
    assert (batch.wide & ~batch.drawn)[:, 1:].any() and not (batch.drawn & ~batch.wide).any()
    hole = batch.wide[:, 1:].any(dim=1, keepdim=True)
    assert torch.equal(batch.fill[~hole], batch.image[~hole])
    torch.testing.assert_close(batch.fill, harmonic_fill(batch.image, hole), atol=1e-5, rtol=0)


def test_filling_in_chunks_is_filling_at_once(joints):
    batch = stack(joints, size=64, dilate_px=4.0)
    torch.testing.assert_close(soft_fill(batch.image, batch.masks, chunk=2), batch.fill, atol=1e-5, rtol=0)
    assert batch.fill[bones(batch.masks) > 0].mean() < batch.image[bones(batch.masks) > 0].mean() - 0.1


def test_taking_and_concatenating_are_inverse(joints):
    batch = stack(joints, size=32, dilate_px=4.0)
    parts = [batch.take(slice(0, 1)), batch.take(torch.tensor([1, 2]))]
    assert [len(part) for part in parts] == [1, 2]
    for again in (concatenate(parts), batch.to("cpu")):
        for field in fields(Batch):
            assert torch.equal(getattr(again, field.name), getattr(batch, field.name))
    assert torch.equal(batch.take(torch.tensor([2, 0])).image, batch.image[[2, 0]])


def test_a_joint_without_any_tissue_beside_its_bones_is_refused_by_name(joints):
    covered = replace(joints[1], masks=torch.ones(3, 128, 128))
    with pytest.raises(InputError, match=f"^{joints[1].name}: the bones cover the whole frame"):
        stack([joints[0], covered], size=32, dilate_px=0.0)


def test_a_frame_that_is_not_square_is_refused_by_name(joints):
    wide = replace(joints[0], image=torch.zeros(1, 64, 96), masks=torch.zeros(3, 64, 96), layers=None)
    with pytest.raises(InputError, match=f"^{joints[0].name}: the image is 96 x 64 px; crop"):
        resize(wide, 32)
