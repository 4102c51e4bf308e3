"""Scores of outlines: hand tables, and scikit-image as the judge of distances."""

import numpy as np
import pytest
from skimage.metrics import hausdorff_distance

from lsn_core.segmentation_scores import COLUMNS, by_finger, outline, outline_distances, outline_scores, report


def square(top: int, left: int, side: int = 20, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_moved_square():
    a, b = square(20, 20), square(20, 25)
    away = outline_distances(a, b)
    assert away.max() == 5 == hausdorff_distance(outline(a), outline(b))
    assert len(away) == 2 * 76 and (away == 0).sum() == 2 * 2 * 15  # 15 px of the upper and the lower side are shared
    assert outline_distances(a, a).max() == 0 and len(outline_distances(a, np.zeros_like(a))) == 0


def test_the_largest_distance_is_hausdorffs():
    random = np.random.default_rng(0)
    for _ in range(5):
        a, b = (square(*random.integers(5, 30, 2), side=int(random.integers(8, 25))) for _ in range(2))
        assert outline_distances(a, b).max() == pytest.approx(hausdorff_distance(outline(a), outline(b)))


def test_the_frames_edge_is_no_outline():
    """One mask goes on to the last row, the other stops 3 px short of it."""
    touching, short = (square(180, 80, side=80, size=256) for _ in range(2))
    short[-3:] = False
    assert not outline(touching)[-4:].any() and not outline(short)[-4:].any()
    assert len(outline_distances(touching, short)) and outline_distances(touching, short).max() == 0


def test_scores_in_px_of_256():
    masks = np.stack((np.ones((64, 64), bool), square(30, 20), square(5, 20)))
    moved = np.stack((masks[0], square(30, 20), square(8, 20)))
    scores = outline_scores(moved, masks)
    assert scores["hand_dice"] == scores["lower_dice"] == 1 and scores["lower_px"] == 0
    assert scores["upper_dice"] == pytest.approx(2 * 17 * 20 / 800)
    assert scores["worst_px"] == pytest.approx(3 * 4)  # px of 64 are four of 256


def test_by_finger_and_its_table():
    row = dict.fromkeys(("hand_dice", *COLUMNS), 0.5)
    rows = [{"joint": f"j{k}", "finger": finger, **row} for k, finger in enumerate(("thumb", "ring", "ring"))]
    found = by_finger(rows)
    assert [found[name]["refused"]["n"] for name in ("overall", "thumb", "index", "ring")] == [3, 1, 0, 2]
    lines = report(found).splitlines()
    assert lines[0].split()[:2] == ["finger", "n"] and any(line.startswith("index") and " 0 " in line for line in lines)
