"""Pseudo-images: absorbances add where the bones overlap, soft tissue shows where they left; scipy moves the bones."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from lsn_core import harmonic, pseudo
from lsn_core.masks import bones, dilate, overlap
from lsn_core.phantom import Phantom
from lsn_core.pseudo import Overlaps, bone_layers, draw_overlap, halves, harmonic_fill, phantom_error, pseudo_overlap
from lsn_core.radiograph import Shift, absorbance, compose

Joints = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blocks(size: int = 40) -> Joints:
    """Image, masks and fill of two even bones in even soft tissue that leave the frame below and above; air at left."""
    masks = torch.zeros(1, 3, size, size)
    masks[:, 0, :, 4:] = masks[:, 1, size // 2 + 2 :, 10:-8] = masks[:, 2, : size // 2 - 2, 10:-8] = 1
    fill = 0.2 * masks[:, :1]
    image = torch.where(masks[:, 1:2] > 0, 0.6, torch.where(masks[:, 2:3] > 0, 0.5, fill))
    return image, masks, fill


@pytest.fixture(scope="module")
def joints() -> Joints:
    """Image, masks and fill of three phantoms at 96 px whose joint spaces are wide."""
    drawn = [Phantom(seed, finger, 96).render(4.0) for seed, finger in ((1, "thumb"), (2, "index"), (3, "small"))]
    image = torch.stack([joint.image for joint in drawn])
    masks = dilate(torch.stack([joint.masks for joint in drawn]), 1.5)
    return image, masks, harmonic_fill(image, bones(masks) > 0)


def test_the_fill_is_found_beside_what_needs_it():
    assert pseudo.harmonic_fill is harmonic.harmonic_fill


def test_by_hand_two_even_bones_pushed_over_each_other():
    image, masks, fill = blocks()
    made = pseudo_overlap(image, masks, fill, Overlaps(Shift(dy=-4.0), Shift(dy=5.0)))
    column = made.image[0, 0, :, 20]  # the upper bone ends at row 18 + 5, the lower begins at 22 - 4
    torch.testing.assert_close(column[:18], torch.full((18,), 0.5))
    torch.testing.assert_close(column[18:23], torch.full((5,), 1 - 0.4 * 0.5 / 0.8))  # Eq. 10: 0.75
    torch.testing.assert_close(column[23:], torch.full((17,), 0.6))
    beside = [*range(10), *range(32, 40)]
    torch.testing.assert_close(made.image[..., beside], fill[..., beside])
    torch.testing.assert_close(made.bones[0, :, 20, 20], torch.tensor([0.6, 0.5]))


def test_a_place_that_a_bone_left_shows_soft_tissue_and_never_the_bone():
    image, masks, fill = blocks()
    made = pseudo_overlap(image, masks, fill, Overlaps(Shift(dx=-6.0), Shift(dx=6.0)))
    left = (bones(masks) > 0) & (bones(made.masks) == 0)
    assert left.sum() == 2 * 6 * 18
    torch.testing.assert_close(made.image[left], fill[left])


def test_a_shaft_moved_away_from_the_frame_continues_to_it_and_nothing_wraps():
    image, masks, fill = blocks()
    made = pseudo_overlap(image, masks, fill, Overlaps(Shift(dy=-7.5), Shift(dy=7.5)))
    assert torch.equal(made.masks[0, 2, 0], masks[0, 2, 0]) and torch.equal(made.masks[0, 1, -1], masks[0, 1, -1])
    torch.testing.assert_close(made.image[0, 0, [0, -1]], image[0, 0, [0, -1]])


def test_no_motion_returns_the_radiograph(joints):
    image, masks, fill = joints
    made = pseudo_overlap(image, masks, fill, Overlaps(Shift(), Shift()))
    torch.testing.assert_close(made.image, image, atol=1e-5, rtol=0)
    assert torch.equal(made.masks, masks)
    shared = masks.clone()  # bones that are drawn over each other share what is there, and count it once
    shared[:, 1] = torch.maximum(masks[:, 1], dilate(masks, 12.0)[:, 2] * bones(masks)[:, 0])
    assert overlap(shared).sum() > 100
    made = pseudo_overlap(image, shared, fill, Overlaps(Shift(), Shift()))
    torch.testing.assert_close(made.image, image, atol=1e-5, rtol=0)


def test_in_the_overlap_absorbances_add_and_elsewhere_there_is_one_bone_or_the_fill(joints):
    image, masks, fill = joints
    made = pseudo_overlap(image, masks, fill, draw_large(3, 96))
    lower, upper = made.bones[:, :1], made.bones[:, 1:]
    both, none = overlap(made.masks) > 0, bones(made.masks) == 0
    assert both.flatten(1).any(dim=1).all()
    added = absorbance(lower) + absorbance(upper) - absorbance(fill)
    torch.testing.assert_close(absorbance(made.image)[both], added[both], atol=1e-5, rtol=1e-5)
    for k, bone in ((1, lower), (2, upper)):
        alone = (made.masks[:, k : k + 1] > 0) & ~both
        torch.testing.assert_close(made.image[alone], bone[alone], atol=1e-6, rtol=0)
    torch.testing.assert_close(made.image[none], fill[none], atol=1e-6, rtol=0)
    torch.testing.assert_close(compose(made.layers), made.image, atol=1e-6, rtol=0)


def draw_large(n: int, size: int) -> Overlaps:
    """Overlaps drawn as for a frame three times as large, so that bones 4 mm apart meet, and turned a little."""
    drawn = draw_overlap(n, size=3 * size, generator=generator(5))
    lower, upper = (
        Shift(torch.full((n,), turn), by.dy, torch.full((n,), turn))
        for turn, by in zip((1.3, -2.1), (drawn.lower, drawn.upper), strict=True)
    )
    return Overlaps(lower, upper, drawn.scale)


def test_bones_and_masks_move_as_scipy_moves_them(joints):
    image, masks, fill = joints
    overlaps = draw_large(3, 96)
    made, layers = pseudo_overlap(image, masks, fill, overlaps), bone_layers(image, halves(masks), fill)
    for item in range(3):
        for k, by in ((1, overlaps.lower), (2, overlaps.upper)):
            scale, angle = float(overlaps.scale[item]), math.radians(float(by.degrees[item]))
            turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])  # (row, column)
            centre = np.array(ndimage.center_of_mass(masks[item, k].numpy()))
            back = np.linalg.inv(scale * turn)
            offset = centre - back @ (centre + np.array([float(by.dy[item]), float(by.dx[item])]))
            mask, layer = (
                ndimage.affine_transform(plane.double().numpy(), back, offset, order=1, mode="nearest")
                for plane in (masks[item, k], layers[item, k - 1])
            )
            clear = np.abs(mask - 0.5) > 1e-3  # away from the threshold, where rounding decides
            assert clear.mean() > 0.999
            np.testing.assert_array_equal(made.masks[item, k].numpy()[clear], (mask > 0.5)[clear])
            expected = layer * made.masks[item, k].numpy()
            np.testing.assert_allclose(made.layers[item, k].numpy(), expected, atol=1e-4)


def test_the_hand_stays_and_holds_the_bones(joints):
    image, masks, fill = joints
    made = pseudo_overlap(image, masks, fill, draw_large(3, 96))
    assert torch.equal(made.masks[:, :1], torch.maximum(masks[:, :1], bones(made.masks)))
    assert made.masks.unique().tolist() == [0.0, 1.0]
    assert (masks[:, 0] == 0).any()


def test_what_is_drawn_keeps_to_the_bounds_of_a_frame_of_any_size():
    for size in (128, 256, 320):
        drawn, unit = draw_overlap(500, size=size, generator=generator()), size / 256
        for travel in (drawn.upper.dy, -drawn.lower.dy):
            assert 2 * unit <= travel.min() < 2.1 * unit and 7.9 * unit < travel.max() <= 8 * unit
        assert abs(np.corrcoef(drawn.upper.dy, drawn.lower.dy)[0, 1]) < 0.15
        larger = torch.maximum(drawn.upper.dy, -drawn.lower.dy)
        torch.testing.assert_close(drawn.scale, 1 + 3 * larger / size)


def test_a_seed_gives_the_same_overlaps_and_only_the_given_generator_moves_on():
    given, before = generator(), torch.get_rng_state()
    first, second = (draw_overlap(4, size=64, generator=given) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.numbers() == draw_overlap(4, size=64, generator=generator()).numbers() != second.numbers()


def test_logged_numbers_replay_the_images_to_the_last_bit(joints):
    image, masks, fill = joints
    overlaps = draw_overlap(3, size=96, generator=generator())
    logged = json.loads(json.dumps(overlaps.numbers()))
    made = pseudo_overlap(image, masks, fill, overlaps)
    again = pseudo_overlap(image, masks, fill, Overlaps.replay(logged))
    assert all(torch.equal(getattr(made, part), getattr(again, part)) for part in ("image", "masks", "bones", "layers"))
    assert Overlaps(Shift(dy=torch.tensor([1.0, 2.0])), Shift(), 1.5).numbers()[1] == {
        **{f"{bone}_{name}": 0.0 for bone in ("lower", "upper") for name in ("dx", "dy", "degrees")},
        **{"lower_dy": 2.0, "scale": 1.5},
    }


def test_each_item_moves_by_its_own_numbers(joints):
    image, masks, fill = joints
    overlaps = draw_overlap(3, size=96, generator=generator())
    together = pseudo_overlap(image, masks, fill, overlaps)
    for k in range(3):
        one = Overlaps.replay(overlaps.numbers()[k : k + 1])
        alone = pseudo_overlap(image[k : k + 1], masks[k : k + 1], fill[k : k + 1], one)
        torch.testing.assert_close(alone.image, together.image[k : k + 1], atol=1e-6, rtol=0)


def test_white_and_black_pixels_stay_numbers_in_range():
    image, masks, fill = blocks()
    image[..., 16:24, 12:20], image[..., 28:32, 14:20], fill[..., 20, 14:20] = 1.0, 0.0, 1.0
    made = pseudo_overlap(image, masks, fill, draw_overlap(1, size=120, generator=generator()))
    for part in (made.image, made.bones):
        assert part.isfinite().all() and part.min() >= 0 and part.max() <= 1


@pytest.mark.parametrize("frame", ["neumann", "zero"])
def test_the_fills_frame_decides_what_a_left_place_shows_at_the_frame(frame):
    image, masks, _ = blocks()
    fill = harmonic_fill(image, bones(masks) > 0, frame=frame)
    made = pseudo_overlap(image, masks, fill, Overlaps(Shift(dx=-6.0), Shift(dx=6.0)))
    torch.testing.assert_close(made.image[..., -1, 28:32], fill[..., -1, 28:32])
    assert (made.image[0, 0, -1, 28] > 0.19) == (frame == "neumann")


@pytest.mark.parametrize("seed", [0, 4])
def test_a_pseudo_overlap_of_a_phantom_is_close_to_the_phantom_truly_overlapped(seed):
    error = phantom_error(Phantom(seed, "index", 128), wide_mm=3.0, narrow_mm=-0.5)
    assert error["pixels"] > 100
    assert abs(error["bias"]) < 0.01 and error["rmse"] < 0.03
    assert math.isnan(phantom_error(Phantom(seed, "index", 64), wide_mm=6.0, narrow_mm=5.0)["bias"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_pseudo_images(joints):
    overlaps = draw_overlap(3, size=96, generator=generator())
    on_cpu, on_gpu = pseudo_overlap(*joints, overlaps), pseudo_overlap(*(part.cuda() for part in joints), overlaps)
    torch.testing.assert_close(on_gpu.image.cpu(), on_cpu.image, atol=1e-3, rtol=0)
