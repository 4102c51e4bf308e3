"""Labels: what follows from a movement, in numbers that others can use; a table that survives being cut."""

import csv
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsn_core.adjustment import stored
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.jsw import svdh_like
from lsn_core.labels import FIELDS, as_csv, files_of, label, movement_of, read_labels, tally
from lsn_core.manifest import COLUMNS
from lsn_core.movement import Hinge, Movement
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift, compose, shift
from lsn_core.synthesis import Source

MOVEMENT = Movement(-0.5, share=0.25, slide_mm=(0.125, -0.25), degrees=(1.5, -2.0))


@cache
def prepared() -> tuple[Joint, Source]:
    joint = replace(Phantom(3, "middle", size=64).render(), name="a")
    return joint, stored(joint, joint.layers[None], 0.0)


def row(movement: Movement = MOVEMENT, *, own_mm: float = 1.75, copy: int = 7) -> dict[str, str]:
    joint, source = prepared()
    return label(joint, source.hinge, own_mm, movement, copy)


def test_a_label_by_hand():
    joint, _ = prepared()
    found = label(joint, Hinge((30.0, 40.0), (0.0, -1.0), 0.25), 1.75, MOVEMENT, 7)
    expected = {
        "image": "a_007.png",
        "lower": "a_007_mask_lower.png",
        "upper": "a_007_mask_upper.png",
        "source": "a",
        "finger": "middle",
        "jsw_mm": "1.250000",
        "jsw_px": "5.000000",
        "svdh_like": "2",
        "source_jsw_mm": "1.750000",
        "delta_mm": "-0.500000",
        "share": "0.250000",
        "spacing_mm": "0.250000",
        "lower_dx": "0.500000",
        "lower_dy": "-1.500000",  # three quarters of 2 px, up
        "upper_dx": "-1.000000",
        "upper_dy": "0.500000",
        "upper_degrees": "-2.000000",
        "middle_x": "30.000000",
        "copy": "7",
    }
    assert {key: found[key] for key in expected} == expected
    assert set(found) <= set(FIELDS) and set(COLUMNS) <= set(FIELDS)


@given(delta=st.floats(-3, 3), share=st.floats(0, 1), turn=st.floats(-45, 45), slide=st.floats(-5, 5))
def test_a_label_gives_back_its_movement(delta, share, turn, slide):
    movement = Movement(delta, share=share, slide_mm=(slide, -slide), degrees=(turn, turn / 3))
    again = movement_of(row(movement))
    flat = [[m.delta_mm, m.share, *m.slide_mm, *m.degrees] for m in (again, movement)]
    np.testing.assert_allclose(*flat, atol=5.1e-7)


@pytest.mark.parametrize("own", [-0.4, 0.0, 0.4375, 0.9, 1.5, 2.4])
def test_its_class_and_its_widths_say_the_same(own):
    found = row(Movement(), own_mm=own)
    assert int(found["svdh_like"]) == svdh_like(float(found["jsw_mm"]))
    assert float(found["jsw_px"]) * float(found["spacing_mm"]) == pytest.approx(own, abs=1e-5)


def test_its_numbers_are_the_truth_of_a_registration():
    """dx, dy and degrees about the middle, as `shift` takes them, make of the layers the pixels of the image.

    Bones end within the frame here, so that nothing beyond it matters.
    """
    joint, _ = prepared()
    window = torch.zeros(1, 1, 64, 64)
    window[..., 18:46, :] = 1
    layers, masks = joint.layers[None] * window, joint.masks[None] * window
    layers[:, 0] = joint.layers[0]
    hinge = prepared()[1].hinge
    found = label(joint, hinge, 1.5, MOVEMENT, 0)
    centre = float(found["middle_x"]), float(found["middle_y"])
    moved = [
        shift(layers[:, [k]], Shift(*(float(found[f"{bone}_{key}"]) for key in ("dx", "dy", "degrees"))), centre=centre)
        for k, bone in enumerate(("lower", "upper"), start=1)
    ]
    expected = compose(torch.cat((layers[:, :1], *moved), dim=1))[0, 0].numpy()
    image = Source.of(layers, masks, masks, hinge).image(movement_of(found))
    np.testing.assert_allclose(image, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("source", "copy", "image"),
    [
        ("a", 0, "a_000.png"),
        ("a", 1234, "a_1234.png"),
        ("visits/b", 3, "visits/b_003.png"),
        ("1.2.840.1", 3, "1.2.840.1_003.png"),
        ("../elsewhere/c", 3, "_/elsewhere/c_003.png"),
        ("a..b", 3, "a..b_003.png"),
    ],
)
def test_files_lie_below_the_folder_and_are_called_after_the_source(source, copy, image):
    found = files_of(source, copy)
    assert found["image"] == image and found["upper"] == image.replace(".png", "_mask_upper.png")


@given(st.lists(st.tuples(st.sampled_from(["a", "a_000", "a_0", "a_1"]), st.integers(0, 1500)), unique=True))
def test_no_two_copies_share_a_file(pairs):
    files = [file for pair in pairs for file in files_of(*pair).values()]
    assert len(set(files)) == len(files)


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "labels.csv"
    rows = [row(copy=0), row(copy=1) | {"source": 'of "A", \u00fc'}]
    path.write_text(as_csv(rows, FIELDS, header=True), encoding="utf-8")
    assert [{k: v for k, v in read.items() if v} for read in read_labels(path)] == [
        {k: v for k, v in each.items() if v} for each in rows
    ]
    assert tally(read_labels(path)) == "class 0: 0, class 1: 0, class 2: 2, class 3: 0, class 4: 0"


def test_other_keys_are_left_out_and_no_table_is_an_empty_one(tmp_path):
    assert as_csv([{"a": 1, "b": 2}], ("a", "c"), header=True) == "a,c\n1,\n"
    assert read_labels(tmp_path / "absent.csv") == []


def test_a_last_line_that_was_cut_off_is_left_out_wherever_it_was_cut(tmp_path):
    """Within a letter of two bytes too."""
    path = tmp_path / "labels.csv"
    whole = as_csv([row(copy=0)], FIELDS, header=True).encode()
    last = as_csv([row(copy=1) | {"source": "\u00fc"}], FIELDS, header=False).encode()
    for cut in (*range(0, len(last), 17), last.index("\u00fc".encode()) + 1, len(last) - 1):
        path.write_bytes(whole + last[:cut])
        assert [each["copy"] for each in read_labels(path)] == ["0"]


@pytest.mark.parametrize("text", ["", "image,lower\n", "image", "\x00\xff\xfe\n"])
def test_another_table_is_refused(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"labels.csv: is not a list of this version; write to another folder"):
        read_labels(path)
    with (tmp_path / "labels.csv").open("rb") as file:
        assert file.read() == text.encode("latin-1")


def test_every_field_has_one_place():
    assert len(set(FIELDS)) == len(FIELDS)
    assert next(csv.reader([as_csv([], FIELDS, header=True)])) == list(FIELDS)
