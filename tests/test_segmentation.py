"""The outliner: what it draws of joints, and what it refuses. Its weights are those that ship."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lsn_core import segmentation
from lsn_core.check import on_one_bone
from lsn_core.data import open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError
from lsn_core.intake import draw_masks
from lsn_core.phantom import phantoms
from lsn_core.segmentation import KINDS, REMEDIES, Found, Outliner, dice, find_masks, load_outliner, reason, whole
from lsn_core.segmentation_scores import outline_scores

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "outlines.py"


@pytest.fixture(scope="module")
def outliner() -> Outliner:
    return load_outliner("outlines")


@pytest.fixture(scope="module")
def joints() -> list:
    """A phantom of each finger, as film."""
    return [COMPUTED_RADIOGRAPHY.expose(joint, seed=k) for k, joint in enumerate(phantoms(5, seed=70_000, size=192))]


@pytest.fixture(scope="module")
def strangers() -> dict[str, np.ndarray]:
    """Photographs, CT, MR, a chest film, noise."""
    return dict(runpy.run_path(str(BENCHMARK))["strangers"]())


def test_the_shipped_weights_are_small_and_say_where_they_come_from():
    path = segmentation.outliner_path("outlines")
    assert path.stat().st_size < 8e6
    with safe_open(path, framework="pt") as file:
        assert "commit" in file.metadata()["provenance"]
    assert sum(parameter.numel() for parameter in Outliner().parameters()) < 1.0e6


def test_bones_of_every_finger_are_found(outliner, joints):
    for joint in joints:
        found = find_masks(outliner, joint.image[None])
        scores = outline_scores(found.masks[0].numpy(), joint.masks.numpy() > 0)
        assert reason(found, 0) is None
        assert min(scores["lower_dice"], scores["upper_dice"]) > 0.96 and scores["hand_dice"] > 0.98
        assert max(scores["lower_px"], scores["upper_px"]) < 4


@pytest.mark.parametrize("k", range(4))
def test_which_way_is_up_is_told(outliner, joints, k):
    for joint in joints:
        told = reason(find_masks(outliner, joint.image[None].rot90(k, (2, 3))), 0)
        assert told == (None if k == 0 else REMEDIES[KINDS[k]])


def test_inverted_greys_are_told(outliner, joints):
    assert {reason(find_masks(outliner, 1 - joint.image[None]), 0) for joint in joints} == {REMEDIES["inverted"]}


def test_what_is_no_joint_is_refused(outliner, strangers):
    assert len(strangers) > 40 and {"chelsea.png 0", "drawn chest film", "MR_small.dcm 0"} <= strangers.keys()
    for name, image in strangers.items():
        with pytest.raises(InputError, match=name.split()[0]):
            draw_masks(image, outliner, name)


def test_windows_and_exposures_do_not_matter(outliner, joints):
    image = joints[1].image[None]
    for other in (0.5 * image, 0.3 + 0.6 * image, image**0.7):
        assert dice(find_masks(outliner, other).masks, find_masks(outliner, image).masks).min() > 0.97


def test_a_mirrored_joint_has_mirrored_masks(outliner, joints):
    image = joints[2].image[None]
    one, other = find_masks(outliner, image), find_masks(outliner, image.flip(-1))
    assert dice(one.masks, other.masks.flip(-1)).min() > 0.999


def test_masks_of_any_size_are_the_same(outliner, joints):
    small = torch.nn.functional.interpolate(joints[3].image[None], (96, 96), mode="bilinear", antialias=True)
    large = find_masks(outliner, joints[3].image[None]).masks.float()
    again = torch.nn.functional.interpolate(large, (96, 96), mode="bilinear", antialias=True) > 0.5
    assert dice(find_masks(outliner, small).masks, again).min() > 0.98


def test_real_radiographs(outliner, bls_gan):
    dataset = open_dataset(bls_gan, split="test")
    some = [dataset[i] for i in range(0, len(dataset), 30)]
    usable = [joint for joint in some if not on_one_bone(*joint.masks[1:].bool().numpy())]
    found = [find_masks(outliner, joint.image[None]) for joint in usable]
    assert len(usable) > 10 and [reason(one, 0) for one in found] == [None] * len(found)
    shared = [dice(one.masks, joint.masks[None].bool()) for one, joint in zip(found, usable, strict=True)]
    assert torch.cat(shared)[:, 1:].min() > 0.93 and torch.cat(shared)[:, 1:].mean() > 0.98


def sure_of(masks: torch.Tensor, kind: str = "upright", probability: float = 0.99, agreement: float = 0.99) -> Found:
    """What a network would have found."""
    kinds = torch.full((1, len(KINDS)), (1 - probability) / (len(KINDS) - 1))
    kinds[0, KINDS.index(kind)] = probability
    return Found(masks, kinds, torch.tensor([agreement]))


def test_reasons_by_hand():
    masks = torch.zeros(1, 3, 32, 32, dtype=torch.bool)
    masks[:, 0], masks[:, 1, 18:], masks[:, 2, :14] = True, True, True
    swapped = masks[:, [0, 2, 1]]
    assert reason(sure_of(masks), 0) is None
    assert {kind: reason(sure_of(masks, kind), 0) for kind in REMEDIES} == REMEDIES
    assert "joint 70% sure, outlines repeated to 99%" in reason(sure_of(masks, probability=0.7), 0)
    assert "repeated to 50%" in reason(sure_of(masks, agreement=0.5), 0)
    assert reason(sure_of(swapped), 0) == REMEDIES["down"]
    masks[:, 2], masks[:, 2, 0, :9] = False, True
    assert "not found with certainty" in reason(sure_of(masks), 0)


def test_a_bone_is_one_piece_without_holes():
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:12, 2:12], mask[5:7, 5:7], mask[15:18, 15:18] = True, False, True
    expected = np.zeros_like(mask)
    expected[2:12, 2:12] = True
    np.testing.assert_array_equal(whole(mask), expected)
    assert not whole(np.zeros_like(mask)).any()


def test_dice_by_hand():
    a = torch.zeros(1, 3, 4, 4, dtype=torch.bool)
    b = a.clone()
    a[0, 0, :2], b[0, 0, 1:3], a[0, 1] = True, True, True
    assert dice(a, b).tolist() == [[0.5, 0.0, 1.0]]


def test_weights_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="absent: no such weights; give a file, or the shipped 'outlines'"):
        load_outliner("absent")
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"x.safetensors: not an outliner of this version"):
        load_outliner(tmp_path / "x.safetensors")
    shipped = segmentation.outliner_path("outlines")
    folder = tmp_path / "weights/outlines"
    folder.mkdir(parents=True)
    (folder / "outlines.safetensors").write_bytes(shipped.read_bytes() + b"x")
    (folder / "SHA256SUMS").write_text(shipped.with_name("SHA256SUMS").read_text())
    monkeypatch.setattr(segmentation, "FOLDERS", (tmp_path / "weights",))
    with pytest.raises(InputError, match="not the file whose SHA-256"):
        load_outliner("outlines")


def test_an_image_of_one_grey_is_told(outliner):
    with pytest.raises(InputError, match=r"flat: its greys span 0\.0% of their range"):
        draw_masks(np.full((64, 64), 0.4, np.float32), outliner, "flat")
