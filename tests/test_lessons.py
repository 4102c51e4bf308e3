"""Lessons: kinds and their shares, masks that follow their bones, impostors of every sort."""

import pytest
import torch

from lsn_core import lessons
from lsn_core.lessons import Examples, draw_lesson, jittered, windowed
from lsn_core.phantom import phantoms
from lsn_core.segmentation import KINDS


@pytest.fixture(scope="module")
def examples() -> Examples:
    joints = list(phantoms(6, seed=3, size=64))
    return Examples(torch.stack([j.image for j in joints]), torch.stack([j.masks.bool() for j in joints]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_lesson_has_all_kinds_in_their_shares_and_upright_ones_first(examples):
    lesson = draw_lesson(examples, 32, seeded())
    assert lesson.upright.tolist() == [True] * 19 + [False] * 13
    assert [lesson.kind.eq(k).sum().item() for k in range(len(KINDS))] == [19, 2, 2, 2, 2, 5]
    assert lesson.image.shape == (32, 1, 64, 64) and 0 <= lesson.image.min() <= lesson.image.max() <= 1


def test_a_lesson_follows_from_its_seed(examples):
    one, same, other = (draw_lesson(examples, 16, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.image, same.image) and torch.equal(one.masks, same.masks)
    assert not torch.equal(one.image, other.image)


def test_masks_follow_what_they_mask():
    mask = torch.zeros(8, 3, 64, 64)
    mask[:, 0] = 1
    mask[:, 1, 30:, 20:40] = 1
    mask[:, 2, :28, 22:44] = 1
    image, moved = jittered(mask[:, 1:2].clone(), mask, seeded())
    assert torch.equal((image > 0.5).float(), moved[:, 1:2])
    assert not torch.equal(moved, mask) and set(moved.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("kind", "bright"), [("left", (slice(None), 0)), ("down", (-1,)), ("right", (slice(None), -1))]
)
def test_a_kind_says_where_the_fingertip_points(monkeypatch, kind, bright):
    tip = torch.zeros(1, 1, 32, 32)
    tip[:, :, :4] = 1  # the fingertip's side
    monkeypatch.setattr(lessons, "jittered", lambda image, masks, random: (image, masks))
    monkeypatch.setattr(lessons, "windowed", lambda image, random: image)
    lesson = draw_lesson(Examples(tip, torch.ones(1, 3, 32, 32, dtype=torch.bool)), 32, seeded())
    image = lesson.image[lesson.kind.tolist().index(KINDS.index(kind)), 0]
    assert (image[bright] == 1).all() and image.mean() == pytest.approx(1 / 8)


def test_windows_change_greys_alone(examples):
    shown = windowed(examples.image, seeded())
    for before, after in zip(examples.image, shown, strict=True):
        assert torch.corrcoef(torch.stack((before.flatten(), after.flatten())))[0, 1] > 0.85
        assert (before - after).abs().mean() > 0.005


@pytest.mark.parametrize("make", ["noise", "shapes", "shuffled", "enlarged", "lost", "doubled"])
def test_impostors_are_pictures_and_no_joint(examples, make):
    joint, random = examples.image[0], seeded()
    made = [getattr(lessons, make)(joint, random) for _ in range(6)]
    for image in made:
        assert image.shape == joint.shape and image.min() >= 0 and image.max() <= 1 and image.std() > 0.01
        assert (image - joint).abs().mean() > 0.01
    assert len({round(image.mean().item(), 5) for image in made}) > 1
