"""Harmonic filling: a sparse direct solver is the judge."""

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from lsn_core.phantom import Phantom
from lsn_core.pseudo import harmonic_fill


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
    """Random grey levels (2, 1, h, w): the hardest edge for a fill to meet."""
    return torch.rand((2, 1, height, width), generator=torch.Generator().manual_seed(1))


def shafts(height: int, width: int) -> torch.Tensor:
    """Holes (2, 1, h, w): two shafts that leave the frame and leave little beside them; and scattered pixels."""
    hole = torch.zeros(2, 1, height, width, dtype=torch.bool)
    hole[0, :, : height // 2 - 2, 3:-4] = hole[0, :, height // 2 + 1 :, 2:-6] = True
    hole[1] = torch.rand((height, width), generator=torch.Generator().manual_seed(2)) < 0.6
    return hole


@pytest.mark.parametrize("frame", ["neumann", "zero"])
@pytest.mark.parametrize("size", [(64, 64), (37, 50)])
def test_a_fill_is_the_direct_solution_of_laplaces_equation(frame, size):
    image, hole = texture(*size), shafts(*size)
    expected = np.stack([solved(image[k, 0].numpy(), hole[k, 0].numpy(), frame) for k in range(2)])

    def error(iterations: int) -> float:
        return float(
            np.abs(harmonic_fill(image, hole, frame=frame, iterations=iterations)[:, 0].numpy() - expected).max()
        )

    assert error(200) < 1e-4
    assert error(800) < 5e-6
    assert error(2) > error(8) > error(800)


def test_a_fill_of_a_whole_joint_is_the_direct_solution():
    joint = Phantom(3, "thumb", 128).render()
    image, hole = joint.image, joint.masks[1:].amax(dim=0, keepdim=True) > 0
    expected = solved(image[0].numpy(), hole[0].numpy(), "neumann")
    assert np.abs(harmonic_fill(image[None], hole[None])[0, 0].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("frame", ["neumann", "zero"])
def test_known_pixels_are_untouched_and_a_fill_stays_within_its_edge(frame):
    image, hole = 0.2 + 0.6 * texture(40, 40), shafts(40, 40)
    filled = harmonic_fill(image, hole, frame=frame, iterations=800)
    assert torch.equal(filled[~hole], image[~hole])
    low = image[~hole].min() if frame == "neumann" else 0.0
    assert filled.min() >= low - 1e-5 and filled.max() <= image[~hole].max() + 1e-5
    hidden = torch.where(hole, torch.nan, image).nan_to_num(7.0)
    torch.testing.assert_close(harmonic_fill(hidden, hole, frame=frame, iterations=800), filled, atol=1e-4, rtol=0)


def test_constants_and_ramps_are_reproduced():
    hole = shafts(48, 48)
    flat = torch.full((2, 1, 48, 48), 0.37)
    torch.testing.assert_close(harmonic_fill(flat, hole), flat, atol=1e-5, rtol=0)
    ramp = torch.linspace(0.1, 0.9, 48).expand(2, 1, 48, 48)
    inner = hole.clone()
    inner[:, :, [0, -1]] = inner[:, :, :, :1] = inner[:, :, :, -1:] = False  # a slope at the frame would be a flux
    for image in (ramp, ramp.mT, 0.5 * (ramp + ramp.mT)):
        torch.testing.assert_close(harmonic_fill(image, inner, iterations=600), image, atol=1e-4, rtol=0)


def test_the_zero_frame_pulls_a_shaft_to_black_and_the_neumann_frame_does_not():
    image, hole = torch.full((1, 1, 32, 32), 0.3), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    hole[..., 12:, 6:-6] = True
    assert harmonic_fill(image, hole)[..., -1, 16].item() == pytest.approx(0.3, abs=1e-5)
    assert harmonic_fill(image, hole, frame="zero")[..., -1, 16].item() < 0.1


def test_items_of_a_batch_do_not_mix_and_no_hole_changes_nothing():
    image, hole = texture(32, 32), shafts(32, 32)
    for k in range(2):
        alone = harmonic_fill(image[k : k + 1], hole[k : k + 1])
        torch.testing.assert_close(alone, harmonic_fill(image, hole)[k : k + 1], atol=1e-5, rtol=0)
    assert torch.equal(harmonic_fill(image, torch.zeros_like(hole)), image)


def test_a_hole_as_large_as_the_frame_is_refused():
    hole = shafts(16, 16)
    hole[1] = True
    with pytest.raises(ValueError, match="covers the whole frame"):
        harmonic_fill(texture(16, 16), hole)
