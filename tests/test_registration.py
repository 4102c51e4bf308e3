"""Registration: `shift` and scipy as judges of the warp, points as judges of what lies between two motions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lsn_core.masks import at_256
from lsn_core.movement import source_matrix
from lsn_core.radiograph import Shift, shift
from lsn_core.registration import BORDER_PX, between, image_errors, narrowing_mm, warped

DEGREES, PX = st.floats(-60, 60), st.floats(-8, 8)
SIZE = 32


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def transforms(*rows: tuple[float, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(1, 2, 4) of a lower and an upper row."""
    return torch.tensor([rows], dtype=dtype)


STILL = transforms((1, 0, 0, 0), (1, 0, 0, 0))


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


def test_narrowing_by_hand():
    """Lower down by 1 px and upper by 3 px, 0.1 mm each: 0.2 mm narrower; the other way round, wider."""
    pair = torch.cat((transforms((1, 9, 5, 1), (1, -9, 2, 3)), transforms((1, 0, 0, 3), (1, 0, 0, 1))))
    torch.testing.assert_close(narrowing_mm(pair, 0.1), torch.tensor([0.2, -0.2]))
    torch.testing.assert_close(narrowing_mm(pair, torch.tensor([0.1, 0.2])), torch.tensor([0.2, -0.4]))


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
