"""Harmonic filling: a sparse direct solver is the judge."""

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from lsn_core.harmonic import harmonic_fill
from lsn_core.phantom import Phantom


def solved(image: np.ndarray, hole: np.ndarray, frame: str) -> np.ndarray:
    """The image with its hole filled by Laplace's equation on the five-point grid, solved directly."""
    rows = {tuple(place): row for row, place in enumerate(np.argwhere(hole))}
    matrix, right = lil_matrix((len(rows), len(rows))), np.zeros(len(rows))
    for (y, x), row in rows.items():
        for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            within = 0 <= place[0] < hole.shape[0] and 0 <= place[1] < hole.shape[1]
            if within or frame == "zero":
                matrix[row, row] += 1
            if place in rows:
                matrix[row, rows[place]] -= 1
            elif within:
                right[row] += image[place]
    filled = image.astype(np.float64).copy()
    filled[hole] = spsolve(matrix.tocsr(), right)
    return filled


def texture(height: int, width: int) -> torch.Tensor:
    """Random grey levels (3, 1, h, w): the hardest edge for a fill to meet."""
    return torch.rand((3, 1, height, width), generator=torch.Generator().manual_seed(1))


def holes(height: int, width: int) -> torch.Tensor:
    """(3, 1, h, w): two shafts that leave the frame and leave little beside them; scattered pixels; and a maze, all
    walls one pixel thin, which no coarser grid sees."""
    hole = torch.zeros(3, 1, height, width, dtype=torch.bool)
    hole[0, :, : height // 2 - 2, 3:-4] = hole[0, :, height // 2 + 1 :, 2:-6] = True
    hole[1] = torch.rand((height, width), generator=torch.Generator().manual_seed(2)) < 0.6
    hole[2] = True
    hole[2, :, 3::7, :-5] = hole[2, :, 6::7, 5:] = False
    return hole


@pytest.mark.parametrize("frame", ["neumann", "zero"])
@pytest.mark.parametrize("size", [(64, 64), (37, 50), (20, 6), (5, 70)])
def test_a_fill_is_the_direct_solution_of_laplaces_equation(frame, size):
    image, hole = texture(*size), holes(*size)
    expected = np.stack([solved(image[k, 0].numpy(), hole[k, 0].numpy(), frame) for k in range(3)])

    def error(tolerance: float) -> float:
        return float(
            np.abs(harmonic_fill(image, hole, frame=frame, tolerance=tolerance)[:, 0].numpy() - expected).max()
        )

    assert error(1e-4) < 1e-4
    assert error(1e-6) < 5e-6
    assert size[0] < 64 or error(0.3) > 2e-3


def test_a_fill_of_a_whole_joint_is_the_direct_solution():
    joint = Phantom(3, "thumb", 128).render()
    image, hole = joint.image, joint.masks[1:].amax(dim=0, keepdim=True) > 0
    expected = solved(image[0].numpy(), hole[0].numpy(), "neumann")
    assert np.abs(harmonic_fill(image[None], hole[None])[0, 0].numpy() - expected).max() < 5e-5


@pytest.mark.parametrize("frame", ["neumann", "zero"])
def test_known_pixels_are_untouched_and_a_fill_stays_within_its_edge(frame):
    image, hole = 0.2 + 0.6 * texture(40, 40), holes(40, 40)
    filled = harmonic_fill(image, hole, frame=frame, tolerance=1e-6)
    assert torch.equal(filled[~hole], image[~hole])
    low = image[~hole].min() if frame == "neumann" else 0.0
    assert filled.min() >= low - 1e-5 and filled.max() <= image[~hole].max() + 1e-5
    hidden = torch.where(hole, torch.nan, image)
    assert torch.equal(harmonic_fill(hidden, hole, frame=frame, tolerance=1e-6), filled)


def test_constants_and_ramps_are_reproduced():
    hole = holes(48, 48)
    flat = torch.full((3, 1, 48, 48), 0.37)
    torch.testing.assert_close(harmonic_fill(flat, hole), flat, atol=1e-5, rtol=0)
    ramp = torch.linspace(0.1, 0.9, 48).expand(3, 1, 48, 48)
    inner = hole.clone()
    inner[:, :, [0, -1]] = inner[:, :, :, :1] = inner[:, :, :, -1:] = False  # a slope at the frame would be a flux
    for image in (ramp, ramp.mT, 0.5 * (ramp + ramp.mT)):
        torch.testing.assert_close(harmonic_fill(image, inner), image, atol=5e-5, rtol=0)


def test_the_zero_frame_pulls_a_shaft_to_black_and_the_neumann_frame_does_not():
    image, hole = torch.full((1, 1, 32, 32), 0.3), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    hole[..., 12:, 6:-6] = True
    assert harmonic_fill(image, hole)[..., -1, 16].item() == pytest.approx(0.3, abs=1e-5)
    assert harmonic_fill(image, hole, frame="zero")[..., -1, 16].item() < 0.1


def test_items_of_a_batch_do_not_mix_and_no_hole_changes_nothing():
    image, hole = texture(32, 32), holes(32, 32)
    for k in range(3):
        alone, together = harmonic_fill(image[k : k + 1], hole[k : k + 1]), harmonic_fill(image, hole)
        torch.testing.assert_close(alone, together[k : k + 1], atol=2e-6, rtol=0)
    hole[1] = False
    assert torch.equal(harmonic_fill(image, hole)[1], image[1])
    assert torch.equal(harmonic_fill(image, torch.zeros_like(hole)), image)
    many = harmonic_fill(image.repeat(7, 1, 1, 1), hole.repeat(7, 1, 1, 1))  # more than one chunk
    torch.testing.assert_close(many[18:], harmonic_fill(image, hole), atol=2e-6, rtol=0)


def test_a_hole_as_large_as_the_frame_is_refused_and_so_is_an_unknown_frame():
    hole = holes(16, 16)
    with pytest.raises(ValueError, match="frame 'reflect' is unknown"):
        harmonic_fill(texture(16, 16), hole, frame="reflect")
    hole[1] = True
    with pytest.raises(ValueError, match="covers the whole frame"):
        harmonic_fill(texture(16, 16), hole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_fill():
    image, hole = texture(64, 64), holes(64, 64)
    on_gpu = harmonic_fill(image.cuda(), hole.cuda(), tolerance=1e-6)
    torch.testing.assert_close(on_gpu.cpu(), harmonic_fill(image, hole, tolerance=1e-6), atol=1e-5, rtol=0)
