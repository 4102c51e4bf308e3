"""Data sets of joints: BLS-GAN, RAM-H1200, a folder with a manifest, or one packed file; each gives `Joint`.

A split holds whole joints: all visits of a joint are on one side, and all joints of a person where persons are known.
Masks come as they were drawn; training widens them.
"""

from pathlib import Path

import torch

from lsn_core.check import Finding, check
from lsn_core.dataset import JointDataset
from lsn_core.files import InputError, read_bytes
from lsn_core.images import decode_header, decode_image
from lsn_core.layouts import listing, of_split
from lsn_core.manifest import COLUMNS, MANIFEST
from lsn_core.pack import pack
from lsn_core.rows import Folder, Row

__all__ = [
    "COLUMNS",
    "MANIFEST",
    "Finding",
    "Folder",
    "JointDataset",
    "Row",
    "check",
    "open_dataset",
    "pack",
    "read_radiograph",
]


def open_dataset(path: str | Path, *, split: str = "test") -> JointDataset:
    """Open a split of a packed file, of a folder with a manifest.csv, of BLS-GAN or of RAM-H1200.

    Splits: "train", "test", "all"; the BLS-GAN release also has "overlap_train", "nonoverlap_test" and so on (K1
    lists). Raises `InputError` for a missing path, an unknown layout, a manifest with a wrong line, an empty split or
    a listed file that is missing.
    """
    listed, store = listing(Path(path))
    wrong = [reason for reasons in listed.wrong.values() for reason in reasons]
    if wrong:
        rest = f"; {len(wrong) - 1} more things are wrong, which 'lsn data check' lists" if len(wrong) > 1 else ""
        raise InputError(wrong[0] + rest)
    rows = of_split(Path(path), listed, split)
    missing = [file for row in rows for file in store.missing(row)]
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}{rest}: listed but not there; restore the file, or take it off the list")
    return JointDataset(rows, store)


def read_radiograph(path: str | Path) -> tuple[torch.Tensor, float | None]:
    """Read one radiograph: image (1, h, w) in [0, 1] with square pixels, and their spacing in mm.

    The spacing is a DICOM header's, None where there is none, as in raster files. Raises `InputError`.
    """
    encoded = read_bytes(Path(path)), str(path)
    return torch.from_numpy(decode_image(*encoded))[None], decode_header(*encoded).spacing_mm
