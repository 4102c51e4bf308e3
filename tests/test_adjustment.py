"""Adjustment: true layers make what is drawn again, layers that are wrong in a known way show it in the defect."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from lsn_core.adjustment import defects, mean_curves, moved_defects, stored, width_errors
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.joint import Joint
from lsn_core.masks import bones
from lsn_core.movement import Movement
from lsn_core.networks import load_generator
from lsn_core.phantom import Phantom
from lsn_core.radiograph import display
from lsn_core.synthesis import Source

SIZE = 128
CLOSED, OPEN = WIDTHS = (0.6, 3.6)  # mm, of a joint of 2.1
KEYS = {"frame_db", "band_db", "gap", "grain", "ghost", "halo", "bias_mm"}


@cache
def drawn() -> tuple[Phantom, Joint]:
    phantom = Phantom(9, "index", size=SIZE)
    return phantom, phantom.render()


def true_source() -> Source:
    _, joint = drawn()
    return stored(joint, joint.layers[None], 0.0)


def haunted() -> Source:
    """A fifth of the bones' absorbance left in the soft tissue."""
    _, joint = drawn()
    absorbed = -torch.log1p(-joint.layers[None])
    absorbed[:, :1] += 0.2 * absorbed[:, 1:].sum(dim=1, keepdim=True)
    absorbed[:, 1:] *= 0.8
    return stored(joint, display(absorbed), 0.0)


def cut() -> Source:
    """Bones that end where the frame ends."""
    source = true_source()
    light = source.light.copy()
    light[1:, : source.margin] = light[1:, -source.margin :] = 1
    return replace(source, light=light)


@pytest.fixture(scope="module", name="rows")
def _rows() -> dict[tuple[str, float], dict[str, float]]:
    """By method and width."""
    sources = {"true": true_source(), "haunted": haunted(), "cut": cut()}
    found = width_errors(sources, drawn()[0], load_generator("compact"), widths_mm=WIDTHS)
    return {(row["method"], row["width_mm"]): row for row in found}


def test_there_is_a_row_of_each_method_at_each_width(rows):
    assert sorted(rows) == sorted((name, width) for name in ("true", "haunted", "cut") for width in WIDTHS)
    for row in rows.values():
        assert set(row) == KEYS | {"method", "width_mm", "name", "joint"}
        assert row["name"] == drawn()[1].name and row["joint"] == drawn()[1].joint


@pytest.mark.parametrize("width", WIDTHS)
def test_true_layers_have_no_defect(rows, width):
    """Within what moving pixels by fractions of a pixel costs."""
    row = rows["true", width]
    assert row["frame_db"] > 30 and row["band_db"] > 30
    assert abs(row["gap"]) < 0.06 and abs(row["grain"]) < 0.5 and abs(row["halo"]) < 0.05
    assert not abs(row["ghost"]) > 0.02  # NaN where bones that come together leave too little
    assert abs(row["bias_mm"]) < 0.1


def test_bone_left_in_the_soft_tissue_is_a_ghost(rows):
    assert rows["haunted", OPEN]["ghost"] > rows["true", OPEN]["ghost"] + 0.03
    assert rows["haunted", OPEN]["frame_db"] < rows["true", OPEN]["frame_db"] - 1


def test_bones_that_are_not_continued_are_a_strip(rows):
    assert rows["cut", CLOSED]["gap"] < rows["true", CLOSED]["gap"] - 0.1
    assert rows["cut", OPEN]["gap"] == pytest.approx(rows["true", OPEN]["gap"], abs=1e-6)  # nothing comes in there


def test_the_own_width_is_nearly_the_phantom_itself():
    phantom, joint = drawn()
    (row,) = width_errors({"a": true_source()}, phantom, load_generator("compact"), widths_mm=[joint.jsw_mm])
    assert row["frame_db"] > 60 and abs(row["bias_mm"]) < 1e-3 and abs(row["gap"]) < 1e-3


def test_a_detector_takes_the_true_images():
    phantom, joint = drawn()
    asked = {"detector": COMPUTED_RADIOGRAPHY, "widths_mm": [joint.jsw_mm]}
    (row,) = width_errors({"a": true_source()}, phantom, load_generator("compact"), **asked)
    assert 15 < row["frame_db"] < 50  # against an image with noise and blur


def test_a_joint_without_bone_in_the_layers_has_no_bias():
    phantom, joint = drawn()
    reader = load_generator("compact")
    nothing = stored(joint, joint.layers[None] * 0, 0.0)
    (row,) = width_errors({"a": nothing}, phantom, reader, widths_mm=[1.5])
    assert row["frame_db"] < 20 and set(row) >= KEYS


def test_defects_of_a_drawn_image_are_those_by_name():
    _, joint = drawn()
    found = defects(joint.image[None], joint.masks[None], joint.masks[None])
    assert set(found) == {"gap", "grain", "ghost", "halo"} and np.isnan(found["ghost"])


def test_defects_without_a_truth_are_none_where_nothing_moves():
    _, joint = drawn()
    found = moved_defects(true_source(), joint, 0.0)
    assert all(abs(found[name]) < 1e-4 for name in ("gap", "grain", "halo")) and np.isnan(found["ghost"])
    apart = moved_defects(haunted(), joint, 1.0)
    assert apart["ghost"] > moved_defects(true_source(), joint, 1.0)["ghost"] + 0.03


def test_stored_layers_cover_wider_masks_and_keep_the_drawn_ones():
    _, joint = drawn()
    source = stored(joint, joint.layers[None], 4.0)
    np.testing.assert_array_equal(source.masks(Movement()), joint.masks > 0)
    assert bones(joint.masks[None]).any()


def test_mean_curves_by_hand():
    table = {("a", 2.0): (1.0, 3.0), ("a", 1.0): (5.0, np.nan), ("b", 1.0): (7.0,)}
    rows = [{"method": m, "width_mm": w, "x": value} for (m, w), values in table.items() for value in values]
    assert mean_curves(rows, "x") == {"a": [5.0, 2.0], "b": [7.0]}
