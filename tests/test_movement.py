"""Movements: where points of the bones go, by hand and by scikit-image's own transforms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import EuclideanTransform

from lsn_core.movement import MOVING, Hinge, Movement, find_hinge, shifts, source_matrix
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift

UPRIGHT = Hinge((30.0, 40.0), (0.0, -1.0), 0.25)
SLANTED = Hinge((30.0, 40.0), (0.6, -0.8), 0.25)

DISTANCES, ANGLES = st.floats(-3, 3), st.floats(-180, 180)


def two_boxes() -> torch.Tensor:
    """Masks (1, 3, 60, 40) of two boxes, the lower one's top row 30 and the upper one's last row 25."""
    masks = torch.zeros(1, 3, 60, 40)
    masks[:, 0] = 1
    masks[:, 1, 30:, 10:31] = 1
    masks[:, 2, :26, 10:31] = 1
    return masks


@pytest.mark.parametrize(
    ("movement", "hinge", "lower", "upper"),
    [
        (Movement(), UPRIGHT, (0, 0, 0), (0, 0, 0)),
        (Movement(1.0), UPRIGHT, (0, 2, 0), (0, -2, 0)),  # 4 px apart: up is -y
        (Movement(-1.0), UPRIGHT, (0, -2, 0), (0, 2, 0)),
        (Movement(1.0, share=1.0), UPRIGHT, (0, 0, 0), (0, -4, 0)),
        (Movement(1.0, share=0.0), UPRIGHT, (0, 4, 0), (0, 0, 0)),
        (Movement(slide_mm=(0.5, -0.25)), UPRIGHT, (2, 0, 0), (-1, 0, 0)),
        (Movement(degrees=(3.0, -2.0)), UPRIGHT, (0, 0, 3), (0, 0, -2)),
        (Movement(2.5, share=1.0), SLANTED, (0, 0, 0), (6, -8, 0)),
        (Movement(slide_mm=(2.5, 0.0)), SLANTED, (8, 6, 0), (0, 0, 0)),
    ],
)
def test_what_a_movement_does_to_each_bone(movement, hinge, lower, upper):
    found = [(by.dx, by.dy, by.degrees) for by in shifts(movement, hinge)]
    np.testing.assert_allclose(found, [lower, upper], atol=1e-12)


@given(delta=DISTANCES, share=st.floats(0, 1))
def test_the_joint_opens_by_all_of_it_whoever_moves(delta, share):
    lower, upper = shifts(Movement(delta, share=share), SLANTED)
    apart = np.array([upper.dx - lower.dx, upper.dy - lower.dy])
    np.testing.assert_allclose(apart @ SLANTED.axis * SLANTED.spacing_mm, delta, atol=1e-12)


def test_the_shares_by_their_names():
    assert MOVING == {"both": 0.5, "upper": 1.0, "lower": 0.0}


@given(dx=DISTANCES, dy=DISTANCES, degrees=ANGLES)
def test_the_source_matrix_is_the_inverse_of_a_turn_and_a_step(dx, dy, degrees):
    """scikit-image's angle is clockwise as seen, because its y points down."""
    centre = np.array((11.0, 7.5))
    turn = EuclideanTransform(rotation=-np.radians(degrees))
    forward = (
        EuclideanTransform(translation=-centre) + turn + EuclideanTransform(translation=centre + np.array((dx, dy)))
    )
    ours = source_matrix(Shift(dx, dy, degrees), tuple(centre))
    np.testing.assert_allclose(ours, forward.inverse.params[:2], atol=1e-9)


@given(degrees=ANGLES)
def test_a_turn_keeps_the_hinge(degrees):
    matrix = source_matrix(Shift(degrees=degrees), UPRIGHT.middle)
    np.testing.assert_allclose(matrix @ (*UPRIGHT.middle, 1), UPRIGHT.middle, atol=1e-9)


def test_the_hinge_of_two_boxes_is_between_them_on_their_axis():
    hinge = find_hinge(two_boxes(), spacing_mm=0.5)
    np.testing.assert_allclose(hinge.middle, (20, 27.5))
    np.testing.assert_allclose(hinge.axis, (0, -1), atol=1e-6)
    assert hinge.spacing_mm == 0.5


@pytest.mark.parametrize("missing", [1, 2])
def test_a_joint_of_one_bone_has_no_hinge(missing):
    masks = two_boxes()
    masks[:, missing] = 0
    with pytest.raises(ValueError, match="a bone has no mask, so the joint has no hinge"):
        find_hinge(masks, spacing_mm=0.5)


def test_the_hinge_of_a_phantom_is_its_joint_at_any_size():
    for size in (64, 97):
        joint = Phantom(3, "middle", size=size).render()
        hinge = find_hinge(joint.masks[None], spacing_mm=joint.spacing_mm)
        assert abs(np.array(hinge.middle) / size - 0.5).max() < 0.12
        assert hinge.axis[1] < -0.95 and abs(np.hypot(*hinge.axis) - 1) < 1e-6
