"""Losses: tables computed by hand on frames of 4 x 4 pixels."""

import math

import pytest
import torch

from lsn_core.losses import (
    SOFT_TISSUE,
    bone_reconstruction,
    bone_share,
    discrimination,
    generator_loss,
    harmonic_anchor,
    layer_error,
    masked_bce,
    masked_mean,
    masked_rmse,
    reconstruction,
    soft_tissue_bounded,
    soft_tissue_paper,
    supervision,
    tissue_target,
)
from lsn_core.radiograph import bones_alone
from lsn_core.stage import CODE, PAPER, Weights

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


def test_bones_alone_by_hand():
    """0.5 of bone over 0.4 of flesh is 1 - 0.5 x 0.6 = 0.7; of the other bone nothing is seen."""
    layers = torch.tensor([0.4, 0.5, 0.25])[None, :, None, None].expand(1, 3, 4, 4)
    assert torch.allclose(bones_alone(layers)[0, :, 0, 0], torch.tensor([0.7, 0.55]))


@pytest.mark.parametrize("in_overlap", [0.0, 0.2, 1.0])
def test_l3_by_hand(in_overlap):
    """Lower bone: off by 0.1 on all its 6 px. Upper: off by 0.3 on the 1 px of 7 that both share."""
    masks = masks_of((FULL, LOWER, UPPER))
    layers = torch.cat((torch.zeros(1, 1, 4, 4), 0.5 * masks[:, 1:]), dim=1)
    alone = bones_alone(layers) - torch.cat((0.1 * masks[:, 1:2], 0.3 * masks[:, 1:2] * masks[:, 2:3]), dim=1)
    expected = (0.1 + in_overlap * 0.1 + math.sqrt(0.09 / 7) + in_overlap * 0.3) / 2
    assert bone_reconstruction(layers, alone, masks, in_overlap=in_overlap).item() == pytest.approx(expected, rel=1e-4)
    unknown = masks_of((FULL, LOWER, UPPER), (EMPTY, EMPTY, EMPTY))  # the second image is not known: it does not count
    twice = [torch.cat((part, torch.rand_like(part))) for part in (layers, alone)]
    assert bone_reconstruction(*twice, unknown, in_overlap=in_overlap).item() == pytest.approx(expected, rel=1e-4)


def test_the_error_of_layers_by_hand():
    """Off by 0.3 in one of three layers under the 12 px of bone, by anything beside them."""
    masks = masks_of((FULL, LOWER, UPPER))
    truth = torch.full((1, 3, 4, 4), 0.5)
    layers = truth + 0.3 * torch.tensor([1.0, 0, 0])[None, :, None, None] + 0.1 * tissue_target(masks)[:, :1]
    assert layer_error(layers, truth, masks).item() == pytest.approx(0.1, rel=1e-5)


def test_the_overlap_of_l0_is_weighted():
    masks = masks_of((FULL, LOWER, UPPER))
    image = 0.5 * masks[:, :1]
    off = image + 0.3 * masks[:, 1:2] * masks[:, 2:3]  # one px of 16
    for weight in (0.0, 0.2, 1.0):
        found = reconstruction(off, image, masks, in_overlap=weight).item()
        assert found == pytest.approx(0.3 / 4 + weight * 0.3, rel=1e-4)


def test_the_sum_of_eq_11():
    terms = {name: torch.tensor(value) for name, value in (("reconstruction", 2.0), ("softness", 3.0), ("bones", 5.0))}
    weights = Weights(reconstruction=0.5, supervision=7.0, softness=0.2, bones=0.1)
    assert generator_loss(terms, weights).item() == pytest.approx(1.0 + 0.6 + 0.5)


def test_the_weights_are_the_paper_s_and_its_code_s():
    (first, second), (coded, later) = PAPER, CODE
    assert (first.epochs, first.switch, second.epochs) == (300, 200, 100) and first.before.softness == 0
    assert first.after == Weights(reconstruction=0.5, supervision=0.2, softness=0.2, bones=0.1, overlap=1.0)
    assert second.after == Weights(reconstruction=0.6, supervision=0.3, softness=0.1, overlap=1.0)
    assert coded.after == Weights(reconstruction=0.5, supervision=0.2, softness=0.1, bones=0.2, overlap=0.2)
    assert later.after == Weights(reconstruction=0.6, supervision=0.3, softness=0.1, overlap=0.2)
    assert (first.joints, coded.joints, second.joints, later.joints) == ("apart", "apart", "all", "all")


def test_chance_is_where_n_d_answers_the_share_of_bone():
    """12 of 16 px are bone. The paper's L2 is 1 - H(3/4) there, the bounded one 0."""
    masks = masks_of((FULL, LOWER, UPPER))
    assert bone_share(masks).item() == 0.75
    logits = torch.logit(bone_share(masks)).expand(1, 1, 4, 4)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert soft_tissue_paper(logits, masks).item() == pytest.approx(1 - entropy, rel=1e-5)
    assert soft_tissue_bounded(logits, masks).item() == pytest.approx(0.0, abs=1e-6)


GREY = torch.full((2, 1, 4, 4), 0.5)
LOSSES = {
    "bones": (3, lambda logits, masks: bone_reconstruction(torch.sigmoid(logits), torch.sigmoid(logits)[:, 1:], masks)),
    "truth": (3, lambda logits, masks: layer_error(torch.sigmoid(logits), torch.sigmoid(logits).detach(), masks)),
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
