"""Losses: tables computed by hand on frames of 4 x 4 pixels."""

import math

import pytest
import torch

from lsn_core.losses import (
    SOFT_TISSUE,
    discrimination,
    harmonic_anchor,
    masked_bce,
    masked_mean,
    masked_rmse,
    reconstruction,
    soft_tissue_bounded,
    soft_tissue_paper,
    supervision,
    tissue_target,
)

LN2 = math.log(2)
EMPTY, FULL = "0000 0000 0000 0000", "1111 1111 1111 1111"
LOWER, UPPER = "0000 0000 1100 1111", "1111 1100 0100 0000"  # 6 and 7 pixels, one of them shared


def plane(rows: str) -> torch.Tensor:
    return torch.tensor([[float(digit) for digit in row] for row in rows.split()])


def masks_of(*joints: tuple[str, str, str]) -> torch.Tensor:
    return torch.stack([torch.stack([plane(rows) for rows in joint]) for joint in joints])


def answer(probability: float, channels: int = 1, items: int = 1) -> torch.Tensor:
    """Logits of one probability everywhere."""
    return torch.full((items, channels, 4, 4), math.log(probability / (1 - probability)), requires_grad=True)


def test_a_masked_mean_averages_pixels_in_each_image_and_then_images():
    values = torch.stack([torch.full((1, 4, 4), 6.0), torch.full((1, 4, 4), 2.0), torch.full((1, 4, 4), 9.0)])
    mask = torch.stack([plane("1000 0000 0000 0000"), plane(FULL), plane(EMPTY)])[:, None]
    assert masked_mean(values, mask) == (6 + 2) / 2  # pooled over pixels it would be 38/17; the third has no pixel
    assert masked_rmse(values, torch.zeros_like(values), mask) == (6 + 2) / 2
    both = torch.cat((values, torch.zeros_like(values)), dim=1)
    assert masked_mean(both, mask) == (3 + 1) / 2  # channels are pixels of the same image


@pytest.mark.parametrize(
    ("mask", "expected"),
    [(FULL, math.sqrt(0.25 * 4 / 16)), ("1100 0000 0000 0000", 0.5), ("0011 0000 0000 0000", 0.0), (EMPTY, 0.0)],
)
def test_masked_rmse_by_hand(mask, expected):
    predicted, target = 0.5 * plane("1111 0000 0000 0000"), plane("0011 0000 0000 0000") * 0.5
    predicted = predicted + 0.5 * plane("0000 0000 0000 0011")
    found = masked_rmse(predicted[None, None], target[None, None], plane(mask)[None, None])
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("probability", "target", "expected"),
    [(0.5, FULL, LN2), (0.5, EMPTY, LN2), (0.9, FULL, -math.log(0.9)), (0.9, EMPTY, -math.log(0.1))],
)
def test_masked_bce_by_hand(probability, target, expected):
    mask = plane("0000 0110 0000 0000")[None, None]
    assert masked_bce(answer(probability), plane(target)[None, None], mask).item() == pytest.approx(expected, rel=1e-5)
    half = plane("0000 0100 0000 0000")[None, None]
    mixed = -(math.log(probability) + math.log(1 - probability)) / 2
    assert masked_bce(answer(probability), half, mask).item() == pytest.approx(mixed, rel=1e-5)


def test_reconstruction_counts_the_overlap_once_more():
    masks = masks_of((FULL, LOWER, UPPER))
    image = torch.full((1, 1, 4, 4), 0.5)
    overlap_off, elsewhere_off = image.clone(), image.clone()
    overlap_off[0, 0, 2, 1] += 0.4
    elsewhere_off[0, 0, 0, 0] += 0.4
    assert reconstruction(image, image, masks).item() == pytest.approx(0, abs=3e-6)
    assert reconstruction(overlap_off, image, masks).item() == pytest.approx(0.4 / 4 + 0.4, rel=1e-4)
    assert reconstruction(elsewhere_off, image, masks).item() == pytest.approx(0.4 / 4, rel=1e-4)
    outside = masks_of(("0111 1111 1111 1111", LOWER, "0111 1100 0100 0000"))
    assert reconstruction(elsewhere_off, image, outside).item() == pytest.approx(0, abs=3e-6)


def test_each_image_weighs_the_same_whatever_its_overlap():
    masks = masks_of((FULL, LOWER, UPPER), (FULL, "0000 0000 1111 1111", "1111 1111 1111 0000"), (FULL, LOWER, EMPTY))
    image = torch.zeros(3, 1, 4, 4)
    composed = torch.tensor([0.1, 0.3, 0.8])[:, None, None, None].expand_as(image)
    found = reconstruction(composed, image, masks).item()
    assert found == pytest.approx((0.1 + 0.3 + 0.8) / 3 + (0.1 + 0.3) / 2, rel=1e-5)


def test_the_tissues_are_flesh_and_each_bone_without_the_overlap():
    target = tissue_target(masks_of(("0111 1111 1111 1111", LOWER, UPPER)))[0]
    assert torch.equal(target[0], plane("0000 0011 0011 0000"))
    assert torch.equal(target[1], plane("0000 0000 1000 1111"))
    assert torch.equal(target[2], plane("1111 1100 0000 0000"))


def test_supervision_is_the_cross_entropy_over_three_channels_inside_the_hand():
    masks = masks_of((FULL, LOWER, UPPER))
    assert supervision(answer(0.5, 3), masks).item() == pytest.approx(LN2, rel=1e-5)
    ones = 4 + 5 + 6  # of 48: flesh, lower and upper bone
    expected = -(ones * math.log(0.8) + (48 - ones) * math.log(0.2)) / 48
    assert supervision(answer(0.8, 3), masks).item() == pytest.approx(expected, rel=1e-5)
    right = (2 * tissue_target(masks) - 1) * 30
    assert supervision(right, masks).item() < 1e-6
    right[..., 1, 3] = -30.0  # wrong, where the hand is not
    masks[:, 0, 1, 3] = 0
    assert supervision(right, masks).item() < 1e-6


def test_discrimination_looks_for_the_union_of_the_bones_and_the_paper_term_is_one_less_it():
    masks = masks_of((FULL, LOWER, UPPER))
    expected = -(12 * math.log(0.8) + 4 * math.log(0.2)) / 16
    assert discrimination(answer(0.8), masks).item() == pytest.approx(expected, rel=1e-5)
    assert soft_tissue_paper(answer(0.8), masks).item() == pytest.approx(1 - expected, rel=1e-5)


def test_the_paper_term_has_no_lower_bound_and_the_bounded_one_is_zero_only_at_the_share_of_bone():
    masks = masks_of((FULL, LOWER, UPPER))  # 12 of 16 pixels are bone
    wrong = [(1 - 2 * masks[:, 1:].amax(dim=1, keepdim=True)) * size for size in (1.0, 10.0, 100.0)]
    paper = [soft_tissue_paper(logits, masks).item() for logits in wrong]
    assert paper[0] > paper[1] > paper[2] and paper[2] == pytest.approx(1 - 100, rel=1e-5)
    bounded = [soft_tissue_bounded(logits, masks).item() for logits in wrong]
    assert 0 < bounded[0] < bounded[1] < bounded[2]
    blind = answer(0.75)
    soft_tissue_bounded(blind, masks).backward()
    assert soft_tissue_bounded(blind, masks).item() == pytest.approx(0, abs=1e-6)
    assert blind.grad.abs().max() < 1e-7
    for probability in (0.3, 0.7, 0.8, 0.99):  # the divergence of Bernoulli variables
        expected = 0.75 * math.log(0.75 / probability) + 0.25 * math.log(0.25 / (1 - probability))
        assert (
            soft_tissue_bounded(answer(probability), masks).item() == pytest.approx(expected, rel=1e-3) and expected > 0
        )


def test_the_bounded_term_takes_each_images_own_share_of_bone():
    masks = masks_of((FULL, LOWER, UPPER), (FULL, "1000 0000 0000 0000", "0000 0000 0000 0100"))
    own = torch.cat((answer(12 / 16), answer(2 / 16)))
    assert soft_tissue_bounded(own, masks).item() == pytest.approx(0, abs=1e-6)
    assert soft_tissue_bounded(own.flip(0), masks).item() > 0.5


def test_the_anchor_compares_smoothed_levels_under_the_bones_only():
    masks = masks_of((FULL, LOWER, UPPER))
    fill = torch.full((1, 1, 4, 4), 0.3)
    assert harmonic_anchor(fill, fill, masks).item() <= 1e-6
    assert harmonic_anchor(fill + 0.2, fill, masks).item() == pytest.approx(0.2, rel=1e-5)
    assert harmonic_anchor(fill - 0.2, fill, masks, smoothing=1).item() == pytest.approx(0.2, rel=1e-5)
    beside = fill + 0.2 * tissue_target(masks)[:, :1]
    assert harmonic_anchor(beside, fill, masks, smoothing=1).item() <= 1e-6
    one = fill.clone()
    one[0, 0, 0, 0] += 0.6  # in the corner 4 pixels share it, at its sides 6, across 9: all under bone
    squares = (0.6 / 4) ** 2 + 2 * (0.6 / 6) ** 2 + (0.6 / 9) ** 2
    assert harmonic_anchor(one, fill, masks, smoothing=3).item() == pytest.approx(math.sqrt(squares / 12), rel=1e-4)


GREY = torch.full((2, 1, 4, 4), 0.5)
LOSSES = {
    "supervision": (3, supervision),
    "discrimination": (1, discrimination),
    "paper": (1, SOFT_TISSUE["paper"]),
    "bounded": (1, SOFT_TISSUE["bounded"]),
    "reconstruction": (1, lambda logits, masks: reconstruction(torch.sigmoid(logits), GREY, masks)),
    "anchor": (1, lambda logits, masks: harmonic_anchor(torch.sigmoid(logits), GREY, masks)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "joint", [(FULL, LOWER, "1111 0000 0000 0000"), (FULL, EMPTY, EMPTY), (EMPTY, EMPTY, EMPTY), (FULL, FULL, FULL)]
)
def test_without_overlap_bones_or_hand_every_loss_and_its_slope_stay_finite(name, joint):
    channels, loss = LOSSES[name]
    logits = answer(0.5, channels, items=2)  # for the reconstruction and the anchor: an error of exactly zero
    value = loss(logits, masks_of(joint, joint))
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()
