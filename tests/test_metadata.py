"""De-identification: planted names are gone from every container, and every pixel is still there."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_dicom import dicom, hospital

from lsn_core.data import open_dataset, pack
from lsn_core.images import decode_image
from lsn_core.metadata import bare, content, encode_pixels

PLANTED = b"Planted"
GREY = np.random.default_rng(0).integers(40, 250, (48, 64), dtype=np.uint8)
FINE = GREY.astype(np.uint16) * 257
RGB = np.random.default_rng(1).integers(40, 250, (48, 64, 3), dtype=np.uint8)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """Encoded by Pillow."""
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, format=kind, **options)
    return buffer.getvalue()


def exif() -> bytes:
    """An EXIF block that names a person."""
    block = Image.Exif()
    block[0x010E], block[0x013B] = "Planted Name", "Planted Artist"
    return block.tobytes()


def text() -> PngInfo:
    """PNG texts, plain, compressed and international."""
    info = PngInfo()
    info.add_text("Patient", "Planted Name")
    info.add_text("Comment", "Planted " * 2, zip=False)
    info.add_itxt("Author", "Planted Ärztin")
    info.add(b"prVt", b"Planted private")
    return info


def jpeg_with_everything() -> bytes:
    """A JPEG with EXIF, a comment, an unknown application's segment, a thumbnail in JFIF and bytes behind its end."""
    data = saved(GREY, "jpeg", quality=92, exif=exif(), comment=b"Planted comment", icc_profile=b"Planted profile" * 9)
    jfif = b"\xff\xe0" + (16 + 12).to_bytes(2, "big") + b"JFIF\0\1\1\0\0\1\0\1\2\2" + b"Planted12345"  # 2 x 2 in colour
    other = b"\xff\xec" + (2 + 7).to_bytes(2, "big") + PLANTED
    return data[:2] + jfif + other + data[2:] + PLANTED


def npy(array: np.ndarray) -> bytes:
    """A .npy file with bytes behind its array."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue() + PLANTED


PALETTED = Image.fromarray(GREY // 64 * 64).quantize(4)
FILES = {  # name: bytes
    "8.png": saved(GREY, "png", pnginfo=text(), exif=exif(), dpi=(100, 100)) + PLANTED,
    "16.png": saved(FINE, "png", pnginfo=text()),
    "colour.png": saved(RGB, "png", pnginfo=text(), icc_profile=b"Planted"),
    "palette.png": saved(PALETTED, "png", pnginfo=text(), transparency=0),
    "1 bit.png": saved(GREY > 90, "png", pnginfo=text()),
    "everything.jpg": jpeg_with_everything(),
    "colour.jpg": saved(RGB, "jpeg", exif=exif(), quality=90),
    "progressive.jpg": saved(RGB, "jpeg", exif=exif(), progressive=True, comment=PLANTED),
    "cmyk.jpg": saved(Image.fromarray(RGB).convert("CMYK"), "jpeg", comment=PLANTED),
    "restarts.jpg": saved(GREY, "jpeg", restart_marker_blocks=2, comment=PLANTED),
    "8.tif": saved(GREY, "tiff", description="Planted Name", artist="Planted"),
    "16.tif": saved(FINE, "tiff", description="Planted Name"),
    "float.tif": saved((GREY / 255).astype(np.float32), "tiff", description="Planted Name"),
    "8.bmp": saved(GREY, "bmp") + PLANTED,
    "note.gif": saved(GREY, "gif", comment=PLANTED),
    "float.npy": npy((GREY / 255).astype(np.float32)),
    "16.npy": npy(FINE.astype(">u2")),
    "scan.dcm": dicom(PatientComments="Planted comment"),
    "1.2.840.7": dicom(ImageComments="Planted comment", PixelSpacing=[0.2, 0.1]),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_stay_and_all_else_goes(name):
    data = FILES[name]
    assert PLANTED in data
    stripped, suffix = bare(data, name)
    assert PLANTED not in stripped and b"PLANTED" not in stripped
    np.testing.assert_array_equal(decode_image(stripped, f"x{suffix}"), decode_image(data, name))
    assert bare(stripped, f"x{suffix}") == (stripped, suffix)  # nothing is left to be taken away
    assert content(stripped, f"x{suffix}") == content(data, name)


def test_jpeg_is_not_encoded_again():
    """Pixels from a decoder could not tell: the segments that make them up are the original's, byte by byte."""
    plain = saved(GREY, "jpeg", quality=92)
    named = saved(GREY, "jpeg", quality=92, exif=exif(), comment=PLANTED)
    assert bare(plain, "a.jpg")[0] == plain and bare(named, "a.jpg")[0] == plain and named != plain


@given(st.binary(max_size=300))
def test_no_bytes_behind_a_jpeg_or_png_survive(tail):
    for kind in ("jpeg", "png"):
        plain = saved(GREY[:8, :8], kind)
        assert bare(plain + tail, f"a.{kind}") == bare(plain, f"a.{kind}")


@given(st.integers(0, 10_000))
def test_cut_files_are_no_trouble_to_strip(length):
    """They are refused when they are decoded; here the walk through their parts must come to an end."""
    for name in ("8.png", "everything.jpg", "progressive.jpg"):
        cut = FILES[name][: 8 + length % len(FILES[name])]
        assert len(bare(cut, name)[0]) <= len(cut) + 14


def test_the_content_knows_every_pixel_and_the_shape():
    other = GREY.copy()
    other[3, 4] += 1
    same, turned = (content(encode_pixels(p)[0], "a.png") for p in (GREY, np.ascontiguousarray(GREY.reshape(64, 48))))
    assert same == content(saved(GREY, "tiff"), "a.tif") and same not in (content(saved(other, "png"), "a"), turned)
    assert content(saved(GREY, "png"), "a.png") != content(saved(FINE, "png"), "a.png")  # though they are shown alike


def test_nothing_of_a_hospital_gets_into_a_pack(tmp_path):
    """The whole file is searched, and the names of the machine's folders are not in it either."""
    root = hospital(
        tmp_path / "Planted^Folder", PixelSpacing=[0.15, 0.15], ImageLaterality="R", AccessionNumber="PLANT7"
    )
    lines = (root / "manifest.csv").read_text().splitlines()
    for k, (name, data) in enumerate(FILES.items()):
        (root / f"{k}{Path(name).suffix}").write_bytes(data)
        for part, rows in (("lower", slice(26, 48)), ("upper", slice(2, 24))):
            mask = np.zeros(decode_image(data, name).shape if name != "1.2.840.7" else (64, 64), dtype=bool)
            mask[rows, 20:44] = True
            Image.fromarray(mask).save(root / f"{k}_{part}.png", pnginfo=text())
        lines.append(f"{k}{Path(name).suffix},{k}_lower.png,{k}_upper.png,,")
    (root / "manifest.csv").write_text("\n".join(lines))
    dataset = open_dataset(root)
    path = pack(dataset, tmp_path / "all.safetensors")
    data = path.read_bytes()
    for planted in (b"Planted", b"PLANT", b"19470312", b"1.2.3.4", str(tmp_path).encode(), b"DICM", b"Exif"):
        assert planted not in data, planted
    packed = open_dataset(path)
    assert (packed[0].spacing_mm, packed[0].side) == (0.15, "R") and len(packed) == 1 + len(FILES)
    assert packed.fingerprint() == dataset.fingerprint()
    for one, other in zip(dataset, packed, strict=True):
        assert (one.image == other.image).all() and (one.masks == other.masks).all() and one.name == other.name
    again = open_dataset(pack(packed, tmp_path / "again.safetensors"))
    assert again.fingerprint() == packed.fingerprint()


def test_dicom_becomes_a_png_of_16_bits(tmp_path):
    dataset = open_dataset(hospital(tmp_path / "d"))
    packed = open_dataset(pack(dataset, tmp_path / "d.safetensors"))
    with Image.open(io.BytesIO(packed.store.read(packed.rows[0], "image"))) as image:
        assert (image.format, image.mode) == ("PNG", "I;16") and packed.rows[0].image == "a.png"
