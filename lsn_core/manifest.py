"""manifest.csv: how users list their own radiographs. Everything that is wrong with it is told at once."""

import csv
import io
import math
import os.path
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from lsn_core.files import InputError, read_bytes
from lsn_core.images import stem
from lsn_core.joint import FINGERS
from lsn_core.rows import PARTS, Row

MANIFEST = "manifest.csv"
COLUMNS = (*PARTS, "joint", "finger", "side", "spacing_mm", "split", "subject", "visit", "spacing_from")
WIDTH = "jsw_mm"  # a column of phantoms and of synthetic joints
OF_PHANTOMS = (WIDTH, "layer_")  # how the columns begin that only "lsn phantom" and "lsn synthesize" write
TOO_MANY = "it has more cells than the header; put texts with commas into quotes"
WORDS = {  # columns that hold one of a few words, or nothing
    "finger": FINGERS,
    "side": ("L", "R"),
    "split": ("train", "test", "validation"),
    "spacing_from": ("patient", "detector"),
}


@dataclass
class Listing:
    """What a manifest lists: the rows of its good lines, and what is wrong with the others."""

    rows: list[Row] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)  # line ("manifest.csv line 3") -> what is wrong with it


def read_manifest(root: Path) -> Listing:
    """Read the manifest.csv of a folder. Raises `InputError` where it is no table with the columns it must have."""
    text = read_bytes(root / MANIFEST).decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    _refuse_header(root / MANIFEST, list(reader.fieldnames or ()))
    listing, seen = Listing(), _Seen()
    for record in reader:
        where = f"{root / MANIFEST} line {reader.line_num}"
        value = {column: (record.get(column) or "").strip() for column in (*COLUMNS, WIDTH)}
        wrong = [TOO_MANY] if record.get(None) else list(_wrong_cells(value))
        row = None if wrong else _row(value)
        wrong = wrong or list(seen.contradictions(row, reader.line_num))
        if wrong:
            listing.wrong[where] = [f"{where}: {reason}" for reason in wrong]
        else:
            listing.rows.append(row)
    return listing


def _refuse_header(path: Path, names: list[str]) -> None:
    """Raise `InputError` for another separator, a needed column that is not there, and one that nobody knows."""
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            raise InputError(f"{path}: its cells are separated by {word}; export it with commas")
    lacking = [column for column in PARTS if column not in names]
    if lacking:
        raise InputError(f"{path}: no column {', '.join(lacking)}; the header is {','.join(COLUMNS)}")
    unknown = [name for name in names if name not in COLUMNS and not name.startswith(OF_PHANTOMS)]
    if unknown:
        told = ", ".join(map(repr, unknown))
        raise InputError(f"{path}: column {told} is unknown; rename it to one of {', '.join(COLUMNS)}, or remove it")
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} comes twice; remove one")


def _wrong_cells(value: dict[str, str]) -> Iterator[str]:
    """What is wrong with the cells of one line, each with its remedy."""
    files = [value[part] for part in PARTS]
    if not all(files):
        yield f"{', '.join(PARTS)} are not all given; name three files, or remove the line"
    elif len({os.path.normpath(file) for file in files}) < 3:
        yield f"one file stands for two of {', '.join(PARTS)}; name three files"
    for file in files:
        if file.startswith("/") or PureWindowsPath(file).is_absolute():
            yield f"{file} is an absolute path; give it relative to the manifest's folder"
    for column, words in WORDS.items():
        if value[column] and value[column] not in words:
            yield f"{column} {value[column]!r} is unknown; use one of {', '.join(words)}, or leave it empty"
    if value["spacing_mm"] and not 0 < _number(value["spacing_mm"]) < math.inf:
        yield f"spacing_mm {value['spacing_mm']!r} is not a positive number; give mm per pixel, or leave it empty"

    if value[WIDTH] and not math.isfinite(_number(value[WIDTH])):
        yield f"{WIDTH} {value[WIDTH]!r} is not a number; give mm, or leave it empty"


def _number(text: str) -> float:
    """A decimal number, NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _row(value: dict[str, str]) -> Row:
    """A row from the cells of one line; empty cells are unknown, an empty split is "test"."""
    name = (Path(value["image"]).parent / stem(Path(value["image"]))).as_posix()
    return Row(
        name=name,
        **{part: value[part] for part in PARTS},
        joint=value["joint"] or name,
        finger=value["finger"] or None,
        side=value["side"] or None,
        spacing_mm=float(value["spacing_mm"]) if value["spacing_mm"] else None,
        splits=(value["split"] or "test",),
        subject=value["subject"] or None,
        visit=value["visit"] or None,
        spacing_from=value["spacing_from"] or None,
        jsw_mm=float(value[WIDTH]) if value[WIDTH] else None,
    )


class _Seen:
    """What earlier lines said, which a later one may contradict."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.lines: dict[str, int] = {}
        self.groups: dict[tuple[str, str], tuple[Row, int]] = {}

    def contradictions(self, row: Row, line: int) -> Iterator[str]:
        """What a row contradicts: an image of its name, or another split or person of its joint or subject."""
        first = self.lines.setdefault(row.name, line)
        if first != line:
            yield f"an image called {row.name} is in line {first} already; rename one, or remove its line"
        for kind, group in (("joint", row.joint), ("subject", row.subject)):
            if group is None:
                continue
            other, at = self.groups.setdefault((kind, group), (row, line))
            if other.splits != row.splits:
                both = f"{other.splits[0]} in line {at} and in {row.splits[0]} here"
                yield f"{kind} {group} is in {both}; keep all radiographs of a {kind} in one split"
            if kind == "joint" and other.subject != row.subject:
                both = f"{other.subject or 'nobody'}'s in line {at} and {row.subject or 'nobody'}'s here"
                yield f"joint {group} is {both}; give joints of two people two names"
