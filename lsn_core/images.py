"""Reading and writing one image: display values in [0, 1] from any raster file, masks from any two-valued one."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lsn_core.files import InputError, atomic, read_bytes

WHITE_IS_ZERO_TAG = 262  # TIFF's PhotometricInterpretation; 0 means that 0 is white
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy")


def read_image(path: Path) -> np.ndarray:
    """Read a radiograph as float32 (h, w) in [0, 1]; colour is converted to grey. Raises `InputError`."""
    return decode_image(read_bytes(path), str(path))


def read_mask(path: Path) -> np.ndarray:
    """Read a mask as bool (h, w). Raises `InputError`."""
    return decode_mask(read_bytes(path), str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a raster image or a .npy array to float32 (h, w) in [0, 1].

    Integers are divided by the largest value of their type, so 255 and 65535 are white. `name` appears in errors:
    `InputError` for what cannot be decoded, for values that are not finite or outside [0, 1], for other shapes.
    """
    pixels = _pixels(data, name)
    if pixels.dtype == bool or np.issubdtype(pixels.dtype, np.integer):
        top = 1 if pixels.dtype == bool else np.iinfo(pixels.dtype).max
        return (pixels / top).astype(np.float32)
    if not np.isfinite(pixels).all():
        raise InputError(f"{name}: {np.sum(~np.isfinite(pixels))} values are NaN or infinite; export the image again")
    if pixels.min() < 0 or pixels.max() > 1:
        span = f"{pixels.min():g} to {pixels.max():g}"
        raise InputError(f"{name}: floating-point values run from {span}; scale them to 0 (black) to 1 (white)")
    return pixels.astype(np.float32)


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """Decode a mask to bool (h, w): above half of its largest value. Raises `InputError` for an empty or full one."""
    pixels = _pixels(data, name)
    mask = pixels > pixels.max() / 2
    if not mask.any():
        raise InputError(f"{name}: the mask is all black; draw the bone in white, or take the joint off the list")
    if mask.all():
        raise InputError(f"{name}: the mask covers the whole frame; draw only the bone in white")
    return mask


def _pixels(data: bytes, name: str) -> np.ndarray:
    """The file's own numbers as (h, w): 8- or 16-bit integers, bool or floats."""
    if name.lower().endswith(".npy"):
        return _npy(data, name)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            grey = image if image.mode in ("1", "L", "I;16", "I;16B", "F") else _grey(image, name)
            return _upright(np.asarray(grey), image)
    except UnidentifiedImageError:
        known = ", ".join(SUFFIXES)
        raise InputError(f"{name}: not an image that can be read; convert it to one of {known}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: the image is damaged ({error}); copy it again from its source") from error


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
