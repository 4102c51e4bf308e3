"""Motion: adjusted phantoms against phantoms drawn so, and cycles that a perfect separation survives."""

import math

import pytest
import torch
from torch import Tensor

from lsn_core.baseline import harmonic
from lsn_core.masks import bones
from lsn_core.motion import COMMANDED_MM, cycle_scores, rendered_scores
from lsn_core.phantom import FIELD_MM, drawn
from lsn_core.radiograph import LAYERS, Shift, compose, move_bones

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


def rolled(layers: Tensor, px: int) -> Tensor:
    """The lower bone so many rows down, the upper one so many up; what leaves the frame comes in on the other side."""
    return torch.cat((layers[:, :1], layers[:, 1:2].roll(px, dims=2), layers[:, 2:].roll(-px, dims=2)), dim=1)


def two_bars(count: int = 1, size: int = 256) -> tuple[Tensor, Tensor]:
    """Random layers, and masks of two bars that are 17 rows apart at 256: rows 40 to 119 and 137 to 216."""
    masks = torch.ones(count, 3, size, size)
    rows = torch.arange(size) * 256 // size
    for i, (first, last) in ((1, (137, 216)), (2, (40, 119))):
        masks[:, i] = ((rows >= first) & (rows <= last)).float()[:, None]
    layers = 0.2 + 0.4 * torch.rand(masks.shape, generator=torch.Generator().manual_seed(0))
    layers[:, 1:] *= masks[:, 1:]
    return layers, masks


def decibels(mean_square: float) -> float:
    return -10 * math.log10(mean_square)


# --- joints drawn again ----------------------------------------------------------------------------------------------


def scores(layers: Tensor, masks: Tensor, image: Tensor, delta: float) -> dict[str, Tensor]:
    return rendered_scores(layers, masks, image, delta, spacing_mm=FIELD_MM / SIZE)


def test_true_layers_are_the_joint_again(joints):
    layers, masks, images = joints
    assert min(values.min() for values in scores(layers, masks, images[0.0], 0.0).values()) > 100


@pytest.mark.parametrize("delta", COMMANDED_MM)
def test_moved_true_layers_are_nearer_to_the_drawn_joint_than_wrong_ones(joints, delta):
    layers, masks, images = joints
    right = scores(layers, masks, images[delta], delta)
    still = scores(layers, masks, images[delta], 0.0)
    away = scores(layers, masks, images[delta], -delta)
    flesh = torch.cat((compose(layers), torch.zeros_like(layers[:, 1:])), dim=1)
    stays, swapped = (scores(wrong, masks, images[delta], delta) for wrong in (flesh, layers[:, [0, 2, 1]]))
    bare = scores(layers * torch.tensor([1.0, 0.0, 0.0])[:, None, None], masks, images[delta], delta)
    for region in ("frame", "band"):
        assert (right[region] > still[region] + 3).all() and (still[region] > away[region]).all()
        assert (swapped[region] < still[region]).all() and (bare[region] < still[region]).all()
        torch.testing.assert_close(stays[region], still[region], atol=1e-3, rtol=0)  # what is no bone does not move


def test_both_bones_move_by_half_of_the_millimetres_each_at_their_own_spacing():
    """By 4 mm at 0.5 mm a pixel each bar moves 4 rows, at 0.25 mm 8; narrower, they come nearer."""
    layers, masks = two_bars(2)
    for delta, rows in ((4.0, (4, 8)), (-2.0, (-2, -4))):
        truth = torch.cat([compose(rolled(layers[[k]], px)) for k, px in enumerate(rows)])
        found = rendered_scores(layers, masks, truth, delta, spacing_mm=torch.tensor([0.5, 0.25]))
        assert min(values.min() for values in found.values()) > 80
        assert rendered_scores(layers, masks, truth, -delta, spacing_mm=0.5)["band"].max() < 30


@pytest.mark.parametrize(("row", "seen"), [(116, False), (117, True), (139, True), (140, False)])
def test_the_band_reaches_twenty_rows_from_both_bones(row, seen):
    """One row is wrong by 0.1, of 256 in the frame and of the 23 from row 117 to row 139 in the band."""
    layers, masks = two_bars()
    truth = compose(layers)
    truth[..., row, :] += 0.1
    found = rendered_scores(layers, masks, truth, 0.0, spacing_mm=0.1)
    assert float(found["frame"]) == pytest.approx(decibels(0.01 / 256), abs=1e-3)
    assert float(found["band"]) == pytest.approx(decibels(0.01 / 23), abs=1e-3) if seen else found["band"] > 100


def test_what_is_not_the_hand_is_not_compared(joints):
    layers, masks, images = joints
    assert (masks[:, :1] == 0).any()
    lit = torch.where(masks[:, :1] > 0, images[0.5], 0.9)
    for region, values in scores(layers, masks, lit, 0.5).items():
        assert torch.equal(values, scores(layers, masks, images[0.5], 0.5)[region])


# --- cycles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [256, 512])
def test_a_cycle_by_whole_pixels_loses_nothing_of_true_layers(size):
    """The bones travel 5 px at 256; the radiograph that is separated again is that of the moved bones, and no other."""
    joint = next(iter(drawn(1, seed=4, size=size))).render()
    layers, masks = joint.layers[None], joint.masks[None]
    px = 5 * size // 256

    def separate(image: Tensor, where: Tensor) -> Tensor:
        moved, inner = rolled(layers, px), slice(px, -px)
        torch.testing.assert_close(image[..., inner, :], compose(moved)[..., inner, :], atol=1e-5, rtol=0)
        assert torch.equal(where[:, 1:, inner], rolled(masks, px)[:, 1:, inner])
        return moved

    assert all(float(value) > 100 for value in cycle_scores(separate, layers, masks, dilate_px=4.0).values())


def test_a_cycle_by_parts_of_a_pixel_costs_true_layers_the_interpolation_alone(joints):
    """At 128 px it is 2.5 px, twice: a pixel's half, and a quarter of those above and below it."""
    layers, masks, _ = joints
    away = Shift(dy=2.5), Shift(dy=-2.5)
    true = cycle_scores(lambda image, where: move_bones(layers, *away, masks=masks), layers, masks, dilate_px=4.0)
    assert (true["soft"] == 160).all()
    for i, name in enumerate(LAYERS[1:], start=1):
        error = (layers[:, i] / 2 - (layers[:, i].roll(1, dims=1) + layers[:, i].roll(-1, dims=1)) / 4)[:, 3:-3] ** 2
        inside = masks[:, i, 3:-3]
        expected = -10 * torch.log10((error * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)))
        torch.testing.assert_close(true[name], expected, atol=1e-2, rtol=0)


def test_true_layers_survive_a_cycle_better_than_those_of_the_closed_form():
    joint = next(iter(drawn(1, seed=4, size=256))).render()
    layers, masks, model = joint.layers[None], joint.masks[None], harmonic()
    true = cycle_scores(lambda image, where: rolled(layers, 5), layers, masks, dilate_px=4.0)
    found = cycle_scores(model, model(compose(layers), masks), masks, dilate_px=4.0)
    assert all(float(true[name]) > 60 > float(found[name]) > 20 for name in LAYERS)


def test_layers_that_follow_their_bones_survive_right_or_wrong():
    """Consistent is not right: with two bones of noise that are taken for each other's, nothing is lost."""
    layers, masks = two_bars()
    wrong = torch.cat((layers[:, :1] / 2, layers[:, 1:] ** 2), dim=1)
    found = cycle_scores(lambda image, where: rolled(wrong, 5), wrong, masks, dilate_px=0.0)
    assert min(float(value) for value in found.values()) > 100


def test_separations_that_do_not_know_bones_by_hand():
    """All of it soft tissue, or a third of it each layer's: bones lose what they hold, flesh gains it."""
    layers, masks = two_bars()
    moved = compose(rolled(layers, 5))
    bars = masks[:, 1:] > 0
    both = (bones(masks) + bones(rolled(masks, 5)) > 0)[0, 0]
    flesh = cycle_scores(lambda image, where: image * torch.eye(3)[0][:, None, None], layers, masks, dilate_px=4.0)
    thirds = cycle_scores(lambda image, where: image.expand(-1, 3, -1, -1) / 3, layers, masks, dilate_px=4.0)
    for i, name in enumerate(LAYERS[1:]):
        found = moved.roll(5 * (2 * i - 1), dims=2) / 3
        true, inside = layers[:, [1 + i]], bars[:, [i]]
        assert float(flesh[name]) == pytest.approx(decibels(float(true[inside].square().mean())), abs=1e-3)
        assert float(thirds[name]) == pytest.approx(decibels(float((found - true)[inside].square().mean())), abs=1e-3)
    for found, image in ((flesh, moved), (thirds, moved / 3)):
        error = float((image - layers[:, :1])[0, 0][both].square().mean())
        assert float(found["soft"]) == pytest.approx(decibels(error), abs=1e-3)


@pytest.mark.parametrize(
    ("layer", "row", "outer"),  # of the layer that is found wrong, after the cycle; and whether it counts
    [
        ("soft", 34, False),  # the upper bone was in rows 40 to 119, and went to 35 to 114
        ("soft", 35, True),
        ("soft", 119, True),
        ("soft", 120, False),
        ("soft", 221, True),
        ("soft", 222, False),
        ("lower", 136, False),
        ("lower", 137, True),
        ("lower", 216, True),
        ("lower", 217, False),
        ("upper", 40, True),
        ("upper", 120, False),
    ],
)
def test_bones_are_compared_where_they_were_and_flesh_under_both_places(layer, row, outer):
    layers, masks = two_bars()
    i = LAYERS.index(layer)
    wrong = layers.clone()
    wrong[:, i, row] += 0.1
    found = cycle_scores(lambda image, where: rolled(wrong, 5), layers, masks, dilate_px=4.0)
    rows = 170 if layer == "soft" else 80  # 2 bars of 80, and 5 that each has left
    for name, value in found.items():
        hit = outer and name == layer
        assert float(value) == pytest.approx(decibels(0.01 / rows), abs=1e-3) if hit else value > 100


def test_rows_that_leave_the_frame_are_not_compared_and_those_beside_them_are():
    layers, masks = two_bars()
    masks[:, 1, 137:], masks[:, 2, :120] = 1, 1  # the bars reach the frame's edges
    layers[:, 1:] = torch.rand((2, 256, 256), generator=torch.Generator().manual_seed(1)) * masks[:, 1:]
    for row, seen in ((2, False), (8, True), (247, True), (253, False)):
        wrong = layers.clone()
        wrong[:, 1:, row] += 0.1
        found = cycle_scores(lambda image, where, wrong=wrong: rolled(wrong, 5), layers, masks, dilate_px=4.0)
        assert (min(found["lower"], found["upper"]) < 45) == seen and found["soft"] > 100


def test_a_cycle_tells_layers_that_stay_where_they_were(joints):
    layers, masks, _ = joints
    before = layers.clone(), masks.clone()
    stay = cycle_scores(lambda image, where: layers, layers, masks, dilate_px=0.0)
    none = cycle_scores(lambda image, where: image * torch.eye(3)[0][:, None, None], layers, masks, dilate_px=0.0)
    assert all((none[bone] < stay[bone]).all() and (stay[bone] < 40).all() for bone in LAYERS[1:])
    assert (stay["soft"] == 160).all() and none["soft"].max() < 20
    scores(layers, masks, compose(layers), 0.5)
    assert torch.equal(layers, before[0]) and torch.equal(masks, before[1])


def test_masks_travel_with_the_bones_and_stay_masks(joints):
    layers, masks, _ = joints
    seen = []
    cycle_scores(lambda image, where: seen.append(where) or layers, layers, masks, dilate_px=4.0)
    (where,) = seen
    assert set(where.unique().tolist()) == {0.0, 1.0} and (where[:, :1] >= bones(where)).all()
    for i, sign in ((1, 1), (2, -1)):
        before, after = (
            torch.stack([one.nonzero()[:, 0].float().mean() for one in part[:, i]]) for part in (masks, where)
        )
        assert ((after - before) * sign > 0.3).all()
