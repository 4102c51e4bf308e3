"""A user's own images: found below a folder with their masks, and listed in a manifest.csv."""

import csv
import glob
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lsn_core.dicom import DICOM_SUFFIXES, MAGIC, Header
from lsn_core.files import InputError, read_bytes, write_text
from lsn_core.images import SUFFIXES, decode_header, stem
from lsn_core.manifest import COLUMNS, MANIFEST

MASK = re.compile(r"_mask_\w+$")  # how the stem of a mask ends
UNKNOWN_SUBJECTS = "no subject is known, so joints of one person may be in both splits; give --subject REGEX"
TESTED = 0.25  # share of persons, or of joints where no person is known, for the test split


@dataclass(frozen=True)
class Inventory:
    """What was found below a folder and written to its manifest."""

    lines: list[dict[str, str]]  # of the manifest, by column
    lacking: dict[str, list[str]]  # images that are not listed -> the masks that they lack

    def told(self) -> list[str]:
        """What a user should know of it, a line each."""
        measured = Counter(line["spacing_from"] for line in self.lines)
        splits = Counter(line["split"] for line in self.lines)
        groups = {column: len({line[column] for line in self.lines} - {""}) for column in ("joint", "subject")}
        lines = [
            f"{len(self.lines)} images with both masks, {groups['joint']} joints, {groups['subject']} subjects",
            f"pixel spacing known of {len(self.lines) - measured['']}: "
            f"{measured['patient']} calibrated at the patient, {measured['detector']} at the detector",
            "splits: " + ", ".join(f"{split} {number}" for split, number in sorted(splits.items())),
        ]
        return lines + [f"left out: {image} has no mask_{' and no mask_'.join(m)}" for image, m in self.lacking.items()]


def take_inventory(root: Path, *, subject: str | None = None, force: bool = False) -> Inventory:
    """Find all images below `root` that have both masks beside them, and list them in its manifest.csv.

    A folder below `root` holds the visits of one joint; an image in `root` itself is a joint. `subject` is a regular
    expression whose one group is the person's part of an image's path. Raises `InputError` where the manifest exists
    already and `force` is not given, where nothing is found, and where a path does not match `subject`.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the images and their masks")
    if (root / MANIFEST).exists() and not force:
        raise InputError(f"{root / MANIFEST}: exists already; keep it, or replace it with --force")
    pattern = _pattern(subject)
    lines, lacking = [], {}
    for path in images_below(root):
        masks = {part: mask_beside(path, part) for part in ("lower", "upper")}
        absent = [part for part, mask in masks.items() if mask is None]
        if absent:
            lacking[path.relative_to(root).as_posix()] = absent
        else:
            lines.append(_line(root, path, masks, pattern))
    if not lines:
        raise InputError(f"{root}: no image has both masks; name them STEM_mask_lower.png and STEM_mask_upper.png")
    _refuse_twins(root, lines)
    _assign_splits(lines)
    _write(root / MANIFEST, lines)
    return Inventory(lines, lacking)


def images_below(root: Path) -> list[Path]:
    """All rasters, arrays and DICOM files below a folder that are not masks, in order; nothing hidden."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not MASK.search(stem(path))]
    visible = [path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    return [path for path in visible if _is_image(path)]


def _is_image(path: Path) -> bool:
    """By its suffix, or without one by the mark of DICOM."""
    if path.suffix.lower() in (*SUFFIXES, *DICOM_SUFFIXES):
        return True
    if path.suffix.lstrip(".").isalpha():
        return False
    with suppress(OSError), path.open("rb") as file:
        return file.read(MAGIC.stop)[MAGIC] == b"DICM"
    return False  # nobody may read it


def mask_beside(image: Path, part: str) -> Path | None:
    """The mask of a bone that lies beside an image, STEM_mask_lower.* or STEM_mask_upper.*."""
    candidates = sorted(image.parent.glob(f"{glob.escape(stem(image))}_mask_{part}.*"))
    return next((path for path in candidates if path.suffix.lower() in SUFFIXES), None)


def _pattern(subject: str | None) -> re.Pattern[str] | None:
    """The compiled regular expression. Raises `InputError` unless it is one with one group."""
    if subject is None:
        return None
    try:
        pattern = re.compile(subject)
    except re.error as error:
        raise InputError(f"--subject {subject!r}: not a regular expression ({error}); correct it") from None
    if pattern.groups != 1:
        raise InputError(f"--subject {subject!r}: has {pattern.groups} groups; put one around the person's part")
    return pattern


def _line(root: Path, path: Path, masks: dict[str, Path], pattern: re.Pattern[str] | None) -> dict[str, str]:
    """An image's line of the manifest, all but its split."""
    name = path.relative_to(root)
    header = _header(path)
    match = pattern.search(name.as_posix()) if pattern else None
    if pattern and not (match and match[1]):
        raise InputError(
            f"{path}: its path below {root} does not match --subject {pattern.pattern!r}; rename or move it"
        )
    person, folder = match[1] if match else "", name.parent.as_posix()
    alone = name.parent == Path()
    return dict.fromkeys(COLUMNS, "") | {
        "image": name.as_posix(),
        **{part: mask.relative_to(root).as_posix() for part, mask in masks.items()},
        "joint": stem(name) if alone else folder if person in folder else f"{person}/{folder}",
        "visit": "" if alone else stem(name),
        "subject": person,
        "side": header.side or "",
        "spacing_mm": f"{header.spacing_mm:.6g}" if header.spacing_mm else "",
        "spacing_from": header.spacing_from or "",
    }


def _header(path: Path) -> Header:
    """What an image says beside its pixels; nothing where it cannot be read, which `lsn data check` will tell."""
    try:
        return decode_header(read_bytes(path), str(path))
    except InputError:
        return Header()


def _refuse_twins(root: Path, lines: list[dict[str, str]]) -> None:
    """Raise `InputError` for images that differ in their suffixes only: they share their masks and their name."""
    first: dict[Path, str] = {}
    for line in lines:
        image = Path(line["image"])
        other = first.setdefault(image.parent / stem(image), line["image"])
        if other != line["image"]:
            raise InputError(f"{root / image}: {other} has the same name but for its suffix; move one of them away")


def _assign_splits(lines: list[dict[str, str]]) -> None:
    """Fill the column "split": whole persons go to the test where persons are known, else whole joints."""
    groups = [line["subject"] or line["joint"] for line in lines]
    tested = groups_for_test(groups)
    for line, group in zip(lines, groups, strict=True):
        line["split"] = "test" if group in tested else "train"


def groups_for_test(groups: Iterable[str]) -> set[str]:
    """About one in four by hash, so that a group stays where it is when others join it; of two or more at least one."""
    place = {group: int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32 for group in sorted(set(groups))}
    chosen = {group for group in place if place[group] < TESTED}
    if len(place) > 1 and len(chosen) in (0, len(place)):
        return {min(place, key=place.__getitem__)}
    return chosen if len(place) > 1 else set()


def _write(path: Path, lines: list[dict[str, str]]) -> None:
    """Write the manifest."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())
