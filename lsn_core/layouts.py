"""The forms a data set may have on disk, each as rows and a store: BLS-GAN, RAM-H1200, a manifest.csv, a pack."""

from pathlib import Path

from lsn_core.files import InputError, read_json
from lsn_core.manifest import MANIFEST, Listing, read_manifest
from lsn_core.pack import pack_rows
from lsn_core.phantom import FIELD_MM
from lsn_core.ram import Hands, annotation_files
from lsn_core.ram import rows as ram_rows
from lsn_core.rows import PARTS, Folder, Row, Store

BLS_FINGERS = {"13": "thumb", "11": "index", "8": "middle", "5": "ring", "2": "small"}
BLS_LISTS = {"all": "{}", "overlap": "overlap_{}", "nonoverlap": "nonoverlap_{}"}  # list name -> our split name


class UnlistedError(InputError):
    """A path that holds no list of radiographs in any known form."""


def listing(path: Path) -> tuple[Listing, Store]:
    """Recognise the layout of a data set and list everything in it. Raises `InputError` where it has none of them."""
    path = path.parent if path.name == MANIFEST else path
    if path.is_file():
        rows, store = pack_rows(path)
        return Listing(rows), store
    if (path / MANIFEST).is_file():
        return read_manifest(path), Folder(path)
    for root in (path, path / "Data"):
        if any((root / f"LS_K1_{name}_{split}").is_file() for name in BLS_LISTS for split in ("train", "test")):
            return Listing(bls_rows(root)), Folder(root)
    if annotation_files(path):
        return Listing(ram_rows(path)), Hands(path)
    if not path.exists():
        raise UnlistedError(
            f"{path}: no such folder or file; give the path of a data set, or write one with 'lsn phantom'"
        )
    raise UnlistedError(
        f"{path}: holds neither a {MANIFEST} nor the lists of BLS-GAN or RAM-H1200; write one with 'lsn data init'"
    )


def of_split(path: Path, listed: Listing, split: str) -> list[Row]:
    """The rows of a split, or all of them. Raises `InputError` where that leaves none, and no line explains why."""
    rows = [row for row in listed.rows if split == "all" or split in row.splits]
    if not rows and not listed.wrong:
        known = ", ".join(sorted({s for row in listed.rows for s in row.splits} | {"all"}))
        raise InputError(f"{path}: split {split!r} has no joints; choose one of {known}, or add rows to it")
    return rows


def bls_rows(root: Path) -> list[Row]:
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
