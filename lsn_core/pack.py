"""One file that holds a whole data set: bare images, 1-bit masks, and the rows without what only a header knew."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from lsn_core.dataset import JointDataset
from lsn_core.files import InputError, atomic
from lsn_core.images import encode_mask
from lsn_core.metadata import bare
from lsn_core.rows import PARTS, Row

PACK_FORMAT = "lsn-pack-1"
SUFFIX = ".safetensors"


class Pack:
    """Encoded files inside one memory-mapped safetensors file."""

    def __init__(self, path: Path, spans: dict[str, list[int]]) -> None:
        """`spans` gives, for each row's name, where its image, lower and upper mask begin and the last one ends."""
        self.path, self.spans = path, spans
        self.bytes = safe_open(path, framework="numpy").get_slice("bytes")

    def where(self, row: Row, part: str) -> str:
        """How messages name a part: by the pack and the original's path."""
        return f"{self.path}:{getattr(row, part)}"

    def read(self, row: Row, part: str) -> bytes:
        """Encoded bytes of a row's "image", "lower" or "upper"."""
        k = PARTS.index(part)
        return self.bytes[self.spans[row.name][k] : self.spans[row.name][k + 1]].tobytes()

    def missing(self, row: Row) -> list[str]:
        """A pack lacks nothing."""
        return []


def pack(dataset: JointDataset, path: Path) -> Path:
    """Write all joints to one .safetensors file: the images' pixels without their metadata, and 1-bit masks.

    Of a DICOM header, spacing and side are kept; what the rows say (names of files, joints, subjects) is kept as it is.
    Every joint is decoded first, so a pack holds only what can be used. Raises `InputError` for the first that cannot.
    """
    refuse_name(path)
    chunks, spans, rows, end = [], {}, [], 0
    for row, parts in _packed(dataset):
        spans[row.name] = [end, *(end := end + len(part) for part in parts)]
        chunks += parts
        rows.append(asdict(row))
    blob = torch.frombuffer(bytearray(b"".join(chunks)), dtype=torch.uint8)
    header = {"format": PACK_FORMAT, "rows": json.dumps(rows), "spans": json.dumps(spans)}
    with atomic(path) as part:
        part.write_bytes(save({"bytes": blob}, header))
    return Path(path)


def refuse_name(path: Path) -> None:
    """Raise `InputError` for a file that is not called as a packed data set is."""
    if Path(path).suffix != SUFFIX:
        raise InputError(f"{path}: a packed data set is called NAME{SUFFIX}; give it that ending")


def _packed(dataset: JointDataset) -> Iterator[tuple[Row, list[bytes]]]:
    """Each row as it stands in a pack, and its encoded image, lower and upper mask."""
    for i, joint in enumerate(tqdm(dataset, desc="packing", unit="image", disable=None)):
        image, suffix = bare(*dataset.encoded(i, "image"))
        row = replace(dataset.rows[i], side=joint.side, spacing_mm=joint.spacing_mm, spacing_from=joint.spacing_from)
        names = {part: str(Path(getattr(row, part)).with_suffix(".png")) for part in ("lower", "upper")}
        row = replace(row, image=str(Path(row.image).with_suffix(suffix)), **names)
        yield row, [image, *(encode_mask(mask.numpy() > 0) for mask in joint.masks[1:])]


def pack_rows(path: Path) -> tuple[list[Row], Pack]:
    """Rows of a packed file. Raises `InputError` where it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a packed data set ({error}); write one with 'lsn data pack'") from error
    if header.get("format") != PACK_FORMAT:
        raise InputError(f"{path}: format {header.get('format')!r} is not {PACK_FORMAT}; pack it again")
    rows = [Row(**{**row, "splits": tuple(row["splits"])}) for row in json.loads(header["rows"])]
    return rows, Pack(path, json.loads(header["spans"]))
