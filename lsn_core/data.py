"""Data sets of joints: the BLS-GAN release, a folder with a manifest, or one packed file; all give `Joint`s.

A split holds whole joints: all visits of a joint are on one side. Masks come as they were drawn; training widens them.
"""

import csv
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.utils.data import Dataset

from lsn_core.files import InputError, atomic, read_bytes, read_json
from lsn_core.images import decode_image, decode_mask, encode_mask, read_image
from lsn_core.joint import FINGERS, Joint
from lsn_core.masks import hand_mask
from lsn_core.phantom import FIELD_MM
from lsn_core.radiograph import centroid

MANIFEST = "manifest.csv"
COLUMNS = ("image", "lower", "upper", "joint", "finger", "side", "spacing_mm", "split")
BLS_FINGERS = {"13": "thumb", "11": "index", "8": "middle", "5": "ring", "2": "small"}
BLS_LISTS = {"all": "{}", "overlap": "overlap_{}", "nonoverlap": "nonoverlap_{}"}  # list name -> our split name
PACK_FORMAT = "lsn-pack-1"
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
        return [file for file in files if not Path(file).is_file()]


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


class JointDataset(Dataset):
    """A list of joints, decoded when asked for; `dataset[i]` is a `Joint` at its own size."""

    def __init__(self, rows: list[Row], store: Folder | Pack) -> None:
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
        row = self.rows[index]
        image = decode_image(self.store.read(row, "image"), self.store.where(row, "image"))
        lower, upper = (self._mask(row, part, image.shape) for part in ("lower", "upper"))
        masks = np.stack((hand_mask(image) | lower | upper, lower, upper)).astype(np.float32)
        known = {key: getattr(row, key) for key in ("name", "joint", "finger", "side", "spacing_mm")}
        return Joint(torch.from_numpy(image)[None], torch.from_numpy(masks), **known)

    def _mask(self, row: Row, part: str, shape: tuple[int, int]) -> np.ndarray:
        """One bone's mask, which must be as large as the image."""
        where = self.store.where(row, part)
        mask = decode_mask(self.store.read(row, part), where)
        if mask.shape != shape:
            sizes = f"{mask.shape[1]} x {mask.shape[0]} px and its image {shape[1]} x {shape[0]}"
            raise InputError(f"{where}: the mask is {sizes}; export both at the same size")
        return mask

    def subset(self, keep: set[str]) -> "JointDataset":
        """The radiographs of the joints named in `keep`, with all their visits."""
        return JointDataset([row for row in self.rows if row.joint in keep], self.store)

    def fingerprint(self) -> str:
        """SHA-256 over names, encoded images and decoded masks: the same for a folder and its pack."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(row.name.encode() + self.store.read(row, "image"))
            for part in ("lower", "upper"):
                digest.update(np.packbits(decode_mask(self.store.read(row, part), self.store.where(row, part))))
        return digest.hexdigest()


def open_dataset(path: str | Path, *, split: str = "test") -> JointDataset:
    """Open a split of a packed file, of a folder with a manifest.csv, or of the BLS-GAN release.

    Splits: "train", "test", "all"; the BLS-GAN release also has "overlap_train", "nonoverlap_test" and so on (K1
    lists). Raises `InputError` for a missing path, an unknown layout, an empty split or a listed file that is missing.
    """
    rows, store = _rows(Path(path))
    chosen = [row for row in rows if split == "all" or split in row.splits]
    if not chosen:
        known = ", ".join(sorted({s for row in rows for s in row.splits} | {"all"}))
        raise InputError(f"{path}: split {split!r} has no joints; choose one of {known}, or add rows to it")
    missing = [file for row in chosen for file in store.missing(row)]
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}{rest}: listed but not there; restore the file, or take it off the list")
    return JointDataset(chosen, store)


def _rows(path: Path) -> tuple[list[Row], Folder | Pack]:
    """Recognise the layout and list everything in it."""
    if path.is_file():
        return _pack_rows(path)
    if (path / MANIFEST).is_file():
        return _manifest_rows(path), Folder(path)
    for root in (path, path / "Data"):
        if any((root / f"LS_K1_{name}_{split}").is_file() for name in BLS_LISTS for split in ("train", "test")):
            return _bls_rows(root), Folder(root)
    if not path.exists():
        raise InputError(
            f"{path}: no such folder or file; give the path of a data set, or write one with 'lsn phantom'"
        )
    raise InputError(f"{path}: holds neither a {MANIFEST} nor the BLS-GAN lists LS_K1_*; add a {MANIFEST} (see README)")


def _bls_rows(root: Path) -> list[Row]:
    """Rows of the BLS-GAN release: the K1 lists name images, the folders name joint, side and finger."""
    splits: dict[str, list[str]] = {}
    entries: dict[str, dict[str, str]] = {}
    for name, pattern in BLS_LISTS.items():
        for split in ("train", "test"):
            if (root / f"LS_K1_{name}_{split}").is_file():
                for entry in _bls_list(root / f"LS_K1_{name}_{split}"):
                    entries[entry["image"]] = entry
                    splits.setdefault(entry["image"], []).append(pattern.format(split))
    return [_bls_row(entry, tuple(splits[image])) for image, entry in entries.items()]


def _bls_list(path: Path) -> list[dict[str, str]]:
    """One K1 list: JSON records that name an image and its two masks."""
    content = read_json(path)
    entries = content if isinstance(content, list) else [content]
    for entry in entries:
        if not (isinstance(entry, dict) and all(isinstance(entry.get(part), str) for part in PARTS)):
            raise InputError(f"{path}: the record {str(entry)[:60]!r} lacks image, lower or upper; restore the list")
    return entries


def _bls_row(entry: dict[str, str], splits: tuple[str, ...]) -> Row:
    """`Dataset_cases_anonymization/00259_L_13/<id>.jpg`: joint 00259, left, thumb."""
    folder = Path(entry["image"]).parent.name
    side, code = f"_{folder}".split("_")[-2:]
    if code not in BLS_FINGERS:
        raise InputError(f"{entry['image']}: folder code {code!r} is no finger; expected one of {list(BLS_FINGERS)}")
    return Row(
        name=f"{folder}/{Path(entry['image']).stem}",
        **{part: entry[part] for part in PARTS},
        joint=folder,
        finger=BLS_FINGERS[code],
        side=side or None,
        spacing_mm=FIELD_MM / 256,
        splits=splits,
    )


def _manifest_rows(root: Path) -> list[Row]:
    """Rows of a manifest.csv: image,lower,upper are needed; joint, finger, side, spacing_mm and split may be empty."""
    text = read_bytes(root / MANIFEST).decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    lacking = [column for column in COLUMNS[:3] if column not in (reader.fieldnames or ())]
    if lacking:
        raise InputError(f"{root / MANIFEST}: no column {', '.join(lacking)}; the header is {','.join(COLUMNS)}")
    rows = [_manifest_row(root, reader.line_num, record) for record in reader]
    names = Counter(row.name for row in rows)
    if names and max(names.values()) > 1:
        twice = names.most_common(1)[0][0]
        raise InputError(f"{root / MANIFEST}: two images are called {twice}; rename one, or remove its line")
    split = {row.joint: row.splits for row in rows}
    torn = [row.joint for row in rows if row.splits != split[row.joint]]
    if torn:
        raise InputError(f"{root / MANIFEST}: joint {torn[0]} is in two splits; keep all visits of a joint in one")
    return rows


def _manifest_row(root: Path, line: int, record: dict[str, str]) -> Row:
    """One line of a manifest; empty cells are unknown, an empty split is "test"."""
    value = {column: (record.get(column) or "").strip() for column in COLUMNS}
    where = f"{root / MANIFEST} line {line}"
    if not all(value[part] for part in PARTS):
        raise InputError(f"{where}: {', '.join(PARTS)} are not all given; name three files, or remove the line")
    if value["finger"] and value["finger"] not in FINGERS:
        unknown = f"{where}: finger {value['finger']!r} is unknown"
        raise InputError(f"{unknown}; use one of {', '.join(FINGERS)}, or leave it empty")
    try:
        spacing = float(value["spacing_mm"]) if value["spacing_mm"] else None
    except ValueError:
        spacing = math.nan
    if spacing is not None and not 0 < spacing < math.inf:
        wrong = f"{where}: spacing_mm {value['spacing_mm']!r} is not a positive number"
        raise InputError(f"{wrong}; give mm per pixel, or leave it empty")
    return Row(
        name=str(Path(value["image"]).with_suffix("")),
        **{part: value[part] for part in PARTS},
        joint=value["joint"] or str(Path(value["image"]).with_suffix("")),
        finger=value["finger"] or None,
        side=value["side"] or None,
        spacing_mm=spacing,
        splits=(value["split"] or "test",),
    )


def pack(dataset: JointDataset, path: Path) -> Path:
    """Write all joints to one safetensors file: the images' own encoded bytes and 1-bit masks.

    Every joint is decoded first, so a pack holds only what can be used. Raises `InputError` for the first that cannot.
    """
    chunks, spans, end = [], {}, 0
    for row, joint in zip(dataset.rows, dataset, strict=True):
        lower, upper = (encode_mask(mask.numpy() > 0) for mask in joint.masks[1:])
        parts = [dataset.store.read(row, "image"), lower, upper]
        spans[row.name] = [end, *(end := end + len(part) for part in parts)]
        chunks += parts
    blob = torch.frombuffer(bytearray(b"".join(chunks)), dtype=torch.uint8)
    rows = json.dumps([asdict(_packed(row)) for row in dataset.rows])
    with atomic(path) as part:
        part.write_bytes(save({"bytes": blob}, {"format": PACK_FORMAT, "rows": rows, "spans": json.dumps(spans)}))
    return Path(path)


def _packed(row: Row) -> Row:
    """The row as it stands in a pack, where masks are PNG whatever they were before."""
    return replace(row, lower=str(Path(row.lower).with_suffix(".png")), upper=str(Path(row.upper).with_suffix(".png")))


def _pack_rows(path: Path) -> tuple[list[Row], Pack]:
    """Rows of a packed file."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a packed data set ({error}); write one with 'lsn data pack'") from error
    if header.get("format") != PACK_FORMAT:
        raise InputError(f"{path}: format {header.get('format')!r} is not {PACK_FORMAT}; pack it again")
    rows = [Row(**{**row, "splits": tuple(row["splits"])}) for row in json.loads(header["rows"])]
    return rows, Pack(path, json.loads(header["spans"]))


def read_radiograph(path: str | Path) -> tuple[torch.Tensor, float | None]:
    """Read one radiograph: image (1, h, w) in [0, 1] and its spacing in mm, None because raster files have none."""
    return torch.from_numpy(read_image(Path(path)))[None], None


def check(dataset: JointDataset) -> list[tuple[str, str]]:
    """Decode every joint; return (name, reason) for each that cannot be used, or whose masks are the wrong way up."""
    problems = []
    for i, row in enumerate(dataset.rows):
        try:
            masks = dataset[i].masks
        except InputError as error:
            problems.append((row.name, str(error)))
            continue
        lower, upper = (float(centroid(masks[None, k : k + 1])[1]) for k in (1, 2))
        if lower <= upper:
            where = dataset.store.where(row, "upper")
            problems.append((row.name, f"{where}: not above the lower mask; swap or redraw the two, or turn the image"))
    return problems
