"""Readings of a visual Turing test: the CSV files that raters save, the key that tells the truth, and both as arrays.

The positive class is "synthetic" everywhere: a hit is a synthetic image that is called synthetic, a false alarm a real
one that is. A rating runs from 1 (surely real) over 5 and 6 (either, unsure) to 10 (surely synthetic).
"""

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from lsn_core.files import InputError, read_bytes, read_json

REAL, SYNTHETIC = "real", "synthetic"
FORMAT = "lsn-turing-key-1"
SIMULATED = "simulated"  # how the names of simulated readers begin, and of no one else
COLUMNS = ("set", "reader", "position", "image", "answer", "confidence", "seconds", "when")

Ratings = Float[np.ndarray, "readers images"]  # 1 to 10, NaN where an image was not read
Rating = Float[np.ndarray, " images"]  # those of one reader
Truth = Bool[np.ndarray, " images"]  # True where an image is synthetic


def _is_time(text: str) -> bool:
    """Whether `text` is an ISO time."""
    try:
        return bool(datetime.fromisoformat(text))
    except ValueError:
        return False


RULES: dict[str, tuple[Callable[[str], Any], str]] = {  # column: whether a value is right, and what would be
    "set": (re.compile("[0-9a-f]{64}").fullmatch, "the SHA-256 of a key, 64 hexadecimal digits"),
    "reader": (re.compile(r"\S(.*\S)?").fullmatch, "a reader's name"),
    "position": (re.compile("[0-9]{1,9}").fullmatch, "a whole number from 0"),
    "image": (re.compile(r"\S(.*\S)?").fullmatch, "an image's name"),
    "answer": (re.compile(f"{REAL}|{SYNTHETIC}").fullmatch, f'"{REAL}" or "{SYNTHETIC}"'),
    "confidence": (re.compile("[1-5]").fullmatch, "a whole number from 1 (unsure) to 5 (sure)"),
    "seconds": (re.compile(r"[0-9]{1,9}(\.[0-9]*)?").fullmatch, "seconds from 0, as 4.2"),
    "when": (_is_time, "an ISO time, as 2026-01-31T12:00:00Z"),
}


def is_simulated(reader: str) -> bool:
    """Whether a reader's name says that it is simulated."""
    return reader.lower().startswith(SIMULATED)


@dataclass(frozen=True)
class Reading:
    """One image, read by one reader; its fields are the columns of the CSV file, in their order."""

    set: str  # SHA-256 of the key file
    reader: str
    position: int  # at which this reader saw the image
    image: str
    answer: str  # "real" or "synthetic"
    confidence: int  # 1 unsure to 5 sure
    seconds: float  # from the image's appearance to the answer
    when: str  # ISO time of the answer

    @property
    def rating(self) -> int:
        """Answer and confidence as one number: 1 surely real, 5 and 6 unsure, 10 surely synthetic."""
        return 5 + self.confidence if self.answer == SYNTHETIC else 6 - self.confidence


@dataclass(frozen=True)
class Key:
    """The truth of one set of images, and the SHA-256 of its file, by which readings name their set."""

    sha256: str
    truth: dict[str, str]  # image: "real" or "synthetic"


@dataclass(frozen=True)
class Study:
    """Who read what, as arrays; the images in the order of the key."""

    readers: tuple[str, ...]
    images: tuple[str, ...]
    synthetic: Truth
    ratings: Ratings

    @property
    def says_synthetic(self) -> Bool[np.ndarray, "readers images"]:
        """Which answers are "synthetic"; False also where there is none (`ratings` is NaN there)."""
        return self.ratings > 5.5

    @property
    def right(self) -> Ratings:
        """1 where an answer is right, 0 where wrong, NaN where there is none."""
        return np.where(np.isnan(self.ratings), np.nan, self.says_synthetic == self.synthetic)

    @property
    def simulated(self) -> tuple[bool, ...]:
        """Which readers are simulated."""
        return tuple(map(is_simulated, self.readers))

    def complete(self) -> "Study":
        """The same readers on the images that all of them read."""
        kept = ~np.isnan(self.ratings).any(axis=0)
        images = tuple(image for image, keep in zip(self.images, kept, strict=True) if keep)
        return Study(self.readers, images, self.synthetic[kept], self.ratings[:, kept])

    def told(self) -> dict[str, str]:
        """How much each reader read: "98 of 100"."""
        counts = (~np.isnan(self.ratings)).sum(axis=1)
        return {name: f"{n} of {len(self.images)}" for name, n in zip(self.readers, counts, strict=True)}


def read_readings(path: Path) -> list[Reading]:
    """The readings of one CSV file, in its order; further columns are ignored.

    Raises `InputError` for a missing column, a value that breaks its rule, or an image that a reader read twice.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")  # spreadsheets write a byte order mark
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _refuse_missing_columns(path, lines.fieldnames or ())
        found = [_reading(row, f"{path}, line {lines.line_num}") for row in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); save it again from the rater") from error
    if not found:
        raise InputError(f"{path}: no readings below the header; save it again from the rater, or leave it out")
    _refuse_twice(found, str(path))
    return found


def _refuse_missing_columns(path: Path, names: Sequence[str]) -> None:
    """Raise `InputError` unless every column of `COLUMNS` is there."""
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        columns = ",".join(COLUMNS)
        raise InputError(f"{path}, line 1: no column {', '.join(missing)}; the header must hold {columns}")


def _reading(row: dict[Any, Any], place: str) -> Reading:
    """One line of a file as a reading. Raises `InputError` naming `place`."""
    if None in row:
        raise InputError(f"{place}: more values than columns ({','.join(row[None])!r} is left over); restore the line")
    for name, (accepts, meaning) in RULES.items():
        if row[name] is None or not accepts(row[name]):
            raise InputError(f"{place}: {name} is {row[name]!r}, and must be {meaning}; correct or remove the line")
    known = {name: row[name] for name in COLUMNS}
    numbers = {"position": int(row["position"]), "confidence": int(row["confidence"]), "seconds": float(row["seconds"])}
    return Reading(**known | numbers)


def _refuse_twice(readings: Iterable[Reading], place: str) -> None:
    """Raise `InputError` where one reader read an image twice."""
    seen: set[tuple[str, str]] = set()
    for one in readings:
        if (one.reader, one.image) in seen:
            remedy = "keep the first reading, or give the second reader another name"
            raise InputError(f"{place}: {one.reader} read image {one.image} twice; {remedy}")
        seen.add((one.reader, one.image))


def csv_text(readings: Iterable[Reading]) -> str:
    """Readings in the form that `read_readings` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *map(astuple, readings)])
    return text.getvalue()


def read_key(path: Path) -> Key:
    """The key of a set. Raises `InputError` for another format, an unknown truth, or a set of one kind only."""
    known = read_json(path)
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        raise InputError(f'{path}: not the key of a set (its "format" is not "{FORMAT}"); give the key.json of the set')
    truth = known.get("truth")
    if not isinstance(truth, dict) or set(map(str, truth.values())) != {REAL, SYNTHETIC}:
        raise InputError(f'{path}: "truth" must call some images "{REAL}" and some "{SYNTHETIC}", and nothing else')
    return Key(hashlib.sha256(read_bytes(path)).hexdigest(), truth)


def check_key(key: Key, readings: Iterable[Reading]) -> None:
    """Raise `InputError` for readings of another set, or of an image that the key lacks."""
    for one in readings:
        if one.set != key.sha256:
            remedy = "give the key of that set, or leave these readings out"
            raise InputError(f"{one.reader} read set {one.set[:12]}, and this key is of {key.sha256[:12]}; {remedy}")
        if one.image not in key.truth:
            raise InputError(f"{one.reader} read image {one.image}, which the key lacks; its line was changed by hand")


def as_study(key: Key, readings: Sequence[Reading]) -> Study:
    """Readings of one set, from any number of files, as arrays. Incomplete ones are allowed: see `Study.told`.

    Raises `InputError` without readings, for another set's, or where one reader read an image twice.
    """
    check_key(key, readings)
    _refuse_twice(readings, "in these files together")
    if not readings:
        raise InputError("there are no readings to score; give the CSV files that the raters saved")
    readers, images = tuple(dict.fromkeys(one.reader for one in readings)), tuple(key.truth)
    rows, columns = ({name: k for k, name in enumerate(names)} for names in (readers, images))
    ratings = np.full((len(readers), len(images)), np.nan)
    for one in readings:
        ratings[rows[one.reader], columns[one.image]] = one.rating
    return Study(readers, images, np.array([truth == SYNTHETIC for truth in key.truth.values()]), ratings)
