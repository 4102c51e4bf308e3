"""DICOM: display values in [0, 1] and the three things a header may tell: spacing, where it was measured, and side.

The order is the standard's: modality (rescale), values of interest (window or LUT), and MONOCHROME1 inverted last.
"""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsn_core.files import InputError

MAGIC = slice(128, 132)  # where a DICOM file says "DICM"
DICOM_SUFFIXES = (".dcm", ".dicom")
BEYOND = 1e9  # further out than any window
SQUARE = 1e-3  # relative difference of row and column spacing below which pixels are square
AT_DETECTOR = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")
MAY_BE_EMPTY = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "NumberOfFrames", "VOILUTFunction")


@dataclass(frozen=True)
class Header:
    """What a file says beside its pixels; a raster file says nothing."""

    spacing_mm: float | None = None  # mm per square pixel of the decoded image
    spacing_from: str | None = None  # "patient": calibrated there; "detector": measured there, so lengths are magnified
    side: str | None = None  # "L" or "R"
    stored: tuple[int, int] | None = None  # (h, w) as stored, on which masks are drawn; None: as decoded
    shape: tuple[int, int] | None = None  # (h, w) as decoded, with square pixels


def is_dicom(data: bytes, name: str) -> bool:
    """Whether bytes are a DICOM file, whatever it is called, or `name` says that they should be."""
    return data[MAGIC] == b"DICM" or name.lower().endswith(DICOM_SUFFIXES)


def read_header(data: bytes, name: str) -> Header:
    """The header of a DICOM file. Raises `InputError` for what is no DICOM, or not one grey frame."""
    with _reading(name):
        return _header(_dataset(data, name, pixels=False))


def decode_dicom(data: bytes, name: str) -> np.ndarray:
    """One grey frame as float32 (h, w) in [0, 1] with square pixels, in steps of 1 / 65535. Raises `InputError`."""
    with _reading(name):
        ds = _dataset(data, name, pixels=True)
        _refuse_missing_decoder(ds, name)
        image = _display(ds)
        header = _header(ds)
    return np.round(resize(image, header.shape).clip(0, 1) * 65535).astype(np.float32) / np.float32(65535)


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample an image (h, w) bilinearly, or a bool mask by its nearest pixels, to `shape`; its own shape is exact."""
    from PIL import Image

    if image.shape == shape:
        return image
    method = Image.Resampling.NEAREST if image.dtype == bool else Image.Resampling.BILINEAR
    planes = image.astype(np.uint8 if image.dtype == bool else np.float32)
    return np.asarray(Image.fromarray(planes).resize(shape[::-1], method)).astype(image.dtype)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn whatever pydicom raises over a damaged file into an `InputError`; its warnings are no news to a user."""
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except InvalidDicomError:
        raise InputError(f"{name}: not a DICOM file (no DICM mark); copy it again, or export it as PNG") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise InputError(f"{name}: the DICOM is damaged ({reason}); export it again, uncompressed") from error


def _dataset(data: bytes, name: str, *, pixels: bool) -> Any:
    """The data set, without elements that are there but empty. Raises `InputError` unless it is one grey frame."""
    from pydicom import dcmread

    ds = dcmread(io.BytesIO(data), stop_before_pixels=not pixels)
    for keyword in MAY_BE_EMPTY:
        if keyword in ds and ds[keyword].is_empty:
            del ds[keyword]
    kind = ds.get("PhotometricInterpretation", "no image")
    if ds.get("SamplesPerPixel", 1) != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"{name}: the DICOM holds {kind}, not a grey radiograph; export the original radiograph")
    frames = int(ds.get("NumberOfFrames", 1))
    if frames != 1:
        raise InputError(f"{name}: the DICOM holds {frames} frames; export each radiograph to a file of its own")
    return ds


def _refuse_missing_decoder(ds: Any, name: str) -> None:
    """Raise `InputError` where the pixels are compressed in a way that nothing installed here can undo."""
    from pydicom.pixels import get_decoder

    syntax = ds.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        remedy = "export it uncompressed, or install pylibjpeg[all]"
        raise InputError(f"{name}: no decoder for the DICOM's compression ({syntax.name}); {remedy}")


def _display(ds: Any) -> np.ndarray:
    """Stored values as display values (h, w) in [0, 1]: modality, values of interest, then MONOCHROME1 inverted."""
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    values = apply_modality_lut(ds.pixel_array, ds)
    if ds.get("VOILUTSequence"):
        low, high = 0, 2 ** _widened(ds.VOILUTSequence[0]) - 1
        values = apply_voi(values, ds)
    elif "WindowCenter" in ds and "WindowWidth" in ds:
        with np.errstate(over="ignore"):  # far out on a sigmoid
            low, high = apply_windowing(np.array([-BEYOND, BEYOND]), ds)
            values = apply_windowing(values, ds)
    else:
        low, high = _span(ds)
    display = ((values - float(low)) / (float(high) - float(low))).clip(0, 1).astype(np.float32)
    return 1 - display if ds.PhotometricInterpretation == "MONOCHROME1" else display


def _widened(item: Any) -> int:
    """Bits of a LUT's entries; it is marked as 16-bit, because pydicom counts its entries in their own type."""
    entries, first, bits = item.LUTDescriptor
    item.LUTDescriptor = [entries, first, 16]
    return bits


def _span(ds: Any) -> tuple[float, float]:
    """Black and white where no window is given: the ends of what the stored bits can hold."""
    from pydicom.pixels import apply_modality_lut

    if ds.get("ModalityLUTSequence"):
        return 0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    lowest = -(2 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else 0
    ends = apply_modality_lut(np.array([lowest, lowest + 2**ds.BitsStored - 1]), ds)
    return float(ends.min()), float(ends.max())


def _header(ds: Any) -> Header:
    """Spacing of square pixels, where it was measured, side, and both shapes."""
    stored = (int(ds.Rows), int(ds.Columns))
    side = next((ds.get(k) for k in ("ImageLaterality", "Laterality") if ds.get(k) in ("L", "R")), None)
    pitch, measured = _pitch(ds)
    if pitch is None:
        return Header(side=side, stored=stored, shape=stored)
    fine = min(pitch)
    square = max(pitch) / fine < 1 + SQUARE
    shape = stored if square else tuple(round(n * p / fine) for n, p in zip(stored, pitch, strict=True))
    return Header(fine, measured, side, stored, shape)


def _pitch(ds: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Row and column spacing in mm with where it holds, "patient" or "detector"; (None, None) without any.

    A PixelSpacing that only repeats the detector's is not calibrated (PS3.3 10.7.1.3).
    """
    detector = next((pair for keyword in AT_DETECTOR if (pair := _pair(ds, keyword))), None)
    pixel = _pair(ds, "PixelSpacing")
    if pixel is None:
        return detector, "detector" if detector else None
    repeated = detector is not None and all(
        math.isclose(a, b, rel_tol=SQUARE) for a, b in zip(pixel, detector, strict=True)
    )
    return pixel, "detector" if repeated and not ds.get("PixelSpacingCalibrationType") else "patient"


def _pair(ds: Any, keyword: str) -> tuple[float, float] | None:
    """An element of two positive numbers, None where it is anything else: no millimetres rather than a guess."""
    value = ds.get(keyword)
    numbers = [float(number) for number in value] if value and not isinstance(value, float | str) else []
    usable = len(numbers) == 2 and all(0 < number < math.inf for number in numbers)
    return (numbers[0], numbers[1]) if usable else None
