"""Motion: adjusted phantoms against phantoms drawn so, and cycles that a perfect separation survives."""

import pytest
import torch

from lsn_core.motion import COMMANDED_MM, cycle_scores, rendered_scores
from lsn_core.phantom import FIELD_MM, drawn
from lsn_core.radiograph import Shift, compose, move_bones

SIZE = 128


@pytest.fixture(scope="module", name="joints")
def _joints():
    """Four phantoms, and their images with other widths."""
    some = list(drawn(4, seed=2, size=SIZE))
    own = [phantom.render() for phantom in some]
    wider = {
        delta: torch.stack([phantom.render(phantom.anatomy.jsw_mm + delta).image for phantom in some])
        for delta in (0.0, *COMMANDED_MM)
    }
    return torch.stack([joint.layers for joint in own]), torch.stack([joint.masks for joint in own]), wider


def scores(layers, masks, image, delta) -> dict[str, float]:
    found = rendered_scores(layers, masks, image, delta, spacing_mm=FIELD_MM / SIZE)
    return {name: float(values.mean()) for name, values in found.items()}


def test_true_layers_are_the_joint_again(joints):
    layers, masks, images = joints
    assert min(scores(layers, masks, images[0.0], 0.0).values()) > 100


@pytest.mark.parametrize("delta", COMMANDED_MM)
def test_moved_true_layers_are_nearer_to_the_drawn_joint_than_wrong_ones(joints, delta):
    layers, masks, images = joints
    right = scores(layers, masks, images[delta], delta)
    still = scores(layers, masks, images[delta], 0.0)
    away = scores(layers, masks, images[delta], -delta)
    flesh = torch.cat((compose(layers), torch.zeros_like(layers[:, 1:])), dim=1)
    stays = scores(flesh, masks, images[delta], delta)
    for region in ("frame", "band"):
        assert right[region] > still[region] + 3 and still[region] > away[region]
        assert stays[region] == pytest.approx(still[region], abs=1e-3)  # what is no bone does not move


def test_the_band_does_not_see_what_is_far_from_the_joint(joints):
    layers, masks, images = joints
    wrong = images[0.0].clone()
    wrong[..., -4:, :] = 0
    found = scores(layers, masks, wrong, 0.0)
    assert found["band"] > 100 > found["frame"]


def truth_of(layers, travel: float):
    """A separation that knows the true layers, and that the bones were moved by whole px."""

    def separate(image, masks):
        moved = move_bones(layers, Shift(dy=travel), Shift(dy=-travel), masks=layers > 0)
        return moved.to(image.dtype)

    return separate


def test_a_cycle_by_whole_pixels_loses_nothing_of_true_layers():
    """At 256 px the bones travel 5 px."""
    joint = next(iter(drawn(1, seed=4, size=256))).render()
    layers, masks = joint.layers[None], joint.masks[None]

    def moved(image, where):
        return torch.cat(
            (layers[:, :1], *(torch.roll(layers[:, [i]], by, dims=2) for i, by in ((1, 5), (2, -5)))), dim=1
        )

    found = cycle_scores(moved, layers, masks, dilate_px=0.0)
    assert all(float(value) > 100 for value in found.values())


def test_a_cycle_tells_whether_layers_follow_their_bones(joints):
    layers, masks, _ = joints
    before = layers.clone(), masks.clone()
    stay = cycle_scores(lambda image, where: layers, layers, masks, dilate_px=0.0)
    none = cycle_scores(
        lambda image, where: torch.cat((image, 0 * image, 0 * image), dim=1), layers, masks, dilate_px=0.0
    )
    for bone in ("lower", "upper"):
        assert none[bone].mean() < stay[bone].mean() < 40
    assert stay["soft"].min() == 160 and none["soft"].mean() < 20
    assert torch.equal(layers, before[0]) and torch.equal(masks, before[1])


def test_masks_travel_with_the_bones(joints):
    layers, masks, _ = joints
    seen = []
    cycle_scores(lambda image, where: seen.append(where) or layers, layers, masks, dilate_px=4.0)
    for i, sign in ((1, 1), (2, -1)):
        rows = [part.nonzero()[:, 0].float().mean() for where in (masks, seen[0]) for part in where[:, i]]
        before, after = torch.stack(rows[:4]), torch.stack(rows[4:])
        assert ((after - before) * sign > 0.3).all()
    assert ((seen[0][:, :1] - seen[0][:, 1:].amax(dim=1, keepdim=True)) >= 0).all()
