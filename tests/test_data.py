"""Data sets: three layouts give the same joints, splits hold whole joints, and unusable files are named."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsn_core.data import Folder, JointDataset, check, open_dataset, pack, read_radiograph
from lsn_core.files import InputError
from lsn_core.images import write_image
from lsn_core.joint import FINGERS
from lsn_core.phantom import FIELD_MM

CASES = "Dataset_cases_anonymization"
TRAIN = {"00001_L_13": 2, "00002_R_11": 1, "00003_L_8": 1}  # joint: visits
TEST = {"00004_R_5": 1, "00005_L_2": 3}
SHAPE = (40, 48)


def drawing(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grey image above the level of air, but for a strip of it; two masks that overlap, one reaching into the air."""
    image = np.random.default_rng(seed).integers(60, 250, SHAPE, dtype=np.uint8)
    image[:, :5] = 0
    lower, upper = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    upper[2:20, 12:36], lower[18:38, 2 : 38 - seed] = True, True
    return image, lower, upper


def bls_release(root: Path) -> Path:
    """A folder in the layout of the BLS-GAN release."""
    seed = 0
    for split, joints in (("train", TRAIN), ("test", TEST)):
        records = []
        for joint, visits in joints.items():
            (root / "Data" / CASES / joint).mkdir(parents=True)
            for visit in range(visits):
                seed += 1
                image, lower, upper = map(Image.fromarray, drawing(seed))
                stem = f"{CASES}/{joint}/{visit}"
                image.save(root / "Data" / f"{stem}.jpg", quality=95)
                lower.convert("L").save(root / "Data" / f"{stem}_mask_lower.bmp")
                upper.convert("L").save(root / "Data" / f"{stem}_mask_upper.bmp")
                masks = {part: f"{stem}_mask_{part}.bmp" for part in ("lower", "upper")}
                records.append({"image": f"{stem}.jpg", **masks, "background": "not read"})
        (root / "Data" / f"LS_K1_all_{split}").write_text(json.dumps(records))
        (root / "Data" / f"LS_K1_overlap_{split}").write_text(json.dumps(records[1:]))
    return root


@pytest.fixture(name="release")
def _release(tmp_path) -> Path:
    return bls_release(tmp_path / "bls")


def own_folder(root: Path, rows: list[str]) -> Path:
    """A folder with a manifest of these rows, and the files a to d."""
    root.mkdir()
    for seed, stem in enumerate("abcd"):
        for name, plane in zip(("", "_lower", "_upper"), drawing(seed), strict=True):
            Image.fromarray(plane).save(root / f"{stem}{name}.png")
    (root / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    return root


def line(stem: str, rest: str = "") -> str:
    """A manifest's line that names an image and its masks."""
    return f"{stem}.png,{stem}_lower.png,{stem}_upper.png{rest}"


HEADER = "image,lower,upper,joint,finger,side,spacing_mm,split"
ROWS = [
    HEADER,
    line("a", ",j1,index,L,0.1,train"),
    line("b", ",j1,index,L,0.1,train"),
    line("c"),
    line("d", ",,,,,validation"),
]


@pytest.fixture(name="own")
def _own(tmp_path) -> Path:
    return own_folder(tmp_path / "own", ROWS)


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_bls_gan_layout(release):
    for path in (release, release / "Data"):
        joints = list(open_dataset(path, split="train"))
        assert [joint.joint for joint in joints] == ["00001_L_13", "00001_L_13", "00002_R_11", "00003_L_8"]
        assert [joint.name for joint in joints][:2] == ["00001_L_13/0", "00001_L_13/1"]
        assert [(joint.finger, joint.side) for joint in joints][1:] == [("thumb", "L"), ("index", "R"), ("middle", "L")]
    assert {joint.finger for joint in open_dataset(release, split="all")} == set(FINGERS)
    assert {joint.spacing_mm for joint in joints} == {FIELD_MM / 256} and {joint.jsw_mm for joint in joints} == {None}


def test_bls_gan_splits(release):
    counts = {"train": 4, "test": 4, "all": 8, "overlap_train": 3, "overlap_test": 3}
    assert {split: len(open_dataset(release, split=split)) for split in counts} == counts
    assert len(open_dataset(release)) == counts["test"]  # the default


def test_a_joint_is_what_its_files_hold(release):
    joint = open_dataset(release, split="train")[1]
    _, lower, upper = drawing(2)
    stored = np.asarray(Image.open(release / "Data" / CASES / "00001_L_13" / "1.jpg"))
    assert torch.equal(joint.image, torch.from_numpy(stored / np.float32(255))[None])
    assert torch.equal(joint.masks[1:].bool(), torch.from_numpy(np.stack((lower, upper))))
    hand = joint.masks[0].bool().numpy()
    assert not hand[:16, :3].any() and hand[:, 8:].all()  # no air, up to what JPEG smears
    assert (joint.masks[0] >= joint.masks[1:].amax(dim=0)).all()


@pytest.mark.parametrize("layout", ["release", "own"])
def test_a_pack_holds_the_same_joints_as_its_folder(request, tmp_path, layout):
    folder = open_dataset(request.getfixturevalue(layout), split="all")
    packed = open_dataset(pack(folder, tmp_path / "all.safetensors"), split="all")
    same_joints(folder, packed)
    assert packed.fingerprint() == folder.fingerprint()
    assert [row.splits for row in packed.rows] == [row.splits for row in folder.rows]


def same_joints(one: JointDataset, other: JointDataset) -> None:
    """Equal tensor by tensor, and in all that is known about each."""
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.image, b.image) and torch.equal(a.masks, b.masks)
        assert all(getattr(a, key) == getattr(b, key) for key in ("name", "joint", "finger", "side", "spacing_mm"))


def test_the_fingerprint_knows_every_pixel(own):
    before = open_dataset(own).fingerprint()
    assert open_dataset(own).fingerprint() == before
    _, lower, _ = drawing(2)
    lower[0, 0] = True
    Image.fromarray(lower).save(own / "c_lower.png")
    assert open_dataset(own).fingerprint() != before


def test_a_subset_keeps_all_visits(release):
    everything = open_dataset(release, split="all")
    some = everything.subset({"00005_L_2", "00002_R_11"})
    assert [row.joint for row in some.rows] == ["00002_R_11"] + 3 * ["00005_L_2"]
    assert some[1].name == "00005_L_2/0"


@pytest.mark.parametrize("bits", [8, 16])
def test_one_radiograph(tmp_path, bits):
    top = 2**bits - 1
    levels = np.array([[0, top // 3], [top // 5, top]], dtype=f"uint{bits}")
    Image.fromarray(levels).save(tmp_path / "a.png")
    image, spacing = read_radiograph(tmp_path / "a.png")
    assert torch.equal(image, torch.tensor([[[0, 1 / 3], [1 / 5, 1]]])) and spacing is None


def test_colour_and_sixteen_bits_are_read_as_grey(own):
    _, *masks = drawing(2)
    grey = np.linspace(0.1, 0.9, 40 * 48).reshape(SHAPE)
    write_image(own / "c.png", grey)
    assert np.abs(open_dataset(own)[0].image[0].numpy() - grey).max() < 1e-5
    levels = np.round(grey * 255).astype(np.uint8)
    Image.fromarray(np.stack((levels,) * 3, axis=-1)).save(own / "c.png")
    joint = open_dataset(own)[0]
    assert torch.equal(joint.image[0], torch.from_numpy(levels / np.float32(255)))
    assert torch.equal(joint.masks[1:].bool(), torch.from_numpy(np.stack(masks)))


# --- what cannot be used ---------------------------------------------------------------------------------------------


def truncate(root: Path) -> None:
    """Cut off the second half of a JPEG."""
    Image.fromarray(drawing(2)[0]).save(root / "c.jpg")
    whole = (root / "c.jpg").read_bytes()
    (root / "c.jpg").write_bytes(whole[: len(whole) // 2])
    rename(root, "c.png", "c.jpg")


def rename(root: Path, old: str, new: str) -> None:
    """Change a name in the manifest."""
    text = (root / "manifest.csv").read_text()
    (root / "manifest.csv").write_text(text.replace(old, new))


def with_npy(value: float) -> Callable[[Path], None]:
    """Make the image a floating-point array with one odd value."""

    def damage(root: Path) -> None:
        array = np.full(SHAPE, 0.5, dtype=np.float32)
        array[3, 4] = value
        np.save(root / "c.npy", array)
        rename(root, "c.png", "c.npy")

    return damage


def mask_of(plane: np.ndarray) -> Callable[[Path], None]:
    """Put another lower mask in the place of the drawn one."""
    return lambda root: Image.fromarray(plane).save(root / "c_lower.png")


WRONG_FILES = {  # damage to a file of the test joint c: (how, what the message says)
    "truncated JPEG": (truncate, r"/c.jpg: the image is damaged \(.*\); copy it again"),
    "mask of another size": (mask_of(np.eye(9) > 0), r"/c_lower.png: the mask is 9 x 9 px and its image 48 x 40"),
    "all-black mask": (mask_of(np.zeros(SHAPE) > 0), r"/c_lower.png: the mask is all black; draw"),
    "all-white mask": (mask_of(np.ones(SHAPE) > 0), r"/c_lower.png: the mask covers the whole frame; draw"),
    "NaN": (with_npy(np.nan), r"/c.npy: 1 values are NaN or infinite; export"),
    "infinity": (with_npy(-np.inf), r"/c.npy: 1 values are NaN or infinite; export"),
    "values beyond white": (with_npy(255.0), r"/c.npy: .* 0.5 to 255; scale"),
    "text": (lambda root: (root / "c.png").write_text("x"), r"/c.png: not an image that can be read; convert"),
    "empty file": (lambda root: (root / "c.png").write_bytes(b""), r"/c.png: the file is empty, 0 bytes; copy it"),
    "coloured mask": (
        mask_of(np.arange(40 * 48 * 3, dtype=np.uint8).reshape(*SHAPE, 3)),
        r"/c_lower.png: the mask is coloured; draw",
    ),
    "grey mask": (mask_of(drawing(2)[0]), r"/c_lower.png: \d+% of the mask is grey; draw"),
}


@pytest.mark.parametrize("damage", WRONG_FILES)
def test_wrong_files(own, tmp_path, damage):
    harm, told = WRONG_FILES[damage]
    harm(own)
    dataset = open_dataset(own, split="all")
    with pytest.raises(InputError, match=str(own) + told) as refusal:
        dataset[2]
    (finding,) = check(dataset)
    assert finding.name == "c" and finding.reason == str(refusal.value) and "\n" not in finding.reason
    assert not finding.usable
    assert dataset[0].name == "a"  # the others are as good as before
    with pytest.raises(InputError, match=told):
        pack(dataset, tmp_path / "pack.safetensors")
    assert not (tmp_path / "pack.safetensors").exists()


def test_masks_that_are_swapped_or_drawn_twice_are_found(own):
    dataset = open_dataset(own)
    assert not check(dataset)
    lower, upper = (own / f"c_{part}.png" for part in ("lower", "upper"))
    saved = lower.read_bytes()
    lower.write_bytes(upper.read_bytes())  # one bone drawn twice
    (drawn_twice,) = check(dataset)
    upper.write_bytes(saved)  # and now the two are swapped
    (swapped,) = check(dataset)
    assert drawn_twice.reason.startswith(f"{upper}: it lies on the bone of the lower mask; redraw")
    assert swapped.reason.startswith(f"{upper}: not above the lower mask; swap")
    assert drawn_twice.usable and swapped.usable  # they can be decoded, and packed as they are


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[{", r"LS_K1_all_test: not valid JSON"),
        ('["a.jpg"]', r"LS_K1_all_test: the record .* lacks image, lower or upper; restore"),
        ('[{"image": "a.jpg", "lower": "b.bmp"}]', r"LS_K1_all_test: the record .* lacks"),
        ('[{"image": 1, "lower": "b.bmp", "upper": "c.bmp"}]', r"LS_K1_all_test: the record .* lacks"),
        ("3", r"LS_K1_all_test: the record '3' lacks"),
        (
            '{"image": "x/1_L_13/a.jpg", "lower": "b", "upper": "c"}',
            r"/x/1_L_13/a.jpg and 2 more: listed but not there",
        ),
        ('[{"image": "1_L_99/a.jpg", "lower": "b", "upper": "c"}]', r"1_L_99/a.jpg: folder code '99' is no finger"),
        ('[{"image": "a.jpg", "lower": "b", "upper": "c"}]', r"a.jpg: folder code '' is no finger"),
    ],
)
def test_wrong_lists(release, text, told):
    (release / "Data" / "LS_K1_overlap_test").unlink()
    (release / "Data" / "LS_K1_all_test").write_text(text)
    with pytest.raises(InputError, match=told) as refusal:
        open_dataset(release)
    assert "\n" not in str(refusal.value)


def test_a_list_that_names_a_file_that_is_not_there(release):
    gone = release / "Data" / CASES / "00004_R_5" / "0_mask_upper.bmp"
    gone.unlink()
    with pytest.raises(InputError, match=re.escape(f"{gone}: listed but not there; restore the file, or take it off")):
        open_dataset(release)
    assert len(open_dataset(release, split="train")) == 4  # which does not need it


def test_paths_that_are_no_data_set(tmp_path, own):
    with pytest.raises(InputError, match=r"absent: no such folder or file; give the path of a data set"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds neither a manifest.csv nor the lists of BLS-GAN or RAM-"):
        open_dataset(tmp_path / "empty")
    with pytest.raises(InputError, match=rf"{own}/a.png: not a packed data set \(.*\); write one with 'lsn data pack'"):
        open_dataset(own / "a.png")
    with pytest.raises(InputError, match="split 'tset' has no joints; choose one of all, test, train, validation"):
        open_dataset(own, split="tset")


def test_damaged_packs(own, tmp_path):
    path = pack(open_dataset(own, split="all"), tmp_path / "pack.safetensors")
    whole = path.read_bytes()
    for length in (0, 7, 200, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"pack.safetensors: not a packed data set .*; write one"):
            open_dataset(path)
    path.write_bytes(whole.replace(b"lsn-pack-1", b"lsn-pack-9"))
    with pytest.raises(InputError, match="format 'lsn-pack-9' is not lsn-pack-1; pack it again"):
        open_dataset(path)


# --- the BLS-GAN radiographs -----------------------------------------------------------------------------------------


def test_the_k1_splits(bls_gan):
    train, test = open_dataset(bls_gan, split="train"), open_dataset(bls_gan, split="test")
    joints = [{row.joint for row in dataset.rows} for dataset in (train, test)]
    assert (len(train), len(test), len(joints[1])) == (1111, 395, 123)
    assert not joints[0] & joints[1]  # no joint on both sides
    for dataset, split in ((train, "train"), (test, "test")):
        parts = [
            {row.name for row in open_dataset(bls_gan, split=f"{part}_{split}").rows}
            for part in ("overlap", "nonoverlap")
        ]
        assert not parts[0] & parts[1] and parts[0] | parts[1] == {row.name for row in dataset.rows}
    assert {row.finger for row in test.rows} == set(FINGERS) and {row.side for row in test.rows} == {"L", "R"}


def test_packed_radiographs(bls_gan, tmp_path):
    everything = open_dataset(bls_gan, split="test")
    some = JointDataset(everything.rows[::40], everything.store)
    packed = open_dataset(pack(some, tmp_path / "some.safetensors"))
    same_joints(some, packed)
    assert packed.fingerprint() == some.fingerprint()
    assert {joint.image.shape for joint in packed} == {(1, 256, 256)} and isinstance(some.store, Folder)
    stored = sum(
        Path(some.store.where(row, part)).stat().st_size for row in some.rows for part in ("image", "lower", "upper")
    )
    assert (tmp_path / "some.safetensors").stat().st_size < stored / 3
