"""What a generator is chosen by: fixed numbers, means over images."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lsn_core.batch import stack
from lsn_core.config import Config
from lsn_core.phantom import phantoms
from lsn_core.scene import sources
from lsn_core.validation import CHUNK, CRITERION, validate

CONFIG = Config(networks="compact", head="partition", size=64, mirror=0.5, phantoms=1)


class Grey(nn.Module):
    """Soft tissue of nine tenths of the image, no bone."""

    def forward(self, image: Tensor, masks: Tensor) -> Tensor:
        assert not self.training and len(image) <= CHUNK
        return torch.cat((0.9 * image, torch.zeros_like(image), torch.zeros_like(image)), dim=1)


def watched(count: int, made: int = 0, size: int = 64):
    """Radiographs and phantoms."""
    radiographs = stack(phantoms(count, seed=0, size=64), size=size, dilate_px=4.0)
    return sources(radiographs, stack(phantoms(made, seed=90, size=64), size=size, dilate_px=4.0) if made else None)


def test_numbers_are_means_over_images():
    watch, net = watched(CHUNK + 3, 4), Grey().train()
    scores, hand = validate(net, watch, CONFIG), watch.radiographs.masks[:, :1]
    squares = ((0.1 * watch.radiographs.image) ** 2 * hand).sum(dim=(1, 2, 3)) / hand.sum(dim=(1, 2, 3))
    assert scores["psnr_db"] == pytest.approx(float((-10 * squares.log10()).mean()), rel=1e-5)
    assert scores["rmse"] == pytest.approx(float(squares.sqrt().mean()), rel=1e-5)
    assert scores["shadow"] > 0.05 and net.training  # bone is seen in it; and the mode is as before
    under = watch.phantoms.masks[:, 1:].amax(dim=1, keepdim=True)
    made = torch.cat((0.9 * watch.phantoms.image, torch.zeros_like(watch.phantoms.layers[:, 1:])), dim=1)
    errors = ((made - watch.phantoms.layers).abs() * under).sum(dim=(1, 2, 3)) / (3 * under.sum(dim=(1, 2, 3)))
    assert scores["truth"] == pytest.approx(float(errors.mean()), rel=1e-5)


def test_the_criterion_is_fixed_and_does_not_play():
    """The same images each time, whatever the seed and the mirror; the sum of what there is, but for the decibels."""
    watch = watched(6, 2)
    scores = [validate(Grey(), watch, replace(CONFIG, seed=seed, mirror=seed)) for seed in (0, 1)]
    assert scores[0] == scores[1] and "psnr_db" not in CRITERION
    assert scores[0]["criterion"] == pytest.approx(sum(scores[0][name] for name in CRITERION))


def test_what_cannot_be_measured_is_left_out():
    """At 32 px a band of 6 px at 256 is narrower than a pixel; without phantoms there is no truth."""
    scores = validate(Grey(), watched(4, size=32), replace(CONFIG, size=32))
    assert {"rmse", "psnr_db", "criterion"} <= set(scores) <= {"rmse", "psnr_db", "bones", "criterion"}


def test_the_layers_of_a_better_separation_score_lower():
    """The truth itself against no separation at all."""

    class Known(Grey):
        def forward(self, image: Tensor, masks: Tensor) -> Tensor:
            return watch.phantoms.layers if torch.equal(image, watch.phantoms.image) else super().forward(image, masks)

    watch = watched(3, 3)
    assert validate(Known(), watch, CONFIG)["truth"] < 1e-6 < validate(Grey(), watch, CONFIG)["truth"]
