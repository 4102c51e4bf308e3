"""A phantom taken apart: names point at what they name, the cut agrees with the radiograph, poses change poses only."""

import pytest
import torch

from lsn_core.dissection import landmarks, posed, section
from lsn_core.joint import FINGERS
from lsn_core.phantom import FIELD_MM, Phantom

UPRIGHT = {"tilt": 0.0, "deviation": 0.0, "centre": (0.0, 0.0), "magnification": 1.0}


def masks_at(joint, place) -> tuple[float, float]:
    """(lower, upper) mask at a place (x, y)."""
    x, y = (round(coordinate) for coordinate in place)
    return tuple(joint.masks[1:, y, x].tolist())


@pytest.mark.parametrize("finger", FINGERS)
@pytest.mark.parametrize("seed", [3, 8])
def test_names_point_at_what_they_name(finger, seed):
    phantom = posed(Phantom(seed, finger), tilt=9.0, deviation=-7.0)
    joint, places = phantom.render(), landmarks(phantom)
    for name in ("base of the phalanx", "shaft of the phalanx", "cortex", "subchondral plate"):
        assert name not in places or masks_at(joint, places[name]) == (0, 1), name
    for name in ("metacarpal head", "trabeculae"):
        assert masks_at(joint, places[name]) == (1, 0), name
    assert masks_at(joint, places["soft tissue"]) == (0, 0) and masks_at(joint, places["rim"])[1] == 1
    x, y = (round(coordinate) for coordinate in places["subchondral plate"])
    assert joint.layers[2, y, x] > joint.layers[2][joint.masks[2] > 0].mean(), "the plate is bright"


def test_the_thumb_has_sesamoids_and_shows_air():
    phantom = next(
        p for p in (Phantom(seed, "thumb") for seed in range(40)) if {"sesamoid", "air"} <= landmarks(p).keys()
    )
    joint, places = phantom.render(), landmarks(phantom)
    x, y = (round(coordinate) for coordinate in places["air"])
    assert joint.image[0, y, x] == 0
    x, y = (round(coordinate) for coordinate in places["sesamoid"])
    around = joint.layers[0][joint.layers[0] > 0].median()
    assert joint.layers[0, y, x] > around, "a sesamoid is brighter than the tissue that it lies in"


def test_nothing_outside_the_frame_is_named():
    shifted = posed(Phantom(1), centre=(0.0, 9.0))
    places = landmarks(shifted)
    assert "metacarpal head" not in places and all(0 <= c <= 255 for place in places.values() for c in place)


def test_a_pose_changes_the_pose_and_nothing_else():
    phantom = Phantom(5, "ring", 64)
    bent = posed(phantom, flexion=12.0)
    assert bent.anatomy is phantom.anatomy and bent.pose.flexion == 12.0 and bent.pose.tilt == phantom.pose.tilt
    assert torch.equal(posed(phantom).render().image, phantom.render().image)
    assert not torch.equal(bent.render().image, phantom.render().image)
    with pytest.raises(TypeError):
        posed(phantom, flexoin=1.0)


@pytest.mark.parametrize("flexion", [-6.0, 0.0, 10.0])
def test_the_cut_agrees_with_the_radiograph_on_the_axis(flexion):
    """Where the rays of the middle column meet bone is where the masks of that column begin and end."""
    phantom = posed(Phantom(4, "middle"), flexion=flexion, **UPRIGHT)
    joint, cut = phantom.render(), section(phantom)
    middle = joint.masks[1:, :, 127:129].amax(dim=2)
    rows = [torch.nonzero(mask).flatten() for mask in middle]
    spacing = FIELD_MM / 256
    top, lowest = ((row - 127.5) * spacing for row in (rows[0][0], rows[1][-1]))
    assert float(top) == pytest.approx(cut.levels["top of the head"], abs=0.15)
    assert float(lowest) == pytest.approx(cut.levels["lowest rim"], abs=0.15)
    assert cut.bones["proximal phalanx"][:, 1].max() == pytest.approx(cut.levels["lowest rim"], abs=1e-5)
    assert cut.bones["metacarpal head"][:, 1].min() == pytest.approx(cut.levels["top of the head"], abs=1e-5)
