"""The downstream tasks: points as judges of jitter and motions, scipy of warps, numbers by hand of losses."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from test_cohort import SIZE, gathered
from torch import nn

from lsn_core.jsw import SVDH_MM, svdh_like
from lsn_core.masks import at_256
from lsn_core.pool import Examples, radiographs, synthetic
from lsn_core.predictors import NETWORKS, Predictor
from lsn_core.registration import between, image_errors, unlikeness
from lsn_core.sampling import Plan
from lsn_core.tasks import (
    ASIDE_PX,
    CENTRE_MM,
    CURVE,
    DEGREES,
    SCALE,
    SPREAD_MM,
    STEP_PX,
    TASKS,
    TURN,
    class_loss,
    classes,
    draw_jitter,
    draw_mirror,
    exposed,
    jittered,
    motion_through,
    pair_loss,
    prepared,
    register,
    through,
    transforms_of,
    unit_errors,
    width_loss,
    width_of,
)

STRENGTHS = st.floats(0.1, 1)
SEEDS = st.integers(0, 1000)
INDEX = torch.tensor([0, 5, 10, 17])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Saying(Predictor):
    """A network that says what it is told to, whatever its parameters."""

    def __init__(self, say: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__(nn.Identity(), 1, 1)
        self.say = say

    def forward(self, image: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        return self.say(image, regions)


def constant(*numbers: float) -> Saying:
    """Says the same of each region."""
    return Saying(
        lambda image, regions: torch.tensor(numbers, dtype=torch.float32).expand(len(image), regions.shape[1], -1)
    )


def grid(size: int) -> torch.Tensor:
    """(size * size, 3): all pixels as (x, y, 1)."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    return torch.stack((x, y, torch.ones_like(x)), dim=-1).view(-1, 3)


def spot(x: float, y: float, *, size: int = SIZE) -> torch.Tensor:
    """(1, 1, size, size): a smooth spot."""
    at = grid(size)
    return torch.exp(-((at[:, 0] - x) ** 2 + (at[:, 1] - y) ** 2) / 8).view(1, 1, size, size)


def still(count: int) -> torch.Tensor:
    """Motions of what did not move."""
    return torch.eye(2, 3).expand(count, 2, 2, 3)


# --- jitter ----------------------------------------------------------------------------------------------------------


def test_no_strength_is_the_identity():
    image = prepared(gathered().image[:4])
    random = generator()
    assert torch.equal(draw_mirror(100, 0.0, random), torch.ones(100))
    still_there = draw_jitter(torch.ones(4), 0.0, random)
    torch.testing.assert_close(still_there, torch.eye(2, 3).expand(4, 2, 3))
    torch.testing.assert_close(exposed(image, 0.0, random), image)
    torch.testing.assert_close(jittered(image, 0.0, random), image, atol=1e-5, rtol=0)


@given(STRENGTHS, SEEDS)
def test_the_same_generator_draws_the_same(strength, seed):
    image = prepared(gathered().image[:4])
    one, again, other = (jittered(image, strength, generator(k)) for k in (seed, seed, seed + 1))
    assert torch.equal(one, again) and not torch.allclose(one, other, atol=1e-3)
    assert not torch.allclose(one, image, atol=1e-3)


@given(STRENGTHS, SEEDS)
def test_jitter_turns_and_moves_within_its_reach_and_never_scales(strength, seed):
    mirror = draw_mirror(200, strength, generator(seed))
    found = draw_jitter(mirror, strength, generator(seed))
    turn = found[..., :2]
    torch.testing.assert_close(turn @ turn.mT, torch.eye(2).expand(200, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), mirror)
    angle = torch.rad2deg(torch.atan2(-turn[:, 0, 1], turn[:, 1, 1]))
    reach = {"angle": (angle, TURN), "step": (found[..., 2] * 128, ASIDE_PX)}  # 2 of its units are 256 px
    for values, most in reach.values():
        assert 0.8 * strength * most < values.abs().max() <= strength * most + 1e-3
    assert abs((mirror < 0).float().mean().item() - strength / 2) < 0.15


def test_a_mirror_alone_flips():
    image = prepared(gathered().image[:2])
    jitter = torch.tensor([[-1.0, 0, 0], [0, 1, 0]]).expand(2, 2, 3)
    torch.testing.assert_close(through(image, jitter), image.flip(-1), atol=1e-5, rtol=0)


@given(SEEDS)
def test_scipy_jitters_alike(seed):
    """A smooth image through `affine_transform`, whose matrix takes rows first."""
    image = ndimage.gaussian_filter(np.random.default_rng(seed).random((33, 33)), 2)
    jitter = draw_jitter(draw_mirror(1, 1.0, generator(seed)), 1.0, generator(seed))
    matrix = jitter[0, :, :2].double().numpy()
    start = 16 + 33 / 2 * jitter[0, :, 2].double().numpy() - matrix @ (16, 16)
    expected = ndimage.affine_transform(image, matrix[::-1, ::-1], start[::-1], order=1, mode="nearest")
    found = through(torch.from_numpy(image)[None, None], jitter.double())[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(STRENGTHS, SEEDS)
def test_a_motion_through_a_jitter_takes_points_where_the_image_shows_them(strength, seed):
    """A spot at (30, 28), which a motion brought there from (20, 40)."""
    jitter = draw_jitter(draw_mirror(1, strength, generator(seed)), strength, generator(seed))
    motion = torch.tensor([[[1.0, 0, 10], [0, 1, -12]], [[0.0, 1, -10], [-1, 0, 48]]])[None]  # one slides, one turns
    row, column = ndimage.center_of_mass(through(spot(30, 28), jitter)[0, 0].numpy())
    found = motion_through(motion, jitter, SIZE)[0] @ torch.tensor([20.0, 40, 1])
    np.testing.assert_allclose(found, [(column, row), (column, row)], atol=0.05)


@given(SEEDS, st.sampled_from([32, 33]))
def test_a_motion_through_a_jitter_is_the_inverse_of_where_pixels_come_from(seed, size):
    jitter = draw_jitter(draw_mirror(3, 1.0, generator(seed)), 1.0, generator(seed))
    unit = F.affine_grid(jitter, [3, 1, size, size], align_corners=False).view(3, -1, 2)
    source = torch.cat((((unit + 1) * size - 1) / 2, torch.ones(3, size * size, 1)), dim=-1)
    found = source @ motion_through(still(3), jitter, size)[:, 0].mT
    torch.testing.assert_close(found, grid(size)[:, :2].expand(3, -1, -1), atol=1e-3, rtol=0)


@given(SEEDS)
def test_what_lies_between_two_jitters_of_one_mirror_is_a_rigid_motion(seed):
    mirror = draw_mirror(4, 1.0, generator(seed))
    jitters = [draw_jitter(mirror, 1.0, generator(seed + k)) for k in (1, 2)]
    image = spot(31, 33).expand(4, -1, -1, -1)
    moving, fixed = (through(image, jitter) for jitter in jitters)
    found = between(*(motion_through(still(4), jitter, SIZE) for jitter in jitters), SIZE)
    masks = torch.ones(4, 2, SIZE, SIZE)
    assert image_errors(moving, fixed, masks, found).max() < 1e-4
    assert found[..., 1].abs().max() <= 2 * TURN + 1e-2


@given(STRENGTHS, SEEDS)
def test_another_exposure_is_a_curve_of_its_own_for_each_image(strength, seed):
    image = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(50, -1, -1, -1)
    found = exposed(image, strength, generator(seed))
    assert (found.flatten(1).diff(dim=1) >= 0).all() and found.min() == 0 and found.max() == 1
    curve = found[:, 0, 4, 0].log() / image[:, 0, 4, 0].log()
    most = math.exp(strength * CURVE)
    assert 1 / most - 1e-4 <= curve.min() < 1 < curve.max() <= most + 1e-4 and curve.unique().numel() > 40
    torch.testing.assert_close(found, image ** curve[:, None, None, None], atol=1e-5, rtol=0)


# --- widths and classes ----------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.floats(-2, 4, width=32), st.sampled_from(SVDH_MM)), min_size=1, max_size=20))
def test_classes_are_those_of_one_width(widths):
    assert classes(torch.tensor(widths)).tolist() == [svdh_like(width) for width in widths]


def test_widths_of_numbers():
    found = width_of(torch.tensor([[0.0], [1.0], [-2.0]]))
    torch.testing.assert_close(found, torch.tensor([CENTRE_MM, CENTRE_MM + SPREAD_MM, CENTRE_MM - 2 * SPREAD_MM]))
    assert NETWORKS["compact"](1, 1)(torch.rand(1, 1, 64, 64), torch.ones(1, 1, 64, 64)).item() == 0  # CENTRE at first


@pytest.mark.parametrize("number", [0.0, 1.5])
def test_the_loss_of_a_width_by_hand(number):
    pool = radiographs(gathered(), INDEX)
    place = torch.tensor([2, 0, 2])
    found = width_loss(constant(number), pool, place, 1.0, generator())
    errors = CENTRE_MM + SPREAD_MM * number - pool.jsw_mm[place].double().numpy()
    assert found.item() == pytest.approx(np.mean((errors / SPREAD_MM) ** 2), rel=1e-5)


def test_the_loss_of_a_class_by_hand():
    """Of the smoothed label's 0.1, each of five classes has 0.02."""
    pool = radiographs(gathered(), INDEX)
    place = torch.arange(4)
    assert class_loss(constant(*5 * [0.0]), pool, place, 1.0, generator()).item() == pytest.approx(math.log(5))
    logits = (0.5, -1.0, 2.0, 0.0, 1.0)
    logs = np.log(np.exp(logits) / np.exp(logits).sum())
    expected = -np.mean([0.9 * logs[svdh_like(width)] + 0.02 * logs.sum() for width in pool.jsw_mm.tolist()])
    assert class_loss(constant(*logits), pool, place, 0.5, generator()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [width_loss, class_loss])
def test_what_is_shown_is_jittered_and_labelled_alike(loss):
    seen = []
    outputs = TASKS["svdh" if loss is class_loss else "jsw"].outputs

    def say(image: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        seen.append(image)
        return torch.zeros(len(image), 1, outputs)

    pool = radiographs(gathered(), INDEX)
    losses = [loss(Saying(say), pool, torch.tensor([1, 3]), strength, generator()).item() for strength in (0.0, 1.0)]
    torch.testing.assert_close(seen[0], prepared(pool.image[[1, 3]]), atol=1e-5, rtol=0)
    assert (seen[1] - seen[0]).abs().mean() > 0.01 and losses[0] == pytest.approx(losses[1])


# --- registration ----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-50, 50), min_size=8, max_size=8), st.sampled_from([64, 128, 256]))
def test_transforms_stay_within_their_bounds(numbers, size):
    found = transforms_of(torch.tensor(numbers).view(1, 2, 4), size)
    assert ((found[..., 0] - 1).abs() <= SCALE + 1e-6).all() and (found[..., 1].abs() <= DEGREES + 1e-4).all()
    steps = at_256(STEP_PX, size) * torch.tensor(numbers).view(1, 2, 4)[..., 2:]
    torch.testing.assert_close(found[..., 2:], steps)


def test_no_numbers_are_no_transform_and_small_ones_are_in_units():
    torch.testing.assert_close(transforms_of(torch.zeros(1, 2, 4), 128), torch.tensor([1.0, 0, 0, 0]).expand(1, 2, 4))
    small = transforms_of(torch.full((1, 2, 4), 0.01), 128)
    expected = torch.tensor([1 + 0.01 * SCALE, 0.01 * DEGREES, 0.08, 0.08]).expand(1, 2, 4)
    torch.testing.assert_close(small, expected, atol=1e-5, rtol=1e-4)


def test_unit_errors_by_hand():
    """At 128 px a unit is 8 px: 0.05 of scale, 3 degrees, 4 px and 2 px are 0.5, 0.2, 0.5 and 0.25 of their units."""
    true = torch.tensor([[[1.0, 0, 0, 0], [1, 0, 0, 0]]])
    found = torch.tensor([[[1.05, 3, -4, 2], [1, 0, 0, 0]]])
    assert unit_errors(found, true, 128).item() == pytest.approx((0.25 + 0.04 + 0.25 + 0.0625) / 8, rel=1e-4)


def numbers_of(transforms: torch.Tensor, size: int) -> torch.Tensor:
    """The inverse of `transforms_of`."""
    scale, degrees, dx, dy = transforms.unbind(dim=-1)
    step = at_256(STEP_PX, size)
    return torch.stack((((scale - 1) / SCALE).atanh(), (degrees / DEGREES).atanh(), dx / step, dy / step), dim=-1)


def answer(pool: Examples, pairs: torch.Tensor, strength: float, seed: int) -> torch.Tensor:
    """The true transforms of pairs that `pair_loss` draws with that seed."""
    random = generator(seed)
    mirror = draw_mirror(len(pairs), strength, random)
    jitters = [draw_jitter(mirror, strength, random) for _ in (0, 1)]
    return between(*(motion_through(pool.motion[pairs[:, k]], jitters[k], SIZE) for k in (0, 1)), SIZE)


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_true_transforms_have_next_to_no_loss(strength):
    """Of synthetic pairs; half of what is left is what one exposure of each image and a bilinear warp make unlike."""
    pool = synthetic(gathered(), INDEX, Plan(copies=4, degrees=5.0))
    pairs = pool.pairs()
    true = answer(pool, pairs, strength, 3)
    assert true[..., 1].abs().max() < DEGREES
    right = Saying(lambda *_: numbers_of(true, SIZE))
    losses = [pair_loss(n, pool, pairs, strength, generator(3)).item() for n in (right, constant(0, 0, 0, 0))]
    assert losses[0] < 0.06 and losses[1] > 5 * losses[0], losses
    other = Saying(lambda *_: numbers_of(true.flip(1), SIZE))  # each bone by the other's transform
    assert pair_loss(other, pool, pairs, strength, generator(3)).item() > 2 * losses[0]


def test_the_loss_of_a_pair_is_half_of_each_part_and_of_radiographs_the_first_alone():
    pairs, nothing = torch.tensor([[0, 1], [1, 0]]), constant(0, 0, 0, 0)
    pool = synthetic(gathered(), torch.tensor([5]), Plan(copies=2, degrees=5.0))
    images = [prepared(pool.image[pairs[:, k]]) for k in (0, 1)]
    identity = torch.tensor([1.0, 0, 0, 0]).expand(2, 2, 4)
    unlike = unlikeness(*images, pool.bones[pairs[:, 1]].float(), identity).mean().item()
    away = unit_errors(identity, answer(pool, pairs, 0.0, 0), SIZE).mean().sqrt().item()
    assert pair_loss(nothing, pool, pairs, 0.0, generator()).item() == pytest.approx(
        0.5 * unlike + 0.5 * away, rel=1e-4
    )
    unknown = Examples(pool.image, pool.bones, pool.jsw_mm, pool.group)
    assert pair_loss(nothing, unknown, pairs, 0.0, generator()).item() == pytest.approx(unlike, rel=1e-4)


def test_a_network_is_shown_the_moving_image_first_and_the_fixed_bones():
    seen = {}

    def say(image: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        seen["image"], seen["regions"] = image, regions
        return torch.zeros(len(image), 2, 4)

    pool = radiographs(gathered(), torch.tensor([4, 5]))
    pair_loss(Saying(say), pool, torch.tensor([[1, 0]]), 0.0, generator())
    torch.testing.assert_close(seen["image"], prepared(pool.image[[1, 0]])[None, :, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen["regions"], pool.bones[[0]].float(), atol=1e-5, rtol=0)
    images = prepared(pool.image)
    found = register(Saying(say))(images[[1]], images[[0]], pool.bones[[0]].float())
    torch.testing.assert_close(found, torch.tensor([1.0, 0, 0, 0]).expand(1, 2, 4))
    torch.testing.assert_close(seen["image"], images[[1, 0]][None, :, 0])


@pytest.mark.parametrize("name", TASKS)
def test_a_tasks_network_fits_its_loss_and_learns(name):
    """Its numbers are the task's, all of its parameters have gradients that are finite, and the seed decides."""
    task, pool = TASKS[name], radiographs(gathered(), gathered().of("train"))
    choices = pool.pairs() if task.in_pairs else torch.arange(len(pool))
    torch.manual_seed(0)
    network = NETWORKS["compact"](task.channels, task.outputs)
    nn.init.normal_(network.head.weight, std=0.05)
    losses = [task.loss(network, pool, choices[:4], 1.0, generator(seed)) for seed in (0, 0, 1)]
    assert losses[0].shape == () and losses[0] == losses[1] != losses[2]
    losses[0].backward()
    gradients = [value.grad for value in network.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients) and sum(g.abs().sum() for g in gradients) > 0
    assert (task.channels, task.in_pairs) == ((2, True) if name == "jsn" else (1, False))
