"""Knuckles cut out of whole hands: upright, in the middle, never mirrored, and only where both bones have a mask."""

import json
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from lsn_core.crop import FIELD, find_joint
from lsn_core.data import open_dataset, pack
from lsn_core.dataset import JointDataset
from lsn_core.files import InputError
from lsn_core.images import decode_mask
from lsn_core.ram import ANNOTATIONS, BONES, Hands, decode_rle, rows

SHAPE = (300, 320)  # of a hand's image
RADIUS = 14.0  # of the bones: px
GAP = 6.0  # between their round ends
RIGHT = "XX_AAAA_P0001_20200131_0001_R.bmp"
LEFT = "XX_AAAA_P0002_20200131_0002_L.bmp"


def unit(degrees: float) -> np.ndarray:
    """The direction that points up, turned clockwise as seen: x to the right, y down."""
    return np.array([np.sin(np.radians(degrees)), -np.cos(np.radians(degrees))])


def rod(start: np.ndarray, end: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """All pixels no farther than `radius` from the line between two points: a bone with round ends."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    along = end - start
    share = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0, 1)
    return np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1]) <= radius


def finger_at(centre: tuple[float, float], degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Masks of a metacarpal and a shorter phalanx whose gap is at `centre`."""
    up, middle = unit(degrees), np.array(centre, dtype=float)
    near = (GAP / 2 + RADIUS) * up
    return rod(middle - near - 70 * up, middle - near), rod(middle + near, middle + near + 40 * up)


def radiograph(*bones: np.ndarray) -> np.ndarray:
    """Dark soft tissue, bright bones."""
    return np.where(np.any(bones, axis=0), 200, 70).astype(np.uint8)


def run_lengths(mask: np.ndarray) -> dict:
    """A mask as it stands in a COCO file."""
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def write_hands(folder: Path, hands: dict[str, dict[str, object]], images: dict[str, np.ndarray]) -> Path:
    """A folder with images and their COCO file; `hands` gives the segmentations of each by bone."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["SoftTissue", *(bone for bones in BONES.values() for bone in bones.values())]
    listed = [{"id": k, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]} for k, name in enumerate(hands)]
    annotations = [
        {"id": 100 * k + i, "image_id": k, "category_id": names.index(bone), "segmentation": segmentation}
        for k, bones in enumerate(hands.values())
        for i, (bone, segmentation) in enumerate(bones.items())
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(names)]
    file = {"images": listed, "annotations": annotations, "categories": categories}
    (folder / ANNOTATIONS).write_text(json.dumps(file))
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture
def release(tmp_path) -> Path:
    """A right hand with a thumb and an index finger, a left hand with a small finger, each turned its own way."""
    thumb, index, small = finger_at((90, 150), -50), finger_at((210, 160), 10), finger_at((160, 140), 25)
    right = dict(zip(("MC1", "PP1", "MC2", "PP2"), map(run_lengths, (*thumb, *index)), strict=True))
    left = dict(zip(("MC5", "PP5"), map(run_lengths, small), strict=True))
    soft = {"SoftTissue": run_lengths(np.ones(SHAPE, dtype=bool))}
    write_hands(tmp_path / "Segmentation/train", {RIGHT: right | soft}, {RIGHT: radiograph(*thumb, *index)})
    write_hands(tmp_path / "Segmentation/test", {LEFT: left}, {LEFT: radiograph(*small)})
    return tmp_path


def listed(root: Path) -> list:
    """The rows of a folder, whose hands lack fingers."""
    with pytest.warns(UserWarning, match="left out"):
        return rows(root)


def test_what_a_file_name_tells(release):
    found = {row.name: row for row in listed(release)}
    right, left = (f"Segmentation/{name[:-4]}" for name in (f"train/{RIGHT}", f"test/{LEFT}"))
    assert set(found) == {f"{right}_thumb", f"{right}_index", f"{left}_small"}
    row = found[f"{left}_small"]
    assert (row.subject, row.side, row.finger, row.spacing_mm) == ("XX_AAAA_P0002", "L", "small", None)
    assert (row.joint, row.visit) == ("XX_AAAA_P0002_L_small", "20200131_0002")


def test_a_bone_without_a_mask_leaves_its_knuckle_out_by_name(release):
    with pytest.warns(UserWarning, match="left out") as told:
        rows(release)
    (said,) = (str(warning.message) for warning in told)
    assert str(release) in said
    assert all(f"{RIGHT} {finger}" in said for finger in ("middle", "ring", "small"))
    assert all(f"{LEFT} {finger}" in said for finger in ("thumb", "index", "middle", "ring"))
    assert f"{RIGHT} thumb" not in said and f"{LEFT} small" not in said


def test_where_the_release_begins_does_not_matter(release):
    names = [[Path(row.name).name for row in listed(root)] for root in (release, release / "Segmentation")]
    assert names[0] == names[1] and len(names[0]) == 3
    assert len(listed(release / "Segmentation" / "train")) == 2


def test_knuckles_are_upright_in_the_middle_and_masks_lie_on_their_bones(release):
    dataset = JointDataset(listed(release), Hands(release))
    for joint in dataset:
        _, lower, upper = joint.masks.numpy() > 0
        side = FIELD[joint.finger] * 2 * RADIUS
        assert joint.image.shape == (1, len(lower), len(lower)) and abs(len(lower) - side) <= 2
        image, middle = joint.image[0].numpy(), (len(lower) - 1) / 2
        assert np.allclose(image[lower & inner(lower)], 200 / 255, atol=0.01), "the image shows bone where the mask is"
        for mask in (lower, upper):
            across = np.nonzero(mask)[1] - middle
            assert abs(across.mean()) < 1 and abs(across.min() + across.max()) <= 2, joint.name
        bottom, top = np.nonzero(upper)[0].max(), np.nonzero(lower)[0].min()
        assert top > bottom and abs((top + bottom) / 2 - middle) < 1
        assert abs(top - bottom - 1 - GAP) <= 2
        assert upper[0].any() and lower[-1].any(), "the shafts go on beyond the frame"


def test_hands_are_packed_as_knuckles_and_a_pack_holds_the_same(release, tmp_path):
    with pytest.warns(UserWarning, match="left out"):
        dataset = open_dataset(release, split="all")
    packed = open_dataset(pack(dataset, tmp_path / "hands.safetensors"), split="all")
    assert packed.fingerprint() == dataset.fingerprint()
    assert [row.subject for row in packed.rows] == [row.subject for row in dataset.rows]


def inner(mask: np.ndarray) -> np.ndarray:
    """A mask without its edge."""
    from scipy import ndimage

    return ndimage.binary_erosion(mask, iterations=2)


@pytest.mark.parametrize("name", [RIGHT, LEFT])
def test_a_crop_is_turned_and_never_mirrored(tmp_path, name):
    """A bright spot to the right of the fingertip's direction is to the right of the crop, on either hand."""
    degrees, centre = -35, np.array((160.0, 150.0))
    bones = finger_at(tuple(centre), degrees)
    image = radiograph(*bones)
    right = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    x, y = np.round(centre + 17 * right).astype(int)
    image[y - 1 : y + 2, x - 1 : x + 2] = 255
    segmentations = dict(zip(("MC3", "PP3"), map(run_lengths, bones), strict=True))
    root = write_hands(tmp_path / "hands", {name: segmentations}, {name: image})
    (joint,) = JointDataset(listed(root), Hands(root))
    spot = np.stack(np.nonzero(joint.image[0].numpy() > 0.9)).mean(axis=1) - (joint.image.shape[1] - 1) / 2
    assert np.allclose(spot, (0, 17), atol=1.5)


@given(st.floats(-170, 170), st.floats(130, 170), st.floats(130, 170))
def test_the_joint_is_found_wherever_it_lies(degrees, x, y):
    place = find_joint(*finger_at((x, y), degrees), "ring")
    assert np.allclose(place.centre, (x, y), atol=1.5)
    assert place.up @ unit(degrees) > np.cos(np.radians(1))
    assert place.side == pytest.approx(FIELD["ring"] * 2 * RADIUS, rel=0.06)


def test_the_far_end_of_a_bone_and_specks_do_not_count():
    lower, upper = finger_at((160, 150), 0)
    before = find_joint(lower, upper, "index")
    wrist = rod(np.array((140.0, 240.0)), np.array((180.0, 240.0)), 16)
    speck = rod(np.array((20.0, 20.0)), np.array((20.0, 22.0)), 2)
    after = find_joint(lower | wrist | speck, upper, "index")
    assert np.allclose(before.centre, after.centre, atol=0.6) and after.side == before.side


def test_crops_are_as_wide_as_those_of_bls_gan(bls_gan):
    """There the crop is the whole frame: so it must be found again, in the middle, for each finger on average."""
    found: dict[str, list[tuple[float, ...]]] = {finger: [] for finger in FIELD}
    dataset = open_dataset(bls_gan, split="all")
    for row in dataset.rows[::10]:
        masks = (decode_mask(dataset.store.read(row, part), row.name) for part in ("lower", "upper"))
        with suppress(ValueError):  # a few masks lie on the wrong bone
            place = find_joint(*masks, row.finger)
            found[row.finger].append((place.side, *place.centre))
    for finger, places in found.items():
        side, x, y = np.median(places, axis=0)
        assert abs(side - 256) < 10 and abs(x - 127.5) < 6 and abs(y - 127.5) < 12, finger


def test_the_thumb_to_small_finger_order_is_that_of_the_bones():
    assert [bones["lower"] for bones in BONES.values()] == ["MC1", "MC2", "MC3", "MC4", "MC5"]
    assert list(BONES) == ["thumb", "index", "middle", "ring", "small"]


def test_a_person_is_on_one_side_of_the_split(tmp_path):
    bones = dict(zip(("MC4", "PP4"), map(run_lengths, finger_at((160, 150), 0)), strict=True))
    names = [f"XX_AAAA_P{k // 2:04}_2020013{k % 2}_000{k % 2}_R.bmp" for k in range(200)]
    found = listed(write_hands(tmp_path, dict.fromkeys(names, bones), {}))
    splits = {}
    for row in found:
        splits.setdefault(row.subject, set()).update(row.splits)
    assert len(splits) == 100 and all(len(split) == 1 for split in splits.values())
    assert 12 <= sum(split == {"test"} for split in splits.values()) <= 38
    assert Hands(tmp_path).missing(found[0]) == [str(tmp_path / names[0])]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools with this numpy
@given(st.integers(0, 2**20 - 1), st.sampled_from([(4, 5), (5, 4), (1, 20), (20, 1)]))
def test_run_lengths_are_read_as_by_pycocotools(bits, shape):
    mask = np.array([bits >> k & 1 for k in range(20)], dtype=bool).reshape(shape)
    rle = run_lengths(mask)
    assert np.array_equal(decode_rle(rle, shape), coco.decode(rle)) and np.array_equal(decode_rle(rle, shape), mask)


def test_long_runs_are_read_as_by_pycocotools():
    mask = finger_at((160, 150), 33)[0]
    assert np.array_equal(decode_rle(run_lengths(mask), SHAPE), mask)


def test_plain_runs_and_polygons_are_read_too(tmp_path):
    lower, upper = finger_at((160, 150), 0)
    runs = np.diff(np.flatnonzero(np.diff(lower.T.ravel(), prepend=False, append=True)), prepend=0)
    assert np.array_equal(decode_rle({"size": list(SHAPE), "counts": runs.tolist()}, SHAPE), lower)
    square = [[140, 60, 180, 60, 180, 130, 140, 130]]
    root = write_hands(tmp_path, {RIGHT: {"MC2": run_lengths(lower), "PP2": square}}, {RIGHT: radiograph(lower, upper)})
    (joint,) = JointDataset(listed(root), Hands(root))
    assert joint.masks[2].sum() > 0


GOOD = run_lengths(finger_at((160, 150), 0)[0])
BROKEN = {
    "cut": GOOD | {"counts": GOOD["counts"][:-3]},
    "longer": GOOD | {"counts": GOOD["counts"] + "11"},
    "other size": GOOD | {"size": [SHAPE[1], SHAPE[0]]},
    "negative": {"size": list(SHAPE), "counts": [-5, SHAPE[0] * SHAPE[1] + 5]},
    "no text": GOOD | {"counts": "\xff\x00µ"},
    "no counts": {"size": list(SHAPE)},
    "nothing": None,
    "number": 7,
    "words": ["a polygon"],
    "empty": {"size": list(SHAPE), "counts": [SHAPE[0] * SHAPE[1]]},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_mask_is_named(tmp_path, broken):
    root = write_hands(
        tmp_path, {RIGHT: {"MC2": GOOD, "PP2": broken}}, {RIGHT: radiograph(finger_at((160, 150), 0)[0])}
    )
    (row,) = listed(root)
    with pytest.raises(InputError, match=rf"{RIGHT}: index PP2: the mask is (broken|empty).*{ANNOTATIONS}"):
        Hands(root).read(row, "upper")


def test_both_masks_on_one_bone_are_named(tmp_path):
    root = write_hands(tmp_path, {RIGHT: {"MC2": GOOD, "PP2": GOOD}}, {RIGHT: radiograph(finger_at((160, 150), 0)[0])})
    (row,) = listed(root)
    with pytest.raises(InputError, match=rf"{RIGHT}: index: both masks lie on the same bone"):
        Hands(root).read(row, "image")


def test_an_image_of_another_size_is_named(tmp_path):
    bones = finger_at((160, 150), 0)
    segmentations = dict(zip(("MC2", "PP2"), map(run_lengths, bones), strict=True))
    root = write_hands(tmp_path, {RIGHT: segmentations}, {RIGHT: radiograph(*bones)[:-1]})
    (row,) = listed(root)
    with pytest.raises(InputError, match=rf"{RIGHT}: the image is 320 x 299 px and its masks 320 x 300"):
        Hands(root).read(row, "image")


def test_a_name_without_person_or_side_is_refused(tmp_path):
    write_hands(tmp_path, {"hand.bmp": {"MC2": GOOD, "PP2": GOOD}}, {})
    with pytest.raises(InputError, match=r"hand\.bmp: the name is not of the form"):
        rows(tmp_path)


@pytest.mark.parametrize("text", ["{}", "[]", '{"images": [], "annotations": [{}], "categories": []}', "{"])
def test_what_is_not_in_coco_form_is_refused(tmp_path, text):
    (tmp_path / ANNOTATIONS).write_text(text)
    with pytest.raises(InputError, match=f"{re.escape(ANNOTATIONS)}: not "):
        rows(tmp_path)


def test_a_folder_without_the_coco_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"holds no {ANNOTATIONS}"):
        Hands(tmp_path)
