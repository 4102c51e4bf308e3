"""DICOM: hand tables for what a header does to the stored values, and every refusal names the file."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from lsn_core.data import open_dataset, pack, read_radiograph
from lsn_core.dicom import decode_dicom, read_header, resize
from lsn_core.files import InputError
from lsn_core.images import decode_image, decode_mask, write_mask

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # all values of 12 bits
STEP = 0.5 / 65535 + 1e-7


def dicom(pixels: np.ndarray = RAMP, *, bits: int = 12, photometric: str = "MONOCHROME2", **elements) -> bytes:
    """A DICOM file with these elements; None takes one away."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID("1.2.3.4")
    ds.PatientName, ds.PatientID, ds.StudyDate = "Planted^Name", "PLANTED-ID", "19470312"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (pixels.shape[2] if pixels.ndim == 3 else 1), photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * pixels.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def lut(entries: list[int], first: int, bits: int) -> list[Dataset]:
    """A LUT sequence of one item."""
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], np.array(entries, dtype="<u2").tobytes()
    return [item]


def window(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, linear, to [0, 1]."""
    return ((values - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)


V = RAMP.astype(float)
SIGNED = (RAMP.astype(np.int16) - 2048).astype(np.int16)
SHOWN = {  # name: (file, display values)
    "12 bits as they are": (dicom(), V / 4095),
    "8 bits": (dicom(RAMP.astype(np.uint8), bits=8), (V % 256) / 255),
    "16 bits": (dicom(RAMP * np.uint16(16), bits=16), V * 16 / 65535),
    "signed": (dicom(SIGNED), (V / 4095)),
    "rescaled without a window": (dicom(RescaleSlope=2, RescaleIntercept=-1000), V / 4095),
    "a falling rescale": (dicom(RescaleSlope=-1, RescaleIntercept=0), 1 - V / 4095),
    "window": (dicom(WindowCenter=1000, WindowWidth=501), window(V, 1000, 501)),
    "the first of two windows": (dicom(WindowCenter=[1000, 9], WindowWidth=[501, 5]), window(V, 1000, 501)),
    "window of the rescaled": (
        dicom(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000, WindowWidth=501),
        window(2 * V - 1000, 1000, 501),
    ),
    "window of a falling rescale": (
        dicom(RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=1000, WindowWidth=501),
        window(4095 - V, 1000, 501),
    ),
    "exact window": (
        dicom(WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT"),
        ((V - 1000) / 500 + 0.5).clip(0, 1),
    ),
    "sigmoid": (
        dicom(WindowCenter=1000, WindowWidth=500, VOILUTFunction="SIGMOID"),
        1 / (1 + np.exp(-4 * (V - 1000) / 500)),
    ),
    "empty window": (dicom(WindowCenter="", WindowWidth=""), V / 4095),
    "empty rescale": (dicom(RescaleSlope="", RescaleIntercept=""), V / 4095),
    "LUT": (dicom(VOILUTSequence=lut([0, 30, 100], 2000, 8)), np.select([V < 2001, V < 2002], [0, 30], 100) / 255),
    "long LUT of 8 bits": (
        dicom(VOILUTSequence=lut([k // 16 for k in range(4096)], 0, 8)),
        (V // 16) / 255,
    ),
    "LUT before window": (
        dicom(VOILUTSequence=lut([0, 4095], 7, 12), WindowCenter=1000, WindowWidth=501),
        (V > 7).astype(float),
    ),
    "modality LUT": (dicom(ModalityLUTSequence=lut([5, 65535], 7, 16)), np.where(V > 7, 65535, 5) / 65535),
}


@pytest.mark.parametrize("name", SHOWN)
def test_display_values(name):
    data, expected = SHOWN[name]
    image = decode_dicom(data, "a.dcm")
    assert image.dtype == np.float32 and image.shape == RAMP.shape
    np.testing.assert_allclose(image, expected, atol=2 * STEP)


@pytest.mark.parametrize("elements", [{}, {"WindowCenter": 1000, "WindowWidth": 501}, {"RescaleSlope": 2}])
def test_monochrome1_is_turned_over_once_and_last(elements):
    """White and black change places after the window, whose centre stays a stored value."""
    plain = decode_dicom(dicom(**elements), "a")
    turned = decode_dicom(dicom(photometric="MONOCHROME1", **elements), "a")
    np.testing.assert_allclose(turned, 1 - plain, atol=2 * STEP)


@given(st.floats(-500, 5000), st.floats(2, 5000), st.booleans())
def test_any_window_is_monotonic_in_the_stored_values(centre, width, negative):
    kind = "MONOCHROME1" if negative else "MONOCHROME2"
    data = dicom(WindowCenter=round(centre, 3), WindowWidth=round(width, 3), photometric=kind)
    rising = np.diff(decode_dicom(data, "a").ravel()) * (-1 if negative else 1)
    assert (rising >= 0).all()


SPACINGS = {  # name: (elements, spacing, where it holds)
    "none": ({}, None, None),
    "calibrated": ({"PixelSpacing": [0.1, 0.1]}, 0.1, "patient"),
    "at the detector": ({"ImagerPixelSpacing": [0.15, 0.15]}, 0.15, "detector"),
    "scanned film": ({"NominalScannedPixelSpacing": [0.175, 0.175]}, 0.175, "detector"),
    "repeated": ({"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.15, 0.15]}, 0.15, "detector"),
    "corrected": ({"PixelSpacing": [0.14, 0.14], "ImagerPixelSpacing": [0.15, 0.15]}, 0.14, "patient"),
    "said to be calibrated": (
        {"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.15, 0.15], "PixelSpacingCalibrationType": "FIDUCIAL"},
        0.15,
        "patient",
    ),
    "zero": ({"PixelSpacing": [0, 0]}, None, None),
    "empty": ({"PixelSpacing": ""}, None, None),
    "one number": ({"ImagerPixelSpacing": 0.15}, None, None),
}


@pytest.mark.parametrize("name", SPACINGS)
def test_spacing_and_where_it_was_measured(name):
    elements, spacing, measured = SPACINGS[name]
    header = read_header(dicom(**elements), "a")
    assert header.spacing_mm == (spacing if spacing is None else pytest.approx(spacing))
    assert header.spacing_from == measured and header.stored == header.shape == (64, 64)


@pytest.mark.parametrize(
    ("elements", "side"),
    [
        ({}, None),
        ({"ImageLaterality": "L"}, "L"),
        ({"Laterality": "R"}, "R"),
        ({"ImageLaterality": "L", "Laterality": "R"}, "L"),
        ({"ImageLaterality": "U"}, None),
    ],
)
def test_side(elements, side):
    assert read_header(dicom(**elements), "a").side == side


@given(st.floats(0.05, 0.3), st.floats(0.05, 0.3))
def test_pixels_that_are_not_square_are_made_so(row, column):
    """A disc drawn on pixels of any form is a disc after decoding, at the finer of the two spacings."""
    radius, height, width = 5.0, math.ceil(14 / row), math.ceil(14 / column)
    y, x = (np.arange(height) + 0.5) * row - 7, (np.arange(width) + 0.5) * column - 7
    disc = np.hypot(y[:, None], x[None]) < radius
    data = dicom(disc.astype(np.uint16) * np.uint16(4095), PixelSpacing=[round(row, 6), round(column, 6)])
    header, image = read_header(data, "a"), decode_dicom(data, "a")
    assert header.spacing_mm == pytest.approx(min(row, column), abs=1e-6) and header.stored == disc.shape
    side = 14 / header.spacing_mm  # of the frame; its stored pixels may reach one beyond
    assert image.shape == header.shape and all(
        side - 1 < n < side + 1 + row / column + column / row for n in image.shape
    )
    mask = resize(disc, header.shape)
    for drawn in (image > 0.5, mask):
        extent = [np.ptp(axis) + 1 for axis in np.nonzero(drawn)]
        assert extent == pytest.approx(
            [2 * radius / header.spacing_mm] * 2, abs=2 + 2 * max(row, column) / min(row, column)
        )
    assert np.mean(mask != (image > 0.5)) < 0.03


def multiframe() -> bytes:
    """Two frames."""
    return dicom(NumberOfFrames=2, PixelData=RAMP.tobytes() * 2)


def compressed() -> bytes:
    """JPEG-LS, for which no decoder is installed."""
    data = io.BytesIO(dicom())
    from pydicom import dcmread

    ds = dcmread(data)
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds.PixelData = encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)])
    ds["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    dcmwrite(buffer, ds)
    return buffer.getvalue()


WRONG = {
    "several frames": (multiframe(), "the DICOM holds 2 frames; export each radiograph to a file of its own"),
    "colour": (
        dicom(np.zeros((8, 8, 3), np.uint8), bits=8, photometric="RGB", PlanarConfiguration=0),
        "the DICOM holds RGB, not a grey radiograph; export the original",
    ),
    "palette": (dicom(photometric="PALETTE COLOR"), "the DICOM holds PALETTE COLOR, not a grey"),
    "no image": (dicom(PhotometricInterpretation=None, PixelData=None), "the DICOM holds no image, not a grey"),
    "no pixels": (dicom(PixelData=None), r"the DICOM is damaged \(.*\); export it again, uncompressed"),
    "truncated": (dicom()[:-100], r"the DICOM is damaged \(.*\); export it again"),
    "no decoder": (compressed(), r"no decoder for the DICOM's compression \(JPEG-LS Lossless .*\); export it uncompr"),
    "no DICOM": (b"x" * 200, r"not a DICOM file \(no DICM mark\); copy it again"),
    "empty": (b"", r"not a DICOM file \(no DICM mark\); copy it again"),
    "a window of no width": (dicom(WindowCenter=5, WindowWidth=0), r"the DICOM is damaged \(The \(0028,1051\) Window"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused_by_name(name):
    data, says = WRONG[name]
    with pytest.raises(InputError, match=says) as refused:
        decode_image(data, "folder/a.dcm")
    assert str(refused.value).startswith("folder/a.dcm: ") and "\n" not in str(refused.value)


def test_a_file_cut_anywhere_is_refused():
    data = dicom(RAMP[:8, :8])
    for length in range(0, len(data), 3):
        with pytest.raises(InputError, match=r"^a.dcm: "):
            decode_image(data[:length], "a.dcm")


def test_lossless_compression_that_can_be_undone():
    from pydicom import dcmread

    ds = dcmread(io.BytesIO(dicom()))
    ds.compress(RLELossless)
    buffer = io.BytesIO()
    dcmwrite(buffer, ds)
    np.testing.assert_array_equal(decode_dicom(buffer.getvalue(), "a"), decode_dicom(dicom(), "a"))


def test_dicom_is_known_by_its_mark_or_its_name():
    np.testing.assert_array_equal(decode_image(dicom(), "1.2.840.17"), decode_dicom(dicom(), "a.dcm"))
    with pytest.raises(InputError, match=r"^x\.DCM: not a DICOM file"):
        decode_image(b"\x89PNG", "x.DCM")
    with pytest.raises(InputError, match=r"^m.png: a mask cannot be DICOM; export it as"):
        decode_mask(dicom(), "m.png")


# --- data sets of DICOM files ----------------------------------------------------------------------------------------


def hospital(root: Path, *, spacing: str = "", side: str = "", **elements) -> Path:
    """A folder of one DICOM file 48 px high and 64 wide, its masks and a manifest with these two cells."""
    root.mkdir()
    (root / "a").write_bytes(dicom(RAMP[:48], **elements))
    for part, rows in (("lower", slice(26, 48)), ("upper", slice(2, 24))):
        mask = np.zeros((48, 64), dtype=bool)
        mask[rows, 20:44] = True
        write_mask(root / f"{part}.png", mask)
    (root / "manifest.csv").write_text(f"image,lower,upper,side,spacing_mm\na,lower.png,upper.png,{side},{spacing}\n")
    return root


def test_the_header_fills_empty_cells(tmp_path):
    root = hospital(tmp_path / "d", ImagerPixelSpacing=[0.15, 0.15], ImageLaterality="L")
    (joint,) = open_dataset(root)
    assert (joint.spacing_mm, joint.spacing_from, joint.side) == (0.15, "detector", "L")
    image, spacing = read_radiograph(root / "a")
    assert torch.equal(image, joint.image) and spacing == 0.15
    (joint,) = open_dataset(hospital(tmp_path / "e"))
    assert (joint.spacing_mm, joint.spacing_from, joint.side) == (None, None, None)
    (joint,) = open_dataset(
        hospital(tmp_path / "f", spacing="0.151", side="R", PixelSpacing=[0.15] * 2, Laterality="L")
    )
    assert (joint.spacing_mm, joint.spacing_from, joint.side) == (0.151, "patient", "R")  # what a user wrote stands


def test_a_spacing_that_contradicts_the_header_is_refused(tmp_path):
    root = hospital(tmp_path / "d", spacing="0.152", PixelSpacing=[0.15, 0.15])
    with pytest.raises(InputError, match=r"/a: the list says 0.152 mm a pixel and the header 0.15; correct spacing_mm"):
        open_dataset(root)[0]


def test_masks_follow_the_image_to_square_pixels(tmp_path):
    """Rows twice as far apart as columns: the image and the masks become twice as high."""
    dataset = open_dataset(hospital(tmp_path / "d", PixelSpacing=[0.2, 0.1]))
    (joint,) = dataset
    assert joint.image.shape == (1, 96, 64) and joint.spacing_mm == 0.1
    drawn = decode_mask((tmp_path / "d" / "lower.png").read_bytes(), "m")
    assert torch.equal(joint.masks[1].bool(), torch.from_numpy(drawn.repeat(2, axis=0)))
    packed = open_dataset(pack(dataset, tmp_path / "d.safetensors"))
    assert torch.equal(packed[0].masks, joint.masks) and torch.equal(packed[0].image, joint.image)
    assert (packed[0].spacing_mm, packed[0].spacing_from) == (0.1, "patient")
    assert packed.fingerprint() == dataset.fingerprint()


def test_masks_are_drawn_at_the_stored_size(tmp_path):
    root = hospital(tmp_path / "d", PixelSpacing=[0.2, 0.1])
    write_mask(root / "lower.png", np.eye(96, 64, dtype=bool))
    with pytest.raises(InputError, match=r"lower.png: the mask is 64 x 96 px and its image 64 x 48; export both"):
        open_dataset(root)[0]
