"""RAM-H1200: radiographs of whole hands with a mask of every bone, read as one upright crop a knuckle.

Known from the public benchmark code (github.com/YSongxiao/RAM-H1200, arXiv 2605.05616): the folder `Segmentation` holds
train, val and test, each with images and one COCO file; masks are run lengths (or polygons) of the whole image; bones
are called MC1 to MC5 (metacarpals) and PP1 to PP5 (proximal phalanges) from thumb to small finger; an image is called
CENTRE_PATIENT_DATE_STUDY_SIDE.bmp. Assumed, and not verified, for the images were never here: 8 bits with bone bright;
one CENTRE_PATIENT is one person; no image is mirrored, for a crop is turned and never flipped; bones at the joint have
the same widths in mm as in BLS-GAN, so that a crop shows about 21 mm. Not read: scores, erosions, joint boxes, soft
tissue, and the release's own split. No pixel spacing is stated, so lengths are pixels only.
"""

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lsn_core.crop import cut, find_joint
from lsn_core.files import InputError, read_bytes, read_json
from lsn_core.images import decode_image, encode_mask
from lsn_core.inventory import groups_for_test
from lsn_core.joint import FINGERS
from lsn_core.rows import Row

ANNOTATIONS = "_annotations_bone_rle.coco.json"
NAME_FORM = "CENTRE_PATIENT_DATE_STUDY_SIDE.bmp"
IMAGE_NAME = re.compile(r"(?P<subject>.+)_(?P<date>\d{8})_(?P<study>[^_.]+)_(?P<side>[LR])(?![^._])")
BONES = {finger: {"lower": f"MC{digit}", "upper": f"PP{digit}"} for digit, finger in enumerate(FINGERS, start=1)}


@dataclass(frozen=True)
class Hand:
    """One radiograph of a hand, as its COCO file describes it."""

    image: str  # path below the data set's folder
    size: tuple[int, int]  # height and width, px
    bones: dict[str, list[Any]]  # bone's name -> its segmentations, undecoded

    def fingers(self) -> list[str]:
        """The fingers whose knuckle has both bones."""
        return [finger for finger, bones in BONES.items() if set(bones.values()) <= self.bones.keys()]

    def knuckle(self, finger: str) -> str:
        """What one of its knuckles is called."""
        return f"{Path(self.image).with_suffix('')}_{finger}"


def annotation_files(root: Path) -> list[Path]:
    """The COCO files of a folder in this layout: in it, in its train, val and test, or in those of its Segmentation."""
    return sorted(file for way in ("", "*/", "Segmentation/*/") for file in root.glob(way + ANNOTATIONS))


def rows(root: Path) -> list[Row]:
    """One row a knuckle of each hand; one person in four is in "test", the others in "train".

    Warns, by name, of knuckles that are left out because a bone has no mask. Raises `InputError` for a malformed COCO
    file, and for an image whose name does not tell person and side.
    """
    hands = read_hands(root)
    names = [_parse_name(root, hand) for hand in hands]
    tested = groups_for_test(known["subject"] for known in names)
    lacking = [f"{hand.image} {finger}" for hand in hands for finger in BONES if finger not in hand.fingers()]
    if lacking:
        told = ", ".join(lacking[:10]) + (f" and {len(lacking) - 10} more" if len(lacking) > 10 else "")
        warnings.warn(f"{root}: left out, for a bone has no mask: {told}", stacklevel=2)
    return [
        _row(hand, finger, known, "test" if known["subject"] in tested else "train")
        for hand, known in zip(hands, names, strict=True)
        for finger in hand.fingers()
    ]


def _parse_name(root: Path, hand: Hand) -> re.Match[str]:
    """What the name of a hand's image tells. Raises `InputError` for a name of another form."""
    if known := IMAGE_NAME.match(Path(hand.image).name):
        return known
    form = f"not of the form {NAME_FORM}"
    raise InputError(f"{root / hand.image}: the name is {form}; rename it here and in {ANNOTATIONS}")


def _row(hand: Hand, finger: str, known: re.Match[str], split: str) -> Row:
    """The row of one knuckle; the three files that it names exist only as parts of the hand."""
    name, subject, side = hand.knuckle(finger), known["subject"], known["side"]
    return Row(
        name=name,
        image=f"{name}.png",
        lower=f"{name}_mask_lower.png",
        upper=f"{name}_mask_upper.png",
        joint=f"{subject}_{side}_{finger}",
        finger=finger,
        side=side,
        spacing_mm=None,
        splits=(split,),
        subject=subject,
        visit=f"{known['date']}_{known['study']}",
    )


def read_hands(root: Path) -> list[Hand]:
    """All hands below a folder. Raises `InputError` where there is no COCO file, or one of another form."""
    files = annotation_files(root)
    if not files:
        raise InputError(f"{root}: holds no {ANNOTATIONS}; give the folder of RAM-H1200, or its Segmentation")
    return [hand for file in files for hand in _hands(root, file)]


def _hands(root: Path, file: Path) -> Iterator[Hand]:
    """The hands of one COCO file."""
    wanted = {bone for bones in BONES.values() for bone in bones.values()}
    coco = read_json(file)
    try:
        names = {category["id"]: category["name"] for category in coco["categories"]}
        bones: dict[int, dict[str, list[Any]]] = {}
        for annotation in coco["annotations"]:
            if (bone := names[annotation["category_id"]]) in wanted:
                bones.setdefault(annotation["image_id"], {}).setdefault(bone, []).append(annotation["segmentation"])
        for image in coco["images"]:
            where = str((file.parent / image["file_name"]).relative_to(root))
            yield Hand(where, (int(image["height"]), int(image["width"])), bones.get(image["id"], {}))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: not in COCO form ({error!r}); restore it from its source") from error


class Hands:
    """Images and masks of knuckles, cut out of the hands when they are asked for."""

    def __init__(self, root: Path) -> None:
        """Read the COCO files below `root`. Raises `InputError`."""
        self.root = root
        hands = read_hands(root)
        self.knuckles = {hand.knuckle(finger): (hand, finger) for hand in hands for finger in hand.fingers()}
        self._image = lru_cache(maxsize=1)(self._read_image)
        self._parts = lru_cache(maxsize=4)(self._cut_parts)

    def where(self, row: Row, part: str) -> str:
        """How messages name a part: by the hand's path, the finger, and the bone of a mask."""
        hand, finger = self.knuckles[row.name]
        return f"{self.root / hand.image}: {finger}" + ("" if part == "image" else f" {BONES[finger][part]}")

    def read(self, row: Row, part: str) -> bytes:
        """A row's "image", "lower" or "upper" as a square PNG, fingertip up. Raises `InputError`."""
        return self._parts(row.name)[part]

    def missing(self, row: Row) -> list[str]:
        """The hand's path if there is no such file."""
        path = self.root / self.knuckles[row.name][0].image
        return [] if path.is_file() else [str(path)]

    def _cut_parts(self, name: str) -> dict[str, bytes]:
        """The encoded parts of one knuckle."""
        hand, finger = self.knuckles[name]
        where = f"{self.root / hand.image}: {finger}"
        masks = {part: bone_mask(hand, bone, f"{where} {bone}") for part, bone in BONES[finger].items()}
        try:
            place = find_joint(masks["lower"], masks["upper"], finger)
        except ValueError as error:
            raise InputError(f"{where}: {error}; correct {ANNOTATIONS}, or take the hand off it") from error
        encoded = {part: encode_mask(cut(mask, place) >= 0.5) for part, mask in masks.items()}
        return {"image": _png(cut(self._image(hand.image, hand.size), place)), **encoded}

    def _read_image(self, name: str, size: tuple[int, int]) -> np.ndarray:
        """A hand's image (h, w) in [0, 1], which must be as large as its masks."""
        path = self.root / name
        image = decode_image(read_bytes(path), str(path))
        if image.shape != size:
            sizes = f"{image.shape[1]} x {image.shape[0]} px and its masks {size[1]} x {size[0]}"
            raise InputError(f"{path}: the image is {sizes}; restore it from its source")
        return image


def _png(image: np.ndarray) -> bytes:
    """Values (h, w) in [0, 1] as the bytes of an 8-bit PNG; the hands have 8 bits."""
    buffer = io.BytesIO()
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def bone_mask(hand: Hand, bone: str, where: str) -> np.ndarray:
    """The mask of a bone, bool (h, w): all its segmentations together. Raises `InputError`, which names `where`."""
    mask = np.zeros(hand.size, dtype=bool)
    try:
        for segmentation in hand.bones[bone]:
            for rle in _as_rles(segmentation, hand.size):
                mask |= decode_rle(rle, hand.size)
    except Exception as error:  # pycocotools raises that very class
        raise InputError(f"{where}: the mask is broken ({error}); restore {ANNOTATIONS} from its source") from error
    if not mask.any():
        raise InputError(f"{where}: the mask is empty; take its annotation off {ANNOTATIONS}")
    return mask


def _as_rles(segmentation: Any, size: tuple[int, int]) -> list[dict]:
    """A segmentation, which may be a list of polygons, as run lengths."""
    if isinstance(segmentation, dict):
        return [segmentation]
    from pycocotools import mask

    return mask.frPyObjects(segmentation, *size)


def decode_rle(rle: dict, size: tuple[int, int]) -> np.ndarray:
    """Run lengths in COCO's form as a mask, bool (h, w): runs go down the columns, and the first one is outside.

    Raises `ValueError` unless they fill the image. pycocotools does not look: it shows memory where runs are missing.
    """
    counts = rle["counts"]
    runs = np.array(counts if isinstance(counts, list) else _runs(counts), dtype=np.int64)
    if tuple(rle["size"]) != size or (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(f"its runs are for {rle['size']} px and cover {runs.sum()} of {size[0] * size[1]}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T


def _runs(text: str | bytes) -> list[int]:
    """Run lengths from COCO's compressed form: five bits a character, and from the fourth run on differences."""
    runs, value, shift = [], 0, 0
    for character in text.encode("ascii", "replace") if isinstance(text, str) else text:
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
