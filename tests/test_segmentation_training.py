"""Training of the outliner: it learns, and goes on after a stop as if there had been none."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lsn_core import segmentation_training as training
from lsn_core.files import InputError, read_json
from lsn_core.segmentation import load_outliner
from lsn_core.segmentation_training import Schooling, outline_loss, rate, train_outliner

TINY = Schooling(steps=4, alone=2, batch=4, warmup=2, phantoms=3)


def test_a_stopped_training_goes_on_as_if_it_had_not(tmp_path, monkeypatch, phantom_folder):
    monkeypatch.setattr(training, "SAVE_EVERY", 2)
    whole = train_outliner(tmp_path / "whole", str(phantom_folder), TINY)

    def stopped(*words):
        if len(list((tmp_path / "cut/checkpoints").glob("*"))):
            raise KeyboardInterrupt
        return teach(*words)

    teach = training.teach
    monkeypatch.setattr(training, "teach", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_outliner(tmp_path / "cut", str(phantom_folder), TINY)
    monkeypatch.setattr(training, "teach", teach)
    resumed = train_outliner(tmp_path / "cut", str(phantom_folder), TINY)
    one, other = load_file(whole), load_file(resumed)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert read_json(tmp_path / "cut/metrics.json")["provenance"]["schooling"]["steps"] == 4
    assert load_outliner(resumed)(torch.rand(1, 1, 128, 128))[0].shape == (1, 3, 128, 128)


def test_other_settings_in_the_same_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 1)
    train_outliner(tmp_path, None, replace(TINY, steps=1))
    with pytest.raises(InputError, match="was begun with other settings or data; name another folder"):
        train_outliner(tmp_path, None, replace(TINY, steps=2))


def test_it_learns(tmp_path):
    torch.manual_seed(0)
    outliner = training.Outliner()
    optimizer = torch.optim.AdamW(outliner.parameters(), lr=2e-3)
    drawn, _, _ = training.gather_examples(None, TINY)
    lesson = training.draw_lesson(drawn, 4, torch.Generator().manual_seed(0))
    losses = [training.teach(outliner, optimizer, lesson) for _ in range(12)]
    assert losses[-1]["outlines"] < 0.85 * losses[0]["outlines"] and losses[-1]["kind"] < losses[0]["kind"]


def test_outline_loss_by_hand():
    masks = torch.zeros(1, 3, 4, 4)
    masks[..., :2] = 1
    sure = 40 * (2 * masks - 1)
    assert outline_loss(sure, masks) == pytest.approx(0, abs=1e-6)
    nothing = torch.zeros_like(masks)  # probability one half: cross-entropy ln 2, Dice (2 * 4 + 1) / (8 + 8 + 1)
    assert outline_loss(nothing, masks) == pytest.approx(0.693147 + 1 - 9 / 17, abs=1e-5)


def test_the_rate_rises_and_falls():
    rates = [rate(Schooling(), step) for step in (0, 99, 3000, 5999)]
    assert rates[0] == pytest.approx(2e-5) and rates[1] == pytest.approx(2e-3, rel=1e-2)
    assert rates[2] == pytest.approx(1e-3, rel=1e-2) and rates[3] < 1e-6
