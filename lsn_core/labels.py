"""Labels of synthetic joints: all that is known of each because it was made, and enough to make it again."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lsn_core.files import InputError, read_bytes
from lsn_core.joint import Joint
from lsn_core.jsw import svdh_like
from lsn_core.manifest import COLUMNS
from lsn_core.movement import Hinge, Movement, shifts

LABELS = "labels.csv"
BONES = ("lower", "upper")
FIELDS = (
    *COLUMNS,
    "jsw_mm",  # of the synthetic image: its source's as measured, and the change
    "jsw_px",
    "svdh_like",  # 0 to 4, by the paper's cuts
    "source",  # name of the radiograph
    "source_jsw_mm",
    "delta_mm",  # from here to middle_y: the movement, and what it turns about
    "share",
    *(f"{bone}_{what}" for bone in BONES for what in ("slide_mm", "degrees", "dx", "dy")),  # dx, dy in px
    "middle_x",
    "middle_y",
    "copy",
    "seed",
    "weights",  # SHA-256 of the generator
    "outlines",  # and of the network that drew the masks, where nobody had
)


def label(joint: Joint, hinge: Hinge, own_mm: float, movement: Movement, copy: int) -> dict[str, str]:
    """What follows from the movement of a joint whose space was `own_mm` wide; the files are those of `files_of`."""
    width = own_mm + movement.delta_mm
    known = {key: getattr(joint, key) or "" for key in ("joint", "finger", "side", "subject", "spacing_from")}
    moved = {
        f"{bone}_{what}": f"{value:.6f}"
        for bone, by, slide in zip(BONES, shifts(movement, hinge), movement.slide_mm, strict=True)
        for what, value in {"slide_mm": slide, "degrees": by.degrees, "dx": by.dx, "dy": by.dy}.items()
    }
    widths = {"jsw_mm": width, "jsw_px": width / hinge.spacing_mm, "source_jsw_mm": own_mm}
    numbers = {"delta_mm": movement.delta_mm, "share": movement.share, "spacing_mm": hinge.spacing_mm} | widths
    places = dict(zip(("middle_x", "middle_y"), hinge.middle, strict=True))
    return {
        **files_of(joint.name, copy),
        **known,
        "svdh_like": str(svdh_like(width)),
        "source": joint.name,
        **{name: f"{value:.6f}" for name, value in (numbers | places).items()},
        **moved,
        "copy": str(copy),
    }


def files_of(source: str, copy: int) -> dict[str, str]:
    """Paths of a synthetic image and its masks, below the data set's folder."""
    stem = f"{'/'.join('_' if part == '..' else part for part in source.split('/'))}_{copy:03d}"
    return {"image": f"{stem}.png", **{bone: f"{stem}_mask_{bone}.png" for bone in BONES}}


def movement_of(row: Mapping[str, str]) -> Movement:
    """The movement that a row was made with."""
    slide, degrees = (tuple(float(row[f"{bone}_{what}"]) for bone in BONES) for what in ("slide_mm", "degrees"))
    return Movement(float(row["delta_mm"]), float(row["share"]), slide, degrees)


def read_labels(path: Path) -> list[dict[str, str]]:
    """The whole rows of a labels.csv; a last one that was cut off is left out. Raises `InputError` for another file."""
    if not path.is_file():
        return []
    text = read_bytes(path).decode("utf-8", errors="replace")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    if tuple(reader.fieldnames or ()) != FIELDS:
        raise InputError(f"{path}: is not a list of this version; write to another folder")
    return list(reader)


def as_csv(rows: Iterable[Mapping[str, Any]], fields: Iterable[str], *, header: bool) -> str:
    """Rows as the lines of a table; other keys are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=tuple(fields), extrasaction="ignore", restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def tally(rows: Iterable[Mapping[str, str]]) -> str:
    """How many images each SvdH-like class has."""
    found = Counter(int(row["svdh_like"]) for row in rows)
    return ", ".join(f"class {k}: {found[k]}" for k in range(5))
