"""Outlines: sizes of drawn masks, read from them again."""

import numpy as np
import pytest

from lsn_core.outline import outline_statistics

MM = 0.1


def bones(gap: int = 10, shift: int = 0, lean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bone, (256, 256): 100 px wide shafts and 120 px wide ends, leaning by `lean` px a row."""
    rows, columns = np.mgrid[:256, :256]
    across = np.abs(columns - 128 + lean * (rows - 128))
    lower = (rows >= 120 + gap) & (across <= np.where(rows < 160 + gap, 60, 50))
    upper = (rows < 120) & (np.roll(across, shift, axis=1) <= np.where(rows >= 80, 60, 50))
    return lower, upper


def test_sizes_and_places_of_drawn_bones():
    found = outline_statistics(*bones(), MM)
    assert found == pytest.approx(
        {
            "head_width_mm": 12.1,
            "metacarpal_frame_width_mm": 10.1,
            "base_width_mm": 12.1,
            "phalanx_frame_width_mm": 10.1,
            "joint_row_px": 124.5,
            "gap_mm": 1.0,
            "overlap_px": 0.0,
            "contact": 0.0,
            "offset_mm": 0.0,
            "head_column_px": 128.0,
            "metacarpal_tilt_deg": 0.0,
            "phalanx_tilt_deg": 0.0,
            "angle_deg": 0.0,
        },
        abs=1e-9,
    )


@pytest.mark.parametrize("gap", [3, 0, -4])
def test_gap_may_be_negative_and_then_the_masks_are_in_contact(gap):
    found = outline_statistics(*bones(gap), MM)
    assert found["gap_mm"] == pytest.approx(gap * MM)
    assert found["overlap_px"] == max(0, -gap) * 121 and found["contact"] == (gap < 0)


def test_what_lies_outside_the_central_half_does_not_widen_the_gap():
    lower, upper = bones()
    lower[:150, :95] = False
    assert outline_statistics(lower, upper, MM)["gap_mm"] == pytest.approx(1.0)


def test_upper_bone_to_the_right_is_a_positive_offset():
    assert outline_statistics(*bones(shift=7), MM)["offset_mm"] == pytest.approx(0.7)


@pytest.mark.parametrize("degrees", [-8.0, 5.0])
def test_tilt_is_counter_clockwise_as_seen(degrees):
    """A bone whose lower end is moved to the right is turned counter-clockwise about its middle."""
    found = outline_statistics(*bones(lean=-np.tan(np.radians(degrees))), MM)
    assert found["metacarpal_tilt_deg"] == pytest.approx(degrees, abs=0.3)
    assert found["phalanx_tilt_deg"] == pytest.approx(degrees, abs=0.3)


def test_what_is_not_there_is_nan():
    lower, upper = bones()
    upper[:30] = False
    assert np.isnan(outline_statistics(lower, upper, MM)["phalanx_frame_width_mm"])
    apart = outline_statistics(lower & (np.arange(256) < 100), upper & (np.arange(256) > 110), MM)
    assert np.isnan(apart["gap_mm"]) and np.isnan(apart["joint_row_px"])
    unknown = outline_statistics(*bones(), np.nan)
    assert all(np.isnan(value) == name.endswith("_mm") for name, value in unknown.items())
