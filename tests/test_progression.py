"""Progression: the protocol worked by hand, and laws of registrations that are right, unsteady or lost."""

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsn_core.downstream import narrowing_scores
from lsn_core.progression import (
    Pair,
    all_pairs,
    error_scores,
    kept,
    mean_of_known,
    measured,
    phase_sigma,
    phase_sigmas,
    repeated,
    rows_as_pairs,
    unperturbed,
)
from lsn_core.registration import Transforms, warped
from lsn_core.shapes import Bones, Image

NAN = float("nan")
SIZE = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(x: float, y: float) -> torch.Tensor:
    """A bright spot, (h, w)."""
    along = torch.arange(float(SIZE))
    return torch.exp(-((along[None] - x) ** 2 + (along[:, None] - y) ** 2) / 18)


def two_spots(*, lower: tuple[float, float] = (30, 44), upper: tuple[float, float] = (34, 18)) -> Image:
    return (blob(*lower) + blob(*upper))[None, None]


def masks_of(image: Image) -> Bones:
    """The half of a spot's height, split in the middle of the frame."""
    rows, bright = torch.arange(SIZE)[:, None], image > 0.5
    return torch.cat((bright & (rows > SIZE / 2), bright & (rows <= SIZE / 2)), dim=1).float()


def place(mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """(x, y) of the centre of what is bright under a mask."""
    weight = mask * image
    rows, columns = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    return torch.stack(((weight * columns).sum(), (weight * rows).sum())) / weight.sum()


def by_centroid(moving: Image, fixed: Image, bones: Bones) -> Transforms:
    """Registers bright spots by where they are; moves them, never turns them."""
    found = torch.tensor([1.0, 0, 0, 0]).repeat(len(moving), 2, 1)
    for item, (start, end, masks) in enumerate(zip(moving, fixed, bones, strict=True)):
        half = masks_of(start[None])[0]
        for bone in range(2):
            found[item, bone, 2:] = place(masks[bone], end[0]) - place(half[bone], start[0])
    return found


def test_pairs_of_radiographs():
    assert all_pairs(["a", "b", "a", "c", "a"]) == [(0, 2), (0, 4), (2, 0), (2, 4), (4, 0), (4, 2)]
    assert all_pairs(["a", "b"]) == all_pairs([]) == []
    names = [f"joint {k % 5}" for k in range(20)]
    found = all_pairs(names)
    assert len(found) == len(set(found)) == 5 * 4 * 3 and all(names[i] == names[j] and i != j for i, j in found)


def test_a_registration_that_is_right_is_right_however_the_images_are_moved():
    """The upper spot comes down by 3 px and the lower by 1: narrower by 2 px of 0.25 mm, with no spread and no error.

    The second pair is the first one the other way round.
    """
    first, second = two_spots(), two_spots(lower=(31, 45), upper=(33, 21))
    moving, fixed = torch.cat((first, second)), torch.cat((second, first))
    narrowing, errors = repeated(
        by_centroid, moving, fixed, masks_of(fixed), spacing_mm=0.25, random=generator(), reach_px=8
    )
    assert narrowing.shape == errors.shape == (2, 10)
    np.testing.assert_allclose(narrowing[0], 0.5, atol=0.005)
    np.testing.assert_allclose(narrowing[1], -0.5, atol=0.005)
    assert errors.max() < 1e-5


def test_perturbations_are_whole_pixels_within_reach_and_the_masks_go_with_the_fixed_image():
    """The plain prediction comes first; at 64 px a reach of 3 at 256 would be 0.75 px, and is 1."""
    image, asked = two_spots(), []

    def register(moving: Image, fixed: Image, bones: Bones) -> Transforms:
        assert torch.equal(bones, masks_of(fixed))
        asked.append(torch.stack([place(masks_of(shown)[0, 0], shown[0, 0]) for shown in (moving, fixed)]))
        return torch.tensor([1.0, 0, 0, 0]).repeat(1, 2, 1)

    repeated(register, image, image, masks_of(image), spacing_mm=1.0, random=generator(), repeats=40)
    steps = torch.stack(asked) - asked[0]
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    assert torch.equal(asked[0][0], asked[0][1]) and steps.round().unique().tolist() == [-1, 0, 1]
    assert not torch.equal(steps[:, 0].round(), steps[:, 1].round())


def test_the_generator_decides_and_repeats_are_as_many_as_asked_for():
    image, other = two_spots(), two_spots(upper=(33, 21.3))
    pair = (by_centroid, image, other, masks_of(other))
    first, again, short = (
        repeated(*pair, spacing_mm=0.1, random=generator(seed), repeats=repeats)[0]
        for seed, repeats in ((1, 3), (1, 3), (2, 0))
    )
    np.testing.assert_array_equal(first, again)
    assert short.shape == (1, 1) and short[0, 0] == first[0, 0]


@given(st.integers(0, 2**31))
def test_what_a_perturbation_did_is_undone(seed):
    """A spot moved and then sent through the perturbed transform lands where the true transform's spot is moved to."""
    dice = torch.Generator().manual_seed(seed)
    moved, placed = torch.randint(-3, 4, (2, 2, 1), generator=dice).float()
    draws = torch.rand((1, 2, 4), generator=dice) - 0.5
    perturbed = torch.tensor([1.0, 0, 0, 0]) + draws * torch.tensor([0.2, 60, 8, 8])
    plain = unperturbed(perturbed, moved, placed)
    (ax, ay), (bx, by) = moved[:, 0].tolist(), placed[:, 0].tolist()
    for bone in range(2):
        there = warped(blob(33 + ax, 30 + ay)[None, None], perturbed)[0, bone]
        here = warped(blob(33, 30)[None, None], plain)[0, bone]
        difference = place(torch.ones(SIZE, SIZE), there) - place(torch.ones(SIZE, SIZE), here)
        torch.testing.assert_close(difference, torch.tensor([bx, by]), atol=0.02, rtol=0)


def test_dropping_by_hand():
    """Of the first 2.0 is dropped, and 0.1 ± 0.08 stay. Of the second 9.0 goes, and three are too few: a mismatch."""
    assert kept(np.array([0.0, 0.1, 0.1, 0.2, 0.1, 2.0])).tolist() == [True] * 5 + [False]
    assert kept(np.array([0.0, 0.5, 0.5, 9.0])).tolist() == [False] * 4
    assert kept(np.array([0.0, 0.1, 0.2, 0.1])).all()
    assert kept(np.array([0.0, 0.1, NAN, 0.2, math.inf, 0.1])).tolist() == [True, True, False, True, False, True]
    assert kept(np.array([0.0, 0.0, 5.0]), least=2).tolist() == [True, True, False]
    assert not kept(np.full(10, NAN)).any()


def test_the_limit_itself_is_too_much():
    """0, 0, 3, 3 vary by sqrt(3)."""
    values = np.array([0.0, 0.0, 3.0, 3.0])
    assert kept(values, limit_mm=1.7321).all() and not kept(values, limit_mm=math.sqrt(3) - 1e-9).any()


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=10), st.floats(-1, 1))
def test_what_is_kept_agrees_and_lies_together(values, offset):
    row = np.array(values)
    mask = kept(row)
    if not mask.any():
        return
    chosen = row[mask]
    assert mask.sum() >= 4 and statistics.stdev(chosen) < 0.3
    between = (row > chosen.min()) & (row < chosen.max())
    assert mask[between].all()
    np.testing.assert_array_equal(kept(chosen), True)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    assert mask.all() or spread >= 0.3 - 1e-9


def test_measured_by_hand():
    """Kept are 0.1, 0.2, 0.3 and 0.2: mean 0.2, SD sqrt(0.02 / 3). The second pair is a mismatch."""
    narrowing, spread = measured(np.array([[0.1, 0.2, 0.3, 0.2, 3.0], [0.0, 1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_allclose(narrowing, [0.2, NAN])
    np.testing.assert_allclose(spread, [math.sqrt(0.02 / 3), NAN])


@given(st.lists(st.floats(-2, 2), min_size=3, max_size=5))
def test_narrowings_that_add_up_have_no_phase_sigma(widths):
    narrowing = {(i, j): widths[i] - widths[j] for i, j in all_pairs(["joint"] * len(widths))}
    assert phase_sigma(narrowing) == pytest.approx(0, abs=1e-9)


def test_phase_sigma_by_hand():
    """Widths are the same at three visits, but (0, 1) is read as 0.6: it and the sums that it enters are wrong.

    Two ways a and b vary by |a - b| / sqrt(2). (0, 1): 0.6 and 0; (0, 2): 0 and 0.6 + 0; (2, 1): 0 and 0 + 0.6; the
    three others agree.
    """
    narrowing = dict.fromkeys(all_pairs(["joint"] * 3), 0.0) | {(0, 1): 0.6}
    assert phase_sigma(narrowing) == pytest.approx(3 * 0.6 / math.sqrt(2) / 6)
    assert math.isnan(phase_sigma({(0, 1): 0.4, (1, 0): 0.1})) and math.isnan(phase_sigma({}))


def test_phase_sigma_of_four_visits_as_the_standard_library_has_it():
    dice = np.random.default_rng(0)
    found = {pair: float(dice.normal()) for pair in all_pairs(["joint"] * 4)}
    spreads = []
    for i, j in found:
        k, m = {0, 1, 2, 3} - {i, j}
        spreads.append(statistics.stdev([found[i, j], found[i, k] + found[k, j], found[i, m] + found[m, j]]))
    assert phase_sigma(found) == pytest.approx(statistics.mean(spreads))


def test_a_mismatch_is_left_out_of_phase_sigma():
    """Of three visits, without (0, 1): (0, 1), (0, 2) and (2, 1) have one way each, (1, 0) has 0 and 0.2 + 0.1."""
    narrowing = {(0, 1): NAN, (0, 2): 0.3, (1, 0): 0.0, (1, 2): 0.2, (2, 0): 0.1, (2, 1): 0.0}
    ways = [(0.0, 0.3), (0.2, 0.0 + 0.3), (0.1, 0.0 + 0.0)]
    expected = statistics.mean(statistics.stdev(pair) for pair in ways)
    assert phase_sigma(narrowing) == pytest.approx(expected)
    del narrowing[0, 1]
    assert phase_sigma(narrowing) == pytest.approx(expected)


def test_scores_by_hand():
    """Joint a has three visits and one wrong pair, joint b a mismatch and two visits: no phase sigma of its own."""
    pairs = [Pair("a", i, j) for i, j in all_pairs("aaa")] + [Pair("b", 0, 1), Pair("b", 1, 0)]
    answers = np.zeros((8, 4))
    answers[0] = [0.5, 0.7, 0.5, 0.7]  # 0.6 with an SD of sqrt(0.04 / 3)
    answers[7] = [0, 9, 0, 9]
    errors = np.arange(32.0).reshape(8, 4)
    narrowing, spreads = measured(answers)
    names = [{"joint": p.joint, "name": f"{p.joint}{p.first}", "fixed": f"{p.joint}{p.second}"} for p in pairs]
    numbers = zip(narrowing, spreads, errors.mean(axis=1), strict=True)
    rows = [
        known | {"true": 0.1, "found": n, "sd": sd, "error": e}
        for known, (n, sd, e) in zip(names, numbers, strict=True)
    ]
    assert rows_as_pairs(rows) == pairs
    found = narrowing_scores(rows)
    assert {name: found[name] for name in found if name not in ("mae_both_ways_mm", "r", "rank_r")} == pytest.approx(
        {
            "mse": 15.5,
            "sigma_mm": math.sqrt(0.04 / 3) / 7,
            "phase_sigma_mm": 3 * 0.6 / math.sqrt(2) / 6,
            "mismatch": 1 / 8,
            "bias_mm": (0.5 - 6 * 0.1) / 7,
            "mae_mm": (0.5 + 6 * 0.1) / 7,
            "rmse_mm": math.sqrt((0.25 + 6 * 0.01) / 7),
        }
    )
    by_joint = phase_sigmas(pairs, narrowing)
    assert by_joint.keys() == {"a", "b"} and math.isnan(by_joint["b"])


def test_of_nothing_nothing_is_known():
    assert mean_of_known(np.array([NAN, 1.0, 2.0])) == 1.5 and math.isnan(error_scores(np.array([NAN]))["rmse_mm"])


def test_in_millimetres_the_limit_can_be_passed():
    """What the published code compared with 0.3 was 70 times smaller than mm, so that no pair could ever fail."""
    scattered = np.linspace(-3, 3, 10)[None]
    assert np.isnan(measured(scattered)[0][0]) and not np.isnan(measured(scattered / 70)[0][0])
