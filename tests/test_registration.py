"""Registration: `shift` and scipy as judges of the warp, points as judges of what lies between two motions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from lsn_core.adjustment import stored
from lsn_core.anatomy import turned
from lsn_core.joint import FINGERS
from lsn_core.masks import at_256
from lsn_core.movement import Movement, shifts, source_matrix
from lsn_core.phantom import Phantom, visits
from lsn_core.radiograph import Shift, shift
from lsn_core.registration import BORDER_PX, between, image_errors, narrowing_mm, places, unlikeness, warped

DEGREES, PX = st.floats(-60, 60), st.floats(-8, 8)
SIZE = 32


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def transforms(*rows: tuple[float, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(1, 2, 4) of a lower and an upper row."""
    return torch.tensor([rows], dtype=dtype)


STILL = transforms((1, 0, 0, 0), (1, 0, 0, 0))
UPRIGHT = torch.tensor([[[3.0, 8], [0, 1]]])  # a place: the head's middle from the frame's centre, and the axis


def sent(points: np.ndarray, row: np.ndarray, size: int) -> np.ndarray:
    """Points (n, 2) through one transform, by complex numbers: y up, so that an angle is counter-clockwise as seen."""
    scale, degrees, dx, dy = row
    middle = (size - 1) / 2
    z = (points[:, 0] - middle) - 1j * (points[:, 1] - middle)
    z = scale * np.exp(1j * np.deg2rad(degrees)) * z + dx - 1j * dy
    return np.column_stack((z.real + middle, middle - z.imag))


def forward(degrees: float, dx: float, dy: float, centre: tuple[float, float]) -> np.ndarray:
    """(2, 3): a rigid motion about any centre, as the inverse of what `source_matrix` says."""
    whole = np.vstack((source_matrix(Shift(dx, dy, degrees), centre), (0, 0, 1)))
    return np.linalg.inv(whole)[:2]


MOTION = st.builds(forward, DEGREES, PX, PX, st.tuples(st.floats(0, 31), st.floats(0, 31)))


def row_of(degrees: float, slid: complex, *, scale: float = 1.0) -> tuple[float, ...]:
    """A transform in numbers; `slid` is dx - 1j dy."""
    return scale, degrees, slid.real, -slid.imag


# --- narrowing -------------------------------------------------------------------------------------------------------


def test_narrowing_by_hand():
    """Lower down by 1 px and upper by 3 px, 0.1 mm each: 0.2 mm narrower; the other way round, wider."""
    pair = torch.cat((transforms((1, 9, 5, 1), (1, 9, 2, 3)), transforms((1, 0, 0, 3), (1, 0, 0, 1))))
    there = UPRIGHT.expand(2, -1, -1)
    torch.testing.assert_close(narrowing_mm(pair, there, 0.1), torch.tensor([0.2, -0.2]))
    torch.testing.assert_close(narrowing_mm(pair, there, torch.tensor([0.1, 0.2])), torch.tensor([0.2, -0.4]))


def test_an_axis_to_the_side_by_hand():
    """The upper bone moves by 5 px to the right and 5 down: along an axis of (0.6, 0.8) that is 7 px."""
    there = torch.tensor([[[3.0, 8], [0.6, 0.8]]])
    torch.testing.assert_close(narrowing_mm(transforms((1, 0, 0, 0), (1, 0, 5, 5)), there, 0.1), torch.tensor([0.7]))


@given(DEGREES, st.floats(0.8, 1.25), st.lists(PX, min_size=4, max_size=4), st.tuples(PX, PX))
def test_narrowing_is_the_papers_where_both_bones_turn_alike_and_the_axis_is_upright(degrees, scale, slid, middle):
    lower, upper = ((scale, degrees, *move) for move in (slid[:2], slid[2:]))
    there = torch.tensor([[middle, (0.0, 1.0)]], dtype=torch.float64)
    found = narrowing_mm(transforms(lower, upper, dtype=torch.float64), there, 0.2).item()
    assert found == pytest.approx(0.2 * (slid[3] - slid[1]), abs=1e-9)


@given(DEGREES, DEGREES, st.builds(complex, PX, PX), st.builds(complex, PX, PX))
def test_a_bone_that_turns_about_the_heads_middle_narrows_nothing(degrees, leaning, middle, slid):
    """However the axis leans; and where the upper bone then slides as well, what it slides along the axis."""
    turn, axis = np.exp(1j * np.deg2rad(degrees)), -1j * np.exp(1j * np.deg2rad(leaning))  # y up; down, turned
    there = torch.tensor([[(z.real, -z.imag) for z in (middle, axis)]], dtype=torch.float64)
    for away in (0j, slid):
        upper = row_of(degrees, middle - turn * middle + away)
        found = narrowing_mm(transforms((1, 0, 0, 0), upper, dtype=torch.float64), there, 1.0).item()
        assert found == pytest.approx((away * axis.conjugate()).real, abs=1e-9)


@given(st.lists(st.tuples(DEGREES, st.builds(complex, PX, PX)), min_size=3, max_size=3))
def test_where_a_hand_is_laid_narrows_nothing(motions):
    """One motion of the whole hand, of the moving image before or of the fixed one after, its place going with it."""
    (low, low_slid), (up, up_slid), (whole, away) = motions
    bones, turn, middle = ((low, low_slid), (up, up_slid)), np.exp(1j * np.deg2rad(whole)), 2 - 5j
    before = [row_of(d + whole, np.exp(1j * np.deg2rad(d)) * away + slid) for d, slid in bones]
    after = [row_of(d + whole, turn * slid + away) for d, slid in bones]

    def found(rows: list[tuple[float, ...]], *where: complex) -> float:
        there = torch.tensor([[(z.real, -z.imag) for z in where]], dtype=torch.float64)
        return narrowing_mm(transforms(*rows, dtype=torch.float64), there, 1.0).item()

    known = found([row_of(d, slid) for d, slid in bones], middle, -1j)
    assert found(before, middle, -1j) == pytest.approx(known, abs=1e-9)
    assert found(after, turn * middle + away, -1j * turn) == pytest.approx(known, abs=1e-9)


def drawn_bones(phantom: Phantom, jsw_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Where points of the lower and of the upper bone are in the frame, in px from its centre; y up."""
    body, pose = phantom.anatomy, phantom.pose
    a, b = np.random.default_rng(0).uniform(-5, 5, (2, 20))
    away = (jsw_mm / pose.magnification - body.clearance(pose.deviation)) / 2
    u, v = turned(a, b, pose.deviation, body.lower.shape.height)
    return in_frame(phantom, u, v + away), in_frame(phantom, a, -b - away)


def in_frame(phantom: Phantom, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Points of the finger in px from the frame's centre; y up."""
    pose = phantom.pose
    x, y = turned(pose.magnification * u, pose.magnification * v, pose.tilt, 0)
    return (x + pose.centre[0] - 1j * (y + pose.centre[1])) / phantom.spacing_mm


def drawn_place(phantom: Phantom, jsw_mm: float) -> torch.Tensor:
    """The point about which the metacarpal turns, and the phalanx's axis."""
    body, pose = phantom.anatomy, phantom.pose
    away = (jsw_mm / pose.magnification - body.clearance(pose.deviation)) / 2
    middle, below = in_frame(phantom, np.zeros(2), body.lower.shape.height + away + np.arange(2))
    axis = (below - middle) / abs(below - middle)
    return torch.tensor([[(z.real, -z.imag) for z in (middle, axis)]]).float()


def test_true_transforms_between_visits_give_the_narrowing_that_was_drawn():
    """Fingers bent sideways, by 8 degrees on average: the difference of dy is twice as far off, and more.

    Where a phantom's metacarpal turns, it is exact but for what a head that is not round adds to the space (clearance).
    """
    errors = []
    for number in range(20):
        first = Phantom(number, FINGERS[number % 5], size=128, severity=0.7)
        both, poses = list(visits(first, 2)), [replace(first, visit=k) for k in (0, 1)]
        known = [drawn_bones(pose, joint.jsw_mm) for pose, joint in zip(poses, both, strict=True)]
        fits = [np.polyfit(start, end, 1) for start, end in zip(*known, strict=True)]
        rows = [row_of(np.rad2deg(np.angle(turn)), slid, scale=abs(turn)) for turn, slid in fits]
        true = rows[0][0] * both[0].jsw_mm - both[1].jsw_mm  # magnified as the fixed image is
        where = places(both[1].masks[None, 1:]), drawn_place(poses[1], both[1].jsw_mm)
        ours, exact = (narrowing_mm(transforms(*rows), there, first.spacing_mm).item() for there in where)
        before, after = (pose.pose.magnification * pose.anatomy.clearance(pose.pose.deviation) for pose in poses)
        bent = rows[1][1] - rows[0][1]
        lowered = rows[0][0] * before - after
        papers = (rows[1][3] - rows[0][3]) * first.spacing_mm
        errors.append((ours - true, papers - true, exact - true + lowered, bent))
    ours, papers, exact, bent = np.abs(errors).mean(axis=0)
    assert bent > 5 and ours < 0.1 and papers > 2 * ours and exact < 0.02, (ours, papers, exact, bent)


@pytest.mark.parametrize("degrees", [(0, 8), (0, -8), (6, 0), (-4, 4)])
def test_a_joint_bent_sideways_is_as_wide_as_its_movement_says(degrees):
    """A movement turns about the joint space, some 4 mm above the head's middle: 8 degrees of that are 0.04 mm."""
    joint = Phantom(1, "middle", size=128).render()
    source, movement = stored(joint, joint.layers[None], 0.0), Movement(-0.4, degrees=degrees)
    back = [source_matrix(by, source.hinge.middle) for by in shifts(movement, source.hinge)]
    motion = np.stack([np.linalg.inv(np.vstack((matrix, (0, 0, 1))))[:2] for matrix in back])
    still = torch.eye(2, 3, dtype=torch.float64).expand(1, 2, 2, 3)
    found = between(still, torch.from_numpy(motion)[None], 128).float()
    masks = torch.from_numpy(source.masks(movement)[1:])[None].float()
    assert narrowing_mm(found, places(masks), joint.spacing_mm).item() == pytest.approx(0.4, abs=0.08)


# --- places ----------------------------------------------------------------------------------------------------------


def blocks() -> torch.Tensor:
    """(1, 2, 64, 64): a lower bone 16 px wide below row 36, an upper one 12 px wide above row 32, in one line."""
    bones = torch.zeros(1, 2, 64, 64)
    bones[0, 0, 36:, 24:40] = bones[0, 1, :32, 26:38] = 1
    return bones


def test_a_place_by_hand():
    """The joint is at row 33.5, halfway between the bones; the head's middle half of 12 px below, from row 31.5."""
    torch.testing.assert_close(places(blocks()), torch.tensor([[[0.0, 8], [0, 1]]]), atol=1e-6, rtol=0)


@given(st.integers(-20, 20), st.integers(-3, 3))
def test_a_place_goes_with_its_bones(dx, dy):
    """Of bones that keep to the frame's edges; each item has its own, mirrored where the bones are."""
    moved = torch.roll(blocks(), (dy, dx), dims=(2, 3))
    if dy:
        moved[..., slice(0, dy) if dy > 0 else slice(dy, None), :] = moved[..., [dy if dy > 0 else dy - 1], :]
    both = torch.cat((blocks(), moved, moved.flip(-1)))
    expected = torch.tensor([[[0.0, 8], [0, 1]], [[dx, 8 + dy], [0, 1]], [[-dx, 8 + dy], [0, 1]]])
    torch.testing.assert_close(places(both), expected, atol=1e-5, rtol=0)


@given(st.floats(-0.25, 0.25))
def test_an_axis_follows_the_upper_bones_shaft(slope):
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    upper = ((x - 128 - slope * (y - 128)).abs() < 24.5) & (y < 128)
    lower = ((x - 128).abs() < 40) & (y > 136)
    _, axis = places(torch.stack((lower, upper))[None].float())[0]
    torch.testing.assert_close(axis, torch.tensor([slope, 1.0]) / np.hypot(slope, 1), atol=5e-3, rtol=0)


@pytest.mark.parametrize("bone", [0, 1])
def test_a_joint_without_a_bone_has_no_place(bone):
    bones = torch.cat((blocks(), blocks()))
    bones[1, bone] = 0
    with pytest.raises(ValueError, match="a bone has no mask in the fixed image, so its joint has no place"):
        places(bones)


# --- warping ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(DEGREES, PX, PX), min_size=2, max_size=2), st.sampled_from([(32, 32), (33, 24)]))
def test_warping_is_shifting_about_the_frames_centre(moves, shape):
    image = random(2, 1, *shape)
    both = transforms(*((1, *move) for move in moves)).expand(2, -1, -1)
    centre = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    for bone, (degrees, dx, dy) in enumerate(moves):
        expected = shift(image, Shift(dx, dy, degrees), centre=centre)
        torch.testing.assert_close(warped(image, both)[:, [bone]], expected, atol=2e-5, rtol=0)


@given(st.floats(0.8, 1.25), DEGREES, PX, PX)
def test_scipy_warps_alike(scale, degrees, dx, dy):
    """A smooth image, because beside an edge a rounding error is as large as the edge."""
    row = np.array((scale, degrees, dx, dy))
    image = ndimage.gaussian_filter(random(SIZE, SIZE, dtype=torch.float64).numpy(), 2)
    corners = sent(np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]), row, SIZE)
    matrix = np.column_stack((corners[1] - corners[0], corners[2] - corners[0]))[::-1, ::-1]  # rows first
    source = np.linalg.inv(matrix)
    expected = ndimage.affine_transform(image, source, -source @ corners[0][::-1], order=1, mode="nearest")
    found = warped(torch.from_numpy(image)[None, None], transforms((1, 0, 0, 0), tuple(row), dtype=torch.float64))
    np.testing.assert_allclose(found[0, 1], expected, atol=1e-9)
    np.testing.assert_allclose(found[0, 0], image, atol=1e-12)


def test_warping_passes_gradients_on():
    image = random(1, 1, 8, 8, dtype=torch.float64).requires_grad_()
    move = transforms((1.1, 7, 0.3, -0.4), (0.9, -5, 1.2, 0.7), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(warped, (image, move))


def test_errors_by_hand():
    """The lower bone's 2 of 4 px differ by 0.4: 0.08. The upper bone's single px by 0.2: 0.04. Their mean: 0.06."""
    fixed, moving, masks = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16), torch.zeros(1, 2, 16, 16)
    masks[0, 0, 10, 4:8] = masks[0, 1, 5, 5] = 1
    moving[0, 0, 10, 4:6], moving[0, 0, 5, 5], moving[0, 0, 2, 2] = 0.4, 0.2, 1.0
    found = image_errors(moving, fixed, masks, STILL)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(0.06)


@pytest.mark.parametrize("size", [64, 256])
def test_errors_leave_the_border_out(size):
    border = round(at_256(BORDER_PX, size))
    fixed, masks = torch.zeros(1, 1, size, size), torch.ones(1, 2, size, size)
    moving = torch.ones_like(fixed)
    moving[..., border : size - border, border : size - border] = 0
    assert image_errors(moving, fixed, masks, STILL).item() == 0
    moving[..., border, size // 2] = 1
    assert image_errors(moving, fixed, masks, STILL).item() == pytest.approx((size - 2 * border) ** -2, rel=1e-4)


def test_a_bone_without_a_mask_is_no_error():
    masks = torch.stack((torch.ones(16, 16), torch.zeros(16, 16)))[None]
    found = image_errors(torch.ones(1, 1, 16, 16), torch.zeros(1, 1, 16, 16), masks, STILL)
    assert found.item() == pytest.approx(0.5)


# --- unlikeness ------------------------------------------------------------------------------------------------------


def two_halves(size: int = 64) -> torch.Tensor:
    """(1, 2, size, size): masks of odd outlines, clear of the border."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    lower, upper = ((x - 30) ** 2 + (y - row) ** 2 < 14**2 for row in (45, 18))
    return torch.stack((lower, upper & ~lower))[None].float()


@given(st.integers(0, 1000))
def test_unlikeness_is_scipys_correlation(seed):
    moving, fixed = random(2, 1, 64, 64, seed=seed), random(2, 1, 64, 64, seed=seed + 1) + 0.5
    moving[1] += 2 * fixed[1]
    found = unlikeness(moving, fixed, two_halves().expand(2, -1, -1, -1), STILL.expand(2, -1, -1))
    assert found.dtype == torch.float32
    for item in range(2):
        of = [[plane[item, 0][mask > 0].numpy() for plane in (moving, fixed)] for mask in two_halves()[0]]
        expected = 1 - np.mean([stats.pearsonr(*pair).statistic for pair in of])
        assert found[item].item() == pytest.approx(expected, abs=1e-5)


@given(st.floats(0.2, 3), st.floats(-1, 1), st.floats(0.2, 3), st.floats(-1, 1))
def test_unlikeness_is_blind_to_exposure(gain, offset, other_gain, other_offset):
    """`image_errors` is not."""
    images, moves = (random(1, 1, 64, 64), random(1, 1, 64, 64, seed=1)), transforms((1, 4, 1, 2), (1, -3, 0, 1))
    exposed = gain * images[0] + offset, other_gain * images[1] + other_offset
    found, expected = (unlikeness(*pair, two_halves(), moves) for pair in (exposed, images))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert image_errors(images[0] + 0.5, images[1], two_halves(), STILL) > image_errors(*images, two_halves(), STILL)


def test_like_images_and_opposite_ones():
    image = random(1, 1, 64, 64)
    assert unlikeness(image, image, two_halves(), STILL).item() == pytest.approx(0, abs=1e-6)
    assert unlikeness(image, 1 - image, two_halves(), STILL).item() == pytest.approx(2, abs=1e-6)
    flat = torch.full_like(image, 0.5)
    assert unlikeness(flat, image, two_halves(), STILL).item() == pytest.approx(1, abs=1e-3)


def test_unlikeness_looks_inside_the_masks_and_not_at_the_border():
    image, border = random(1, 1, 64, 64), round(at_256(BORDER_PX, 64))
    other, masks = image.clone(), two_halves()
    masks[..., :border, :] = masks[..., -border:, :] = 1
    inside = two_halves().amax(dim=1, keepdim=True) > 0
    other[~inside] = random(1, 1, 64, 64, seed=2)[~inside]
    assert unlikeness(other, image, masks, STILL).item() == pytest.approx(0, abs=1e-6)


def test_unlikeness_has_gradients_that_point_home():
    """A blob that is 2 px to the left: the error falls where it is moved to the right."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = lambda at: torch.exp(-((x - at) ** 2 + (y - 30) ** 2) / 200)[None, None]  # noqa: E731
    moves = STILL.clone().requires_grad_()
    unlikeness(blob(28), blob(30), two_halves(), moves).sum().backward()
    assert (moves.grad[..., 2] < 0).all() and moves.grad.isfinite().all()


# --- between two motions ---------------------------------------------------------------------------------------------


@given(st.lists(MOTION, min_size=4, max_size=4))
def test_what_lies_between_two_motions_takes_points_from_one_to_the_other(motions):
    first, second = np.stack(motions[:2]), np.stack(motions[2:])
    found = between(torch.from_numpy(first)[None], torch.from_numpy(second)[None], SIZE)[0].numpy()
    source = np.random.default_rng(0).uniform(0, SIZE, (20, 2))
    for start, end, row in zip(first, second, found, strict=True):
        moved, expected = (source @ matrix[:, :2].T + matrix[:, 2] for matrix in (start, end))
        np.testing.assert_allclose(sent(moved, row, SIZE), expected, atol=1e-9)
    assert np.all(found[:, 0] == 1)


def test_what_lies_between_a_motion_and_itself_is_nothing():
    motion = torch.from_numpy(np.stack((forward(20, 3, -2, (5, 9)), forward(-7, 1, 0, (3, 3)))))[None]
    torch.testing.assert_close(between(motion, motion, SIZE), STILL.double(), atol=1e-12, rtol=0)


def test_what_lies_between_two_motions_warps_one_image_onto_the_other():
    """A smooth blob, moved twice about centres of its own; each warp rounds a little, because it is bilinear."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = torch.exp(-(((x - 34) / 7) ** 2) - ((y - 28) / 12) ** 2)[None, None]
    moves = [Shift(3.4, -2.2, 12.0), Shift(-1.7, 4.1, -9.0)]
    centres = [(30.0, 22.0), (25.0, 40.0)]
    first, second = (
        torch.from_numpy(np.stack([forward(by.degrees, by.dx, by.dy, centre)] * 2))[None].float()
        for by, centre in zip(moves, centres, strict=True)
    )
    moving, fixed = (shift(blob, by, centre=centre) for by, centre in zip(moves, centres, strict=True))
    masks = torch.ones(1, 2, 64, 64)
    found = image_errors(moving, fixed, masks, between(first, second, 64)).item()
    assert found < 1e-4 < 100 * found < image_errors(moving, fixed, masks, STILL).item()
