"""Scenes: drawn from seed and step alone, each image once an epoch, and made again from the same numbers."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from lsn_core.batch import mapped, stack
from lsn_core.config import Config
from lsn_core.masks import at_256, bones, dilate
from lsn_core.phantom import phantoms
from lsn_core.radiograph import bones_alone, compose
from lsn_core.scene import Draw, Sources, draw, draw_shift, in_turn, per_epoch, phantoms_of, show, sources
from lsn_core.stage import Stage

CONFIG = Config(networks="compact", size=64, batch=4, phantoms=5)
PSEUDO = Stage("pseudo", epochs=1, joints="apart")
MIXED = Stage("mixed", epochs=1, phantoms=0.25, shifts=2)


@pytest.fixture(scope="module", name="having")
def _having() -> Sources:
    radiographs = replace(stack(phantoms(12, seed=0, size=64), size=64, dilate_px=4.0), layers=None)
    return sources(radiographs, stack(phantoms(5, seed=70, size=64), size=64, dilate_px=4.0))


def drawn(having: Sources, stage: Stage, *, step: int = 0, seed: int = 0, **settings: float) -> Draw:
    """One draw."""
    return draw(having, stage, replace(CONFIG, **settings), CONFIG.batch, step, seed)


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(12, 4), (10, 4), (3, 12), (5, 1)])
def test_an_epoch_shows_each_image_once(count, size):
    steps = count // min(size, count)
    epochs = [torch.cat([in_turn(count, size, e * steps + k, 0) for k in range(steps)]).tolist() for e in range(30)]
    whole = count - count % min(size, count)  # what does not fill a batch waits for another epoch
    assert all(len(epoch) == len(set(epoch)) == whole for epoch in epochs)
    assert {index for epoch in epochs for index in epoch} == set(range(count))
    assert len({tuple(epoch) for epoch in epochs}) > 1  # another order each time


def test_a_draw_depends_on_seed_and_step_alone(having):
    torch.manual_seed(1)
    first = drawn(having, MIXED, step=5)
    torch.manual_seed(2)
    again = drawn(having, MIXED, step=5)
    assert first.record() == again.record()
    others = [drawn(having, MIXED, step=5, seed=seed).record() for seed in range(1, 9)]
    others += [drawn(having, MIXED, step=step).record() for step in range(5)]
    assert first.record() not in others


def test_stages_show_what_they_say(having):
    apart = set(having.apart.tolist())
    assert 4 <= len(apart) < 12
    for step in range(20):
        pseudo, mixed = drawn(having, PSEUDO, step=step), drawn(having, MIXED, step=step)
        assert set(pseudo.joint.tolist()) <= apart and pseudo.pushed.all() and not pseudo.phantom.any()
        assert mixed.phantom.tolist() == [False, False, False, True] and len(mixed.shifts) == 2
        known = [index in apart for index in mixed.joint.tolist()]
        assert mixed.pushed.tolist() == [*known[:3], False]  # bones that overlap, and phantoms, stay
    only = drawn(having, replace(MIXED, phantoms=1.0))
    assert only.phantom.all() and per_epoch(having, replace(MIXED, phantoms=1.0), 4) == 1
    assert per_epoch(having, MIXED, 4) == 12 // 3 and per_epoch(having, PSEUDO, 4) == len(apart) // 4
    assert [phantoms_of(replace(MIXED, phantoms=share), 12) for share in (0.0, 0.2, 1.0)] == [0, 2, 12]


def test_a_share_of_the_joints_apart_is_left_untouched(having):
    half = replace(PSEUDO, untouched=0.5)
    pushed = torch.cat([drawn(having, half, step=step).pushed for step in range(100)]).float().mean()
    assert 0.4 < pushed < 0.6
    assert not drawn(having, replace(PSEUDO, untouched=1.0)).pushed.any()


def test_a_share_is_mirrored(having):
    mirrored = torch.cat([drawn(having, PSEUDO, step=step, mirror=0.25).mirrored for step in range(100)]).float().mean()
    assert 0.15 < mirrored < 0.35


@pytest.mark.parametrize(("size", "scale"), [(256, 1.0), (64, 0.25)])
def test_shifts_fill_their_range_and_differ(size, scale):
    config = replace(CONFIG, size=size, shift_x=20.0, shift_y=30.0, shift_degrees=10.0)
    by = draw_shift(2000, config, torch.Generator().manual_seed(0))
    for column, most in ((by.dx, 20 * scale), (by.dy, 30 * scale), (by.degrees, 10)):
        assert column.abs().max() <= most and column.max() > 0.98 * most and column.min() < -0.98 * most
        assert column.mean().abs() < 0.1 * most and len(column.unique()) > 1900
    assert not torch.equal(by.dx / 20, by.dy / 30)


def test_each_item_and_bone_moves_on_its_own(having):
    (lower, upper), (again, _) = drawn(having, MIXED).shifts
    numbers = torch.stack([lower.dx, lower.dy, upper.dx, upper.dy, again.dx, again.dy])
    assert numbers.shape == (6, 4) and len(numbers.unique()) == 24


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_a_draw(having, world):
    """Together they show what one process with the larger batch shows, each of them radiographs and phantoms alike."""
    whole = draw(having, MIXED, CONFIG, 4 * world, 3, 0)
    parts = [whole.part(rank, world) for rank in range(world)]
    everything = sorted(json.dumps(item) for part in parts for item in part.record())
    assert everything == sorted(json.dumps(item) for item in whole.record())
    assert all(len(part.joint) == 4 and part.phantom.sum() == 1 for part in parts)


# --- what is made of it ----------------------------------------------------------------------------------------------


def test_radiographs_and_phantoms_are_shown_as_they_are(having):
    stage = replace(MIXED, untouched=1.0)
    numbers = drawn(having, stage)
    scene = show(having, numbers)
    real, made = numbers.joint[:3], numbers.joint[3:]
    assert torch.equal(scene.image[:3], having.radiographs.image[real])
    assert torch.equal(scene.image[3:], having.phantoms.image[made])
    assert torch.equal(scene.masks[:3], having.radiographs.masks[real]) and torch.equal(scene.image, scene.original)
    assert scene.layers_known.flatten().tolist() == scene.alone_known.flatten().tolist() == [0, 0, 0, 1]
    assert torch.equal(scene.layers[3:], having.phantoms.layers[made]) and not scene.layers[:3].any()
    assert torch.equal(scene.alone[3:], bones_alone(scene.layers[3:])) and not scene.alone[:3].any()


def test_pushed_bones_come_nearer_and_are_known(having):
    scene = show(having, drawn(having, PSEUDO))
    before, after = (masks[:, 1:].prod(dim=1).sum() for masks in (scene.original_masks, scene.masks))
    assert after > before and scene.alone_known.all() and not scene.layers_known.any()
    beside = 1 - bones(scene.masks)
    assert ((scene.image - scene.fill).abs() * beside).max() < 1e-6  # the vacated place shows flesh
    single = scene.masks[:, 1:2] * (1 - scene.masks[:, 2:3])
    assert ((scene.image - scene.alone[:, :1]).abs() * single).max() < 1e-5


def test_a_mirrored_scene_is_the_mirror_image(having):
    numbers = drawn(having, MIXED, step=1)
    plain, turned = (show(having, replace(numbers, mirrored=torch.full((4,), flag))) for flag in (False, True))
    for name, plane in vars(plain).items():
        assert torch.equal(getattr(turned, name), plane.flip(-1)), name
    half = show(having, replace(numbers, mirrored=torch.tensor([True, False, False, False])))
    assert torch.equal(half.image[0], turned.image[0]) and torch.equal(half.image[1:], plain.image[1:])


def test_truth_composes_to_the_phantom(having):
    scene = show(having, drawn(having, replace(MIXED, phantoms=1.0)))
    assert torch.allclose(compose(scene.layers), scene.image, atol=1e-5)


# --- bones apart, and whose pixel is whose ---------------------------------------------------------------------------


def test_apart_means_less_than_ten_pixels_after_one_of_widening(having):
    size = 64
    wide = dilate(having.radiographs.drawn.float(), at_256(1.0, size))
    shared = (wide[:, 1] * wide[:, 2]).sum(dim=(1, 2))
    assert having.apart.tolist() == [i for i, px in enumerate(shared.tolist()) if px <= 10 * (size / 256) ** 2]


def test_contested_pixels_belong_to_the_nearer_bone(having):
    """Widened outlines overlap; a pixel of both is one bone's, and half of each only where both are drawn."""
    batch = having.radiographs
    share, drawn_both = batch.share, batch.drawn[:, 1:2] & batch.drawn[:, 2:3]
    contested = (batch.wide[:, 1:2] & batch.wide[:, 2:3]).expand_as(share)
    assert set(share.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert torch.equal(share.sum(dim=1), batch.wide[:, 1:].any(dim=1).float())
    assert torch.equal(share == 0.5, drawn_both.expand_as(share)) and (contested & (share == 1)).any()
    assert (share[batch.drawn[:, 1:] & ~drawn_both] == 1).all()  # what was drawn of one bone stays its own


def test_sources_travel_whole(having):
    moved = having.to("cpu")
    assert torch.equal(moved.radiographs.image, having.radiographs.image) and torch.equal(moved.apart, having.apart)
    assert sources(None, having.phantoms).to("cpu").radiographs is None
    assert sources(None, having.phantoms).shown(replace(MIXED, phantoms=1.0)).tolist() == [0, 1, 2, 3, 4]


def test_mapped_reaches_into_tuples_and_dataclasses(having):
    numbers = drawn(having, MIXED)
    first = mapped(numbers, lambda column: column[:1])
    assert first.record() == numbers.record()[:1]
    assert Counter(item["source"] for item in numbers.record()) == {"radiograph": 3, "phantom": 1}
