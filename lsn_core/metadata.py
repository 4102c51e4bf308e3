"""Encoded images without anything but their pixels: names, dates and comments do not get into a packed data set."""

import io
import struct
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np
from PIL import Image

from lsn_core.dicom import decode_dicom, is_dicom
from lsn_core.images import decode_pixels

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
CHUNKS = (b"IHDR", b"PLTE", b"IDAT")  # of a PNG, what its pixels are made of
IEND = b"\0\0\0\0IEND\xaeB`\x82"
APP0, APP14, APP15, COMMENT, SCAN, END = 0xE0, 0xEE, 0xEF, 0xFE, 0xDA, 0xD9  # markers of a JPEG
EOI = bytes((0xFF, END))
KEPT = {APP0: (b"JFIF\0", 14), APP14: (b"Adobe", 12)}  # of a JPEG's own segments: how colours are meant, and no more
NO_SEGMENT = {0x00, 0x01, 0xFF, *range(0xD0, 0xD8)}  # after 0xFF: stuffed and fill bytes, restarts in a scan


def bare(data: bytes, name: str) -> tuple[bytes, str]:
    """The same pixels without metadata, and the suffix of the new form. Raises `InputError`.

    JPEG and PNG lose the parts that are no pixels and are not encoded again; a .npy array of floats is rewritten; all
    else becomes PNG, DICOM in 16 bits.
    """
    if is_dicom(data, name):
        return encode_pixels(np.round(decode_dicom(data, name) * 65535).astype(np.uint16))
    if data.startswith(PNG):
        return PNG + b"".join(_chunks(data)), ".png"
    if data.startswith(JPEG):
        return JPEG + b"".join(_segments(data)), PurePath(name).suffix
    return encode_pixels(decode_pixels(data, name))


def content(data: bytes, name: str) -> bytes:
    """What makes an image this image, for hashing: a JPEG's bytes (decoders differ in the last level), else its pixels.

    The same before and after `bare`.
    """
    if data.startswith(JPEG):
        return bare(data, name)[0]
    if is_dicom(data, name):
        pixels = np.round(decode_dicom(data, name) * 65535).astype(np.uint16)
    else:
        pixels = decode_pixels(data, name)
    return f"{pixels.shape}{pixels.dtype.name}".encode() + pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()


def encode_pixels(pixels: np.ndarray) -> tuple[bytes, str]:
    """Pixels (h, w) as PNG where PNG can hold them (bool, uint8, uint16), else as .npy; with the suffix."""
    buffer = io.BytesIO()
    if pixels.dtype.name not in ("bool", "uint8", "uint16"):
        np.save(buffer, pixels)
        return buffer.getvalue(), ".npy"
    Image.fromarray(pixels.astype(pixels.dtype.newbyteorder("="))).save(buffer, format="PNG")
    return buffer.getvalue(), ".png"


def _chunks(data: bytes) -> Iterator[bytes]:
    """A PNG's critical chunks, up to its end."""
    at = len(PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IEND":
            break
        if kind in CHUNKS:
            yield data[at : at + 12 + length]
        at += 12 + length
    yield IEND


def _segments(data: bytes) -> Iterator[bytes]:
    """A JPEG's segments and scans, up to its end; what lies between them is skipped, as decoders do."""
    at = data.find(b"\xff", len(JPEG))
    while 0 <= at < len(data) - 3 and (marker := data[at + 1]) != END:
        if marker in NO_SEGMENT:
            at = data.find(b"\xff", at + 1)
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield _kept(marker, data[at:end])
        at = _after_scan(data, end) if marker == SCAN else data.find(b"\xff", end)
        yield data[end:at] if marker == SCAN else b""
    yield EOI


def _kept(marker: int, segment: bytes) -> bytes:
    """A segment as it is, a comment or an application's own as nothing, JFIF and Adobe cut to what they must say."""
    if marker != COMMENT and not APP0 <= marker <= APP15:
        return segment
    label, length = KEPT.get(marker, (b"", 0))
    body = segment[4 : 4 + length]
    if not label or not body.startswith(label) or len(body) < length:
        return b""
    body = body[:12] + b"\0\0" if marker == APP0 else body  # a JFIF thumbnail of 0 x 0
    return bytes((0xFF, marker)) + (length + 2).to_bytes(2, "big") + body


def _after_scan(data: bytes, start: int) -> int:
    """Where the entropy-coded data from `start` on ends: at a marker that is neither a restart nor a stuffed byte."""
    at = start
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        if data[at + 1] not in NO_SEGMENT:
            return at
        at += 1
    return len(data)
