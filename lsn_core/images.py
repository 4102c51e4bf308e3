"""Reading and writing one image: display values in [0, 1] from rasters and DICOM, masks from two-valued rasters."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lsn_core.dicom import DICOM_SUFFIXES, Header, decode_dicom, is_dicom, read_header, resize
from lsn_core.files import InputError, atomic, read_bytes

WHITE_IS_ZERO_TAG = 262  # TIFF's PhotometricInterpretation; 0 means that 0 is white
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy")  # of masks; images may be DICOM too
OWN_MODES = ("1", "L", "I;16", "I;16B", "F")  # Pillow's, of pixels that are taken as they are
COLOURED = 48  # levels of 255 between a pixel's channels that JPEG does not make of grey
UNDECIDED = 0.25  # share of a mask's pixels between a quarter and three quarters of white: soft edges have fewer
INVERTED = 0.7  # share of the frame's edge that no bone covers


def stem(path: Path) -> str:
    """A file's name without its suffix; the last number of a DICOM UID is none."""
    return path.name if path.suffix[1:].isdigit() else path.stem


def read_image(path: Path) -> np.ndarray:
    """Read a radiograph as float32 (h, w) in [0, 1]; colour is converted to grey. Raises `InputError`."""
    return decode_image(read_bytes(path), str(path))


def read_mask(path: Path) -> np.ndarray:
    """Read a mask as bool (h, w). Raises `InputError`."""
    return decode_mask(read_bytes(path), str(path))


def decode_header(data: bytes, name: str) -> Header:
    """What the bytes of an image say beside its pixels: nothing, unless they are DICOM. Raises `InputError`."""
    return read_header(data, name) if is_dicom(data, name) else Header()


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a DICOM file, a raster image or a .npy array to float32 (h, w) in [0, 1].

    Integers of rasters are divided by the largest value of their type, so 255 and 65535 are white. `name` appears in
    errors: `InputError` for what cannot be decoded, for values that are not finite or outside [0, 1], for other shapes.
    """
    if is_dicom(data, name):
        return decode_dicom(data, name)
    pixels = decode_pixels(data, name)
    if pixels.dtype == bool or np.issubdtype(pixels.dtype, np.integer):
        top = 1 if pixels.dtype == bool else np.iinfo(pixels.dtype).max
        return (pixels / top).astype(np.float32)
    if pixels.min() < 0 or pixels.max() > 1:
        span = f"{pixels.min():g} to {pixels.max():g}"
        raise InputError(f"{name}: floating-point values run from {span}; scale them to 0 (black) to 1 (white)")
    return pixels.astype(np.float32)


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """Decode a mask to bool (h, w): above half of its largest value.

    Raises `InputError` for an empty, a full or an inverted one, and for a picture that is not black and white.
    """
    if is_dicom(data, name):
        raise InputError(f"{name}: a mask cannot be DICOM; export it as a black and white PNG")
    pixels = decode_pixels(data, name, grey=_uncoloured)
    white = pixels.max()
    mask = pixels > white / 2
    if not mask.any():
        raise InputError(f"{name}: the mask is all black; draw the bone in white, or take the joint off the list")
    if mask.all():
        raise InputError(f"{name}: the mask covers the whole frame; draw only the bone in white")
    rim = np.concatenate((mask[0], mask[-1], mask[:, 0], mask[:, -1])).mean()
    if rim > INVERTED:
        raise InputError(f"{name}: {rim:.0%} of the frame's edge is white; draw the bone in white on black: invert it")
    between = np.mean((pixels > white / 4) & (pixels < 0.75 * white))
    if between > UNDECIDED:
        raise InputError(f"{name}: {between:.0%} of the mask is grey; draw the bone in white on black")
    return mask


def fit_mask(mask: np.ndarray, image: np.ndarray, header: Header, name: str) -> np.ndarray:
    """A mask on the pixels of its decoded image. Raises `InputError` where it was not drawn at the stored size."""
    height, width = header.stored or image.shape
    if mask.shape != (height, width):
        sizes = f"{mask.shape[1]} x {mask.shape[0]} px and its image {width} x {height}"
        raise InputError(f"{name}: the mask is {sizes}; export both at the same size")
    return resize(mask, image.shape)


def decode_pixels(
    data: bytes, name: str, *, grey: Callable[[Image.Image, str], Image.Image] | None = None
) -> np.ndarray:
    """A raster's or .npy array's own numbers as (h, w): bool, 8- or 16-bit integers, or finite floats.

    `grey` converts the pictures whose form is none of these. Raises `InputError`.
    """
    pixels = _npy(data, name) if name.lower().endswith(".npy") else _raster(data, name, grey or _grey)
    if not np.isfinite(pixels).all():
        raise InputError(f"{name}: {np.sum(~np.isfinite(pixels))} values are NaN or infinite; export the image again")
    return pixels


def _raster(data: bytes, name: str, grey: Callable[[Image.Image, str], Image.Image]) -> np.ndarray:
    """A raster's own numbers as (h, w)."""
    if not data:
        raise InputError(f"{name}: the file is empty, 0 bytes; copy it again from its source")
    try:
        with Image.open(io.BytesIO(data)) as image:
            _refuse_pages(image, name)
            image.load()
            return _upright(np.asarray(image if image.mode in OWN_MODES else grey(image, name)), image)
    except UnidentifiedImageError:
        known = ", ".join((*SUFFIXES, DICOM_SUFFIXES[0]))
        raise InputError(f"{name}: not an image that can be read; convert it to one of {known}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: the image is damaged ({error}); copy it again from its source") from error


def _refuse_pages(image: Image.Image, name: str) -> None:
    """Raise `InputError` for several pictures in one file; a camera's JPEG may hold its preview."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":
        raise InputError(f"{name}: holds {pages} pictures; save each to a file of its own")


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """16-bit TIFF whose white is zero, turned over; Pillow does so itself with 8 bits."""
    tags = getattr(image, "tag_v2", {})
    return 65535 - pixels if pixels.dtype == np.uint16 and tags.get(WHITE_IS_ZERO_TAG) == 0 else pixels


def _grey(image: Image.Image, name: str) -> Image.Image:
    """Colour to 8-bit grey; 16 bits kept in a 32-bit mode become 16-bit again."""
    if image.mode != "I":
        return image.convert("L")
    low, high = image.getextrema()
    if low < 0 or high > 65535:
        raise InputError(f"{name}: integers run from {low} to {high}; export the image with 8 or 16 bits a pixel")
    return Image.fromarray(np.asarray(image).astype(np.uint16))


def _uncoloured(image: Image.Image, name: str) -> Image.Image:
    """As `_grey`, of a mask: raises `InputError` for colours, which may stand for several bones."""
    if image.mode != "I" and np.ptp(np.asarray(image.convert("RGB")), axis=-1).max() > COLOURED:
        raise InputError(f"{name}: the mask is coloured; draw one bone in white on black, each in a file of its own")
    return _grey(image, name)


def _npy(data: bytes, name: str) -> np.ndarray:
    """A numeric array (h, w), or (1, h, w) as this package's own images are."""
    try:
        pixels = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{name}: not a numeric .npy array ({error}); save it with numpy.save") from error
    pixels = pixels[0] if pixels.ndim == 3 and len(pixels) == 1 else pixels
    if pixels.ndim != 2 or not pixels.size or pixels.dtype.kind not in "buf":
        shape = f"{pixels.dtype} array of shape {pixels.shape}"
        raise InputError(f"{name}: holds a {shape}; save one image (h, w) as float32, uint8 or uint16")
    return pixels


def encode_mask(mask: np.ndarray) -> bytes:
    """A bool mask (h, w) as the bytes of a 1-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_mask(path: Path, mask: np.ndarray) -> Path:
    """Write a bool mask (h, w) as a 1-bit PNG, atomically."""
    with atomic(path) as part:
        part.write_bytes(encode_mask(mask))
    return Path(path)


def write_image(path: Path, image: np.ndarray) -> Path:
    """Write display values (h, w) in [0, 1] as a 16-bit PNG, atomically; values outside are clipped."""
    levels = np.round(np.clip(image, 0, 1) * 65535).astype(np.uint16)
    with atomic(path) as part:
        Image.fromarray(levels).save(part, format="PNG")
    return Path(path)
