"""Everything that is wrong with a data set, found in one go."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lsn_core.dataset import JointDataset
from lsn_core.dicom import Header
from lsn_core.files import InputError
from lsn_core.images import decode_mask
from lsn_core.layouts import listing, of_split
from lsn_core.rows import PARTS, Row

MIN_SIDE = 16  # px, below which a joint cannot be told from another
SAME_BONE = 0.7  # overlap as a share of the smaller mask: drawn right, bones of one joint overlap by half at most
MIN_CONTRAST = 0.05  # white less black of an image; radiographs of joints have more than 0.6
MIN_BONE = 0.01  # of the frame, below which a mask is a slip of the pen


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one radiograph."""

    name: str  # the radiograph's, or its line of the manifest
    reason: str  # one sentence: file, what is wrong, remedy
    usable: bool = False  # it can be decoded, but it hardly is what it should be


@dataclass(frozen=True)
class Survey:
    """A data set and all that is wrong with it."""

    dataset: JointDataset  # what the list's good lines name
    good: list[Row]  # of its rows, those about which nothing was found, with what the images' headers add
    findings: list[Finding]

    @property
    def total(self) -> int:
        """How many radiographs were meant: those listed, and the lines that list none."""
        return len(self.dataset) + len(
            {finding.name for finding in self.findings} - {row.name for row in self.dataset.rows}
        )

    def spacings(self) -> str:
        """Of how many good radiographs millimetres are known, and of how many only the detector's."""
        known = [row for row in self.good if row.spacing_mm is not None]
        magnified = sum(row.spacing_from == "detector" for row in known)
        rest = f", of {magnified} at the detector, where a hand is shown magnified" if magnified else ""
        return f"pixel spacing known of {len(known)}{rest}"

    def refuse_bad(self) -> None:
        """Raise `InputError` with the first reason and the count, unless every radiograph can be used."""
        reasons = [finding.reason for finding in self.findings if not finding.usable]
        bad = {finding.name for finding in self.findings if not finding.usable}
        if len(bad) > 1:
            raise InputError(f"{reasons[0]}; {len(bad)} of {self.total} cannot be used, which 'lsn data check' lists")
        if reasons:
            raise InputError(reasons[0])


def survey(path: Path, *, split: str = "all") -> Survey:
    """Find all that is wrong with the list of a data set, with its files and with its masks.

    Raises `InputError` where there is no data set, or no such split. Wrong lines count for every split.
    """
    listed, store = listing(path)
    dataset = JointDataset(of_split(path, listed, split), store)
    wrong = [Finding(line, reason) for line, reasons in listed.wrong.items() for reason in reasons]
    good, findings = _examined(dataset)
    return Survey(dataset, good, wrong + findings)


def check(dataset: JointDataset) -> list[Finding]:
    """All that is wrong with the files of a data set, and with what they show."""
    return _examined(dataset)[1]


def _examined(dataset: JointDataset) -> tuple[list[Row], list[Finding]]:
    """The rows about which nothing is to be said, as the headers describe them, and all that is about the others."""
    good, findings = [], []
    for index in tqdm(range(len(dataset)), desc="checking", unit="image", disable=None):
        row, image, masks, reasons = _decoded(dataset, index)
        where = {part: dataset.store.where(row, part) for part in PARTS}
        reasons += [] if image is None else _useless(image, where["image"])
        doubts = _misdrawn(*masks, where) if len(masks) == 2 and not reasons else []
        told = [Finding(row.name, r) for r in reasons] + [Finding(row.name, d, usable=True) for d in doubts]
        findings += told
        good += [] if told else [row]
    return good, findings


def _decoded(dataset: JointDataset, index: int) -> tuple[Row, np.ndarray | None, list[np.ndarray], list[str]]:
    """A row as its header describes it, the image and the masks that fit it, and why a file of them cannot be used."""
    row, store = dataset.rows[index], dataset.store
    missing = store.missing(row)
    reasons = [f"{file}: listed but not there; restore the file, or take it off the list" for file in missing]
    image, header, masks = None, Header(), []
    for part in (part for part in PARTS if store.where(row, part) not in missing):
        try:
            if part == "image":
                image, header = dataset.image(index)
                row = dataset.described(index, header)
            elif image is None:
                decode_mask(*dataset.encoded(index, part))
            else:
                masks.append(dataset.mask(index, part, image, header))
        except InputError as error:
            reasons.append(str(error))
    return row, image, masks, reasons


def _useless(image: np.ndarray, where: str) -> list[str]:
    """Why an image (h, w) shows no joint, though it can be decoded."""
    height, width = image.shape
    if min(height, width) < MIN_SIDE:
        return [f"{where}: the image is {width} x {height} px; export it with at least {MIN_SIDE} px a side"]
    if np.ptp(image) < MIN_CONTRAST:
        return [f"{where}: the image is the same grey all over; export the radiograph again"]
    return []


def on_one_bone(lower: np.ndarray, upper: np.ndarray) -> bool:
    """Whether two masks, bool (h, w), are drawn on the same bone."""
    return bool((lower & upper).sum() > SAME_BONE * min(lower.sum(), upper.sum()))


def _misdrawn(lower: np.ndarray, upper: np.ndarray, where: dict[str, str]) -> list[str]:
    """Why two masks (h, w) hardly are of the two bones of one joint."""
    drawn = {"lower": lower, "upper": upper}
    specks = [part for part in drawn if drawn[part].mean() < MIN_BONE]
    if specks:
        small = f"the mask covers less than {MIN_BONE:.0%} of the frame; draw the whole bone"
        return [f"{where[part]}: {small}" for part in specks]
    if on_one_bone(lower, upper):
        return [f"{where['upper']}: it lies on the bone of the lower mask; redraw the one that is on the wrong bone"]
    if np.nonzero(lower)[0].mean() <= np.nonzero(upper)[0].mean():
        return [f"{where['upper']}: not above the lower mask; swap or redraw the two, or turn the image"]
    return []
