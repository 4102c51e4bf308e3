"""Images: every container gives the same display values, and every refusal names the file."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsn_core.files import InputError
from lsn_core.images import decode_image, decode_mask, encode_mask, read_image, read_mask, write_image, write_mask

LEVELS = np.add.outer(np.arange(12) * 13, np.arange(10) * 9).astype(np.uint8)  # 0 to 224, 8 bits
FINE = LEVELS.astype(np.uint16) * 257 + np.uint16(3) * (LEVELS > 0)  # the same and a little more, 16 bits
DISC = np.hypot(*np.mgrid[-6:6, -5:5]) < 4


def raster(pixels: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, pixels, **options)
    elif kind == "tiff":
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(buffer, pixels, **options)
    else:
        Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "pixels"),
    [
        ("png", LEVELS),
        ("bmp", LEVELS),
        ("tiff", LEVELS),
        ("npy", LEVELS),
        ("npy", LEVELS[None]),
        ("png", np.stack([LEVELS] * 3, axis=-1)),
        ("bmp", np.stack([LEVELS] * 3, axis=-1)),
        ("png", FINE),
        ("tiff", FINE),
        ("tiff", FINE.astype(">u2")),
        ("npy", FINE),
        ("npy", (FINE / 65535)),
        ("tiff", (FINE / 65535).astype(np.float32)),
    ],
)
def test_every_container_gives_the_same_display_values(kind, pixels):
    fine = pixels.dtype.kind == "f" or pixels.dtype.itemsize == 2
    image = decode_image(raster(pixels, kind), f"a.{kind}")
    assert image.dtype == np.float32 and image.shape == LEVELS.shape
    np.testing.assert_allclose(image, FINE / 65535 if fine else LEVELS / 255, atol=1e-7)


@pytest.mark.parametrize("pixels", [LEVELS, FINE])
def test_a_tiff_whose_white_is_zero_is_turned_over(pixels):
    negative = raster(np.iinfo(pixels.dtype).max - pixels, "tiff", photometric="miniswhite")
    np.testing.assert_allclose(decode_image(negative, "a.tif"), decode_image(raster(pixels, "png"), "a.png"), atol=1e-7)


def test_a_colour_jpeg_is_read_as_grey_to_its_own_precision():
    data = raster(np.stack([LEVELS] * 3, axis=-1), "jpeg", quality=100)
    assert np.abs(decode_image(data, "a.jpg") - LEVELS / 255).max() < 3 / 255


def test_white_is_one_in_every_type():
    for pixels in (np.uint8([[0, 255]]), np.uint16([[0, 65535]]), np.array([[False, True]]), np.float64([[0, 1]])):
        assert decode_image(raster(pixels, "npy"), "a.npy").tolist() == [[0, 1]]


def test_a_mask_is_white_above_half_of_its_largest_value():
    for pixels in (
        DISC,
        DISC * np.uint8(1),
        DISC * np.uint8(250) + np.uint8(3),
        DISC * np.float32(0.7),
        DISC * np.uint16(60000),
    ):
        np.testing.assert_array_equal(decode_mask(raster(pixels, "npy"), "m.npy"), DISC)
    np.testing.assert_array_equal(decode_mask(raster(DISC * np.uint8(255), "bmp"), "m.bmp"), DISC)
    assert decode_mask(raster(np.uint8([[0, 0, 99, 0, 101, 200, 200, 200, 200]]), "png"), "m.png").sum() == 5


def test_written_files_read_back_the_same(tmp_path):
    exact = read_image(write_image(tmp_path / "new" / "a.png", FINE / 65535))
    np.testing.assert_array_equal(np.round(exact * 65535), FINE)
    clipped = read_image(write_image(tmp_path / "b.png", np.array([[-1.0, 0.5, 2.0]])))
    np.testing.assert_allclose(clipped, [[0, 0.5, 1]], atol=1e-5)
    np.testing.assert_array_equal(read_mask(write_mask(tmp_path / "m.png", DISC)), DISC)
    np.testing.assert_array_equal(decode_mask(encode_mask(DISC), "m.png"), DISC)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.mode == "I;16"
    assert not list(tmp_path.rglob("*.part*"))


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, image=LEVELS)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.npy", raster(np.float32([[0.2, np.nan, np.inf]]), "npy"), "2 values are NaN or infinite"),
        ("a.npy", raster(np.float32([[0, 255]]), "npy"), "run from 0 to 255"),
        ("a.npy", raster(np.float32([[-0.5, 1]]), "npy"), "run from -0.5 to 1"),
        ("a.npy", raster(np.zeros((2, 4, 4), np.uint8), "npy"), r"shape \(2, 4, 4\)"),
        ("a.npy", raster(np.zeros((0, 4), np.float32), "npy"), r"shape \(0, 4\)"),
        ("a.npy", raster(np.zeros((4, 4), np.int64), "npy"), "int64"),
        ("a.npy", raster(np.array([[{}]], dtype=object), "npy"), "pickle"),
        ("a.npy", raster(LEVELS, "npy")[:-9], "numpy.save"),
        ("a.npy", npz(), "numpy.save"),
        ("a.npy", npz()[:90], "numpy.save"),
        ("a.npy", b"", "numpy.save"),
        ("a.png", b"", "the file is empty"),
        ("a.png", b"%PDF-1.4 a scan", "not an image"),
        ("a.png", raster(LEVELS, "png")[:50], "damaged"),
        ("a.jpg", raster(LEVELS, "jpeg")[:-40], "damaged"),
        ("a.tif", raster(np.full((4, 4), 70000, np.int32), "tiff"), "70000"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name, data, says):
    with pytest.raises(InputError, match=says) as refused:
        decode_image(data, f"folder/{name}")
    assert str(refused.value).startswith(f"folder/{name}: ")


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((4, 4), np.uint8), "all black"),
        (np.full((4, 4), 255, np.uint8), "whole frame"),
        (np.full((4, 4), np.nan, np.float32), "all black|NaN"),
        (np.float32([[0, np.nan]]), "all black|NaN"),
        (np.float32([[-1, 0]]), "all black"),
    ],
)
def test_masks_without_a_bone_are_refused_by_name(pixels, says):
    with pytest.raises(InputError, match=f"^folder/m.npy: .*({says})"):
        decode_mask(raster(pixels, "npy"), "folder/m.npy")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's, before it gives up
@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "tiff", "npy"])
def test_a_file_cut_anywhere_is_refused_or_read_whole(kind):
    data = raster(LEVELS, kind)
    whole = decode_image(data, f"a.{kind}")
    refused = 0
    for length in range(0, len(data), 1 if len(data) < 400 else 7):
        try:
            np.testing.assert_array_equal(decode_image(data[:length], f"a.{kind}"), whole)
        except InputError:
            refused += 1
    assert refused > 10


def test_a_missing_file_or_a_folder_is_refused_by_name(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        for read in (read_image, read_mask):
            with pytest.raises(InputError, match=str(Path(path))):
                read(path)


def test_a_mask_drawn_black_on_white_is_refused(tmp_path):
    mask = np.zeros((40, 40), dtype=bool)
    mask[20:, 8:32] = True  # leaves the frame below, as bones do
    assert read_mask(write_mask(tmp_path / "a.png", mask)).sum() == mask.sum()
    with pytest.raises(InputError, match=r"b.png: 85% of the frame's edge is white; draw the bone in white on black"):
        read_mask(write_mask(tmp_path / "b.png", ~mask))
