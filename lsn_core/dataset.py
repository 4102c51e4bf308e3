"""A list of joints that are decoded when asked for."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from lsn_core.dicom import Header, resize
from lsn_core.files import InputError
from lsn_core.images import decode_header, decode_image, decode_mask, fit_mask
from lsn_core.joint import Joint
from lsn_core.masks import hand_mask
from lsn_core.metadata import content
from lsn_core.rows import Row, Store

AGREEMENT = 0.01  # relative difference up to which a listed spacing is the header's
KNOWN = (
    "name",
    "joint",
    "subject",
    "finger",
    "side",
    "spacing_mm",
    "spacing_from",
    "jsw_mm",
)  # of a joint, from its row


class JointDataset(Dataset):
    """A list of joints, decoded when asked for; `dataset[i]` is a `Joint` at its own size."""

    def __init__(self, rows: list[Row], store: Store) -> None:
        """Rows and where their bytes are."""
        self.rows, self.store = rows, store

    def __len__(self) -> int:
        """How many radiographs."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Joint]:
        """The joints in their order."""
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Joint:
        """Decode one joint. Raises `InputError` where a file of it cannot be used."""
        image, header = self.image(index)
        row = self.described(index, header)
        lower, upper = (self.mask(index, part, image, header) for part in ("lower", "upper"))
        masks = np.stack((hand_mask(image) | lower | upper, lower, upper)).astype(np.float32)
        return Joint(
            torch.from_numpy(image)[None], torch.from_numpy(masks), **{key: getattr(row, key) for key in KNOWN}
        )

    def encoded(self, index: int, part: str) -> tuple[bytes, str]:
        """The encoded bytes of a radiograph's "image", "lower" or "upper", and how messages name them."""
        row = self.rows[index]
        return self.store.read(row, part), self.store.where(row, part)

    def image(self, index: int) -> tuple[np.ndarray, Header]:
        """One radiograph, float32 (h, w) in [0, 1], and what its file says of it. Raises `InputError`."""
        encoded = self.encoded(index, "image")
        return decode_image(*encoded), decode_header(*encoded)

    def mask(self, index: int, part: str, image: np.ndarray, header: Header) -> np.ndarray:
        """The mask of an image's "lower" or "upper" bone, bool (h, w). Raises `InputError`."""
        data, where = self.encoded(index, part)
        return fit_mask(decode_mask(data, where), image, header, where)

    def described(self, index: int, header: Header) -> Row:
        """A row with what the image's header adds. Raises `InputError` where the two contradict each other."""
        row = self.rows[index]
        side = row.side or header.side
        if header.spacing_mm is None:
            return replace(row, side=side)
        if row.spacing_mm is None:
            return replace(row, side=side, spacing_mm=header.spacing_mm, spacing_from=header.spacing_from)
        if abs(row.spacing_mm / header.spacing_mm - 1) > AGREEMENT:
            both = f"the list says {row.spacing_mm:g} mm a pixel and the header {header.spacing_mm:g}"
            raise InputError(f"{self.store.where(row, 'image')}: {both}; correct spacing_mm, or leave it empty")
        return replace(row, side=side, spacing_from=row.spacing_from or header.spacing_from)

    def subset(self, keep: set[str]) -> "JointDataset":
        """The radiographs of the joints named in `keep`, with all their visits."""
        return JointDataset([row for row in self.rows if row.joint in keep], self.store)

    def fingerprint(self) -> str:
        """SHA-256 over names, images and decoded masks: the same for a folder and its pack."""
        digest = hashlib.sha256()
        for i, row in enumerate(self.rows):
            encoded = self.encoded(i, "image")
            digest.update(row.name.encode() + content(*encoded))
            shape = decode_header(*encoded).shape
            for part in ("lower", "upper"):
                mask = decode_mask(*self.encoded(i, part))
                digest.update(np.packbits(resize(mask, shape or mask.shape)))
        return digest.hexdigest()
