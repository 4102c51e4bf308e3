"""Continuation: drawn bars go on as they are, and shafts of phantoms as their larger drawings do."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsn_core.continuation import continued
from lsn_core.defects import border_gap
from lsn_core.joint import FINGERS
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift, absorbance, shift

MARGIN = 16


def bar(slope: float, *, rows: int, first: int = 0, size: int = 128, half: float = 20.0) -> torch.Tensor:
    """A bright bar (rows, size) whose middle goes to the right by `slope` px a row; soft edges of 1 px."""
    y, x = np.arange(first, first + rows)[:, None], np.arange(size)[None, :]
    inside = half + 0.5 - abs(x - size / 2 - slope * y)
    return torch.from_numpy(np.clip(inside, 0, 1)).float()


def layers_of(upper: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Layers and masks of an upper bone in even soft tissue, without a lower one."""
    layers = torch.stack((torch.full_like(upper, 0.3), torch.zeros_like(upper), 0.6 * upper))[None]
    masks = torch.stack((torch.ones_like(upper), torch.zeros_like(upper), upper)) > 0.5
    return layers, masks[None].float()


@cache
def phantom(seed: int = 5, finger: str = "index", size: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    joint = Phantom(seed, finger, size=size).render()
    return joint.layers[None], joint.masks[None]


def test_no_margin_is_the_identity_and_inside_nothing_changes():
    layers, masks = phantom()
    assert torch.equal(continued(layers, masks, 0), layers)
    wide = continued(layers, masks, MARGIN)
    assert wide.shape == (1, 3, 128 + 2 * MARGIN, 128) and wide.dtype == layers.dtype
    assert torch.equal(wide[..., MARGIN:-MARGIN, :], layers)
    assert not wide[:, 0, :MARGIN].any() and not wide[:, 0, -MARGIN:].any()  # the soft tissue does not move


def test_the_callers_layers_stay_as_they_are():
    layers, masks = phantom()
    before = layers.clone(), masks.clone()
    continued(layers, masks, MARGIN)
    assert torch.equal(layers, before[0]) and torch.equal(masks, before[1])


def test_each_bone_goes_on_only_where_it_reaches_the_edge():
    layers, masks = phantom()
    wide = continued(layers, masks, MARGIN)
    assert wide[0, 2, :MARGIN].max() > 0.2 and not wide[0, 2, -MARGIN:].any()
    assert wide[0, 1, -MARGIN:].max() > 0.2 and not wide[0, 1, :MARGIN].any()


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.4])
@pytest.mark.parametrize("upside_down", [False, True])
def test_a_straight_bar_goes_on_straight(slope, upside_down):
    """Against the bar drawn on a larger frame; only its soft edges may differ."""
    ways = [-2] if upside_down else []
    inside, outside = bar(slope, rows=128), bar(slope, rows=MARGIN, first=-MARGIN)
    wide = continued(*layers_of(inside.flip(ways)), MARGIN)[0, 2].flip(ways)
    error = (wide[:MARGIN] - 0.6 * outside).abs()
    away = (bar(slope, rows=MARGIN, first=-MARGIN, half=17.0) == 1) | (
        bar(slope, rows=MARGIN, first=-MARGIN, half=23.0) == 0
    )
    assert error.mean() < 0.006 and error[away].max() < 0.005  # the width is fitted to ends that are whole pixels


def test_a_bar_that_narrows_goes_on_narrowing_but_never_closes():
    y, x = torch.arange(128)[:, None], torch.arange(128)[None, :]
    for slope, least in ((0.2, 8.0), (2.0, 1.0)):  # px a row on each side: the second would end within the margin
        cone = (abs(x - 64) <= 8 + slope * y).float()
        wide = continued(*layers_of(cone), MARGIN)[0, 2] > 0.3
        widths = wide[:MARGIN].sum(dim=1)
        assert widths.min() >= least and (widths[0] < 17 if slope < 1 else True)


def test_a_bar_that_narrows_absorbs_as_much_across():
    y, x = torch.arange(128)[:, None], torch.arange(128)[None, :]
    cone = (abs(x - 64) <= 20 + 0.25 * y).float()
    wide = continued(*layers_of(cone), MARGIN)[0, 2]
    across = absorbance(wide).sum(dim=1)[1:MARGIN]
    assert across.std() / across.mean() < 0.02 and wide[1].max() > 1.05 * wide[MARGIN - 1].max()


@given(seed=st.integers(0, 2**31), margin=st.integers(0, 31))
def test_whatever_the_masks_are_values_stay_values(seed, margin):
    """Blots with any edge: no division by nothing, no value that is none."""
    random = np.random.default_rng(seed)
    blots = random.random((1, 3, 4, 4)) < 0.5
    masks = torch.from_numpy(blots.repeat(8, axis=2).repeat(8, axis=3) & (random.random((1, 3, 32, 32)) < 0.8)).float()
    wide = continued(torch.from_numpy(random.random((1, 3, 32, 32))).float(), masks, margin)
    assert wide.isfinite().all() and wide.min() >= 0 and wide.max() <= 1


def test_each_item_goes_on_by_itself():
    pairs = [phantom(seed, finger) for seed, finger in ((1, "thumb"), (2, "small"))]
    layers, masks = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    together = continued(layers, masks, MARGIN)
    for k, (one, its) in enumerate(pairs):
        assert torch.equal(together[k : k + 1], continued(one, its, MARGIN))


@pytest.mark.parametrize("margin", [-1, 128, 500])
def test_a_margin_that_is_none(margin):
    layers, masks = phantom()
    with pytest.raises(ValueError, match=f"margin {margin} is not between 0 and the frame's 128 rows"):
        continued(layers, masks, margin)


def strip(planes: torch.Tensor) -> torch.Tensor:
    """The rows that an upper bone newly shows when it comes down by a margin."""
    return planes[0, 2, :MARGIN]


@pytest.fixture(scope="module", name="strips")
def _strips() -> list[dict[str, torch.Tensor]]:
    """Of phantoms of all fingers: the strip above a cut frame as drawn, as continued, and as repeated edge rows."""
    found = []
    for seed, finger in enumerate(FINGERS):
        layers, masks = phantom(20 + seed, finger, size=160)
        cut, its = layers[..., MARGIN:, :], masks[..., MARGIN:, :]
        repeated = shift(cut, Shift(dy=float(MARGIN)))
        found.append({"true": strip(layers), "ours": strip(continued(cut, its, MARGIN)), "rows": strip(repeated)})
    return found


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * float(torch.log10((a - b).square().mean()))


def test_it_is_nearer_to_the_truth_than_repeated_rows(strips):
    ours, rows = ([psnr(each[key], each["true"]) for each in strips] for key in ("ours", "rows"))
    assert np.min(np.subtract(ours, rows)) > 3 and min(ours) > 20


def test_its_brightness_and_grain_are_those_of_the_truth_and_repeated_rows_have_none(strips):
    for each in strips:
        grain = {key: float((plane[1:] - plane[:-1]).abs().mean()) for key, plane in each.items()}
        assert 0.5 < grain["ours"] / grain["true"] < 1.5 and grain["rows"] == 0
        assert abs(each["ours"].mean() / each["true"].mean() - 1) < 0.15  # shafts are denser where they are narrow


def test_border_gap_sees_no_strip_in_it():
    """By the measure that reports use, as an image of the bone alone."""
    layers, masks = phantom(22, "middle", size=160)
    bone = layers[:, 2:3]
    known = border_gap(bone, masks, 8)
    masks, cut = masks[..., MARGIN:, :], layers[..., MARGIN:, :]
    wide, its = (continued(planes, masks, MARGIN)[..., :160, :] for planes in (cut, masks))
    found = border_gap(wide[:, 2:3], (its > 0.5).float(), 8)
    assert abs(float(found["gap"] - known["gap"])) < 0.1
    assert 0.5 < float(found["grain"] / known["grain"]) < 1.6
