"""What a data set lists, one row a radiograph, and where the encoded files of a row are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lsn_core.files import read_bytes

PARTS = ("image", "lower", "upper")  # of a row: what is stored of each radiograph, in this order


@dataclass(frozen=True)
class Row:
    """Where one radiograph and its masks are, and what is known about it."""

    name: str
    image: str  # path below the data set's folder, or in a pack the original's
    lower: str
    upper: str
    joint: str
    finger: str | None
    side: str | None
    spacing_mm: float | None
    splits: tuple[str, ...]
    subject: str | None = None  # the person, the same for all joints of one
    visit: str | None = None
    spacing_from: str | None = None  # "patient" or "detector": where a DICOM header measures; None: stated by hand
    jsw_mm: float | None = None  # of phantoms and synthetic joints, which know it


@runtime_checkable
class Store(Protocol):
    """Encoded files, looked up by row and part ("image", "lower" or "upper")."""

    def where(self, row: Row, part: str) -> str:
        """How messages name a part."""
        ...

    def read(self, row: Row, part: str) -> bytes:
        """The part's encoded bytes. Raises `InputError`."""
        ...

    def missing(self, row: Row) -> list[str]:
        """Files that the row names and the store does not have."""
        ...


class Folder:
    """Encoded files below a folder."""

    def __init__(self, root: Path) -> None:
        """Files are looked up below `root`."""
        self.root = root

    def where(self, row: Row, part: str) -> str:
        """How messages name a file: by its path."""
        return str(self.root / getattr(row, part))

    def read(self, row: Row, part: str) -> bytes:
        """Encoded bytes of a row's "image", "lower" or "upper"."""
        return read_bytes(self.root / getattr(row, part))

    def missing(self, row: Row) -> list[str]:
        """Paths that the row names and the folder does not have."""
        files = [self.where(row, part) for part in PARTS]
        return [file for file in files if not Path(file).exists()]
