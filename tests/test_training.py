"""Training: each step improves its own network and leaves the others as they are, and a seed decides everything."""

import copy
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lsn_core import losses
from lsn_core.batch import Batch, stack
from lsn_core.config import Config
from lsn_core.joint import FINGERS
from lsn_core.phantom import Phantom, phantoms
from lsn_core.radiograph import Shift, compose, shift
from lsn_core.training import (
    Players,
    discriminator_step,
    draw_batch,
    draw_shift,
    generator_step,
    move,
    precision,
    segmenter_step,
    set_up,
    step_random,
    train,
    train_step,
    validate,
)

CONFIG = Config(networks="compact", head="partition", size=32, batch=2, steps=3, anchor=0.5, precision="32-true")
NAMES = ("generator", "segmenter", "discriminator")


@pytest.fixture(scope="module", name="fabric")
def _fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


@pytest.fixture(scope="module", name="data")
def _data() -> Batch:
    return stack(phantoms(4, seed=0, size=64), size=32, dilate_px=4.0)


def players(fabric: Fabric, config: Config = CONFIG, seed: int = 0) -> Players:
    """Fresh networks."""
    torch.manual_seed(seed)
    return set_up(fabric, config)


def states(some: Players) -> dict[str, dict[str, Tensor]]:
    """A copy of all weights and buffers, by network."""
    return {name: copy.deepcopy(net.state_dict()) for name, net in some.modules().items()}


def changed(before: dict[str, dict[str, Tensor]], some: Players) -> set[str]:
    """The networks that are not bit-identical to what they were."""
    after = states(some)
    return {n for n in NAMES if not all(torch.equal(before[n][key], after[n][key]) for key in before[n])}


# --- the steps of Algorithm 1 ----------------------------------------------------------------------------------------


def test_each_step_changes_its_own_network_only(fabric, data):
    some = players(fabric)
    before = states(some)
    layers, terms = generator_step(fabric, some, data, CONFIG, step_random(0, 0))
    assert changed(before, some) == {"generator"}
    assert set(terms) == {"reconstruction", "supervision", "softness", "anchor"} and not layers.requires_grad
    before = states(some)
    segmenter_step(fabric, some, data)
    assert changed(before, some) == {"segmenter"}
    before = states(some)
    discriminator_step(fabric, some, data, layers)
    assert changed(before, some) == {"discriminator"}


def test_frozen_statistics_stay_too(fabric, data):
    """Critics with batch norm, whose running means would absorb the generator's images."""

    class Critic(nn.Sequential):
        def __init__(self, outputs: int) -> None:
            super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, outputs, 1))

    some = players(fabric)
    normed = replace(some.networks, segmenter=Critic(3), discriminator=Critic(1))
    some = replace(some, networks=normed)
    before = states(some)
    generator_step(fabric, some, data, CONFIG, step_random(0, 0))
    assert changed(before, some) == {"generator"} and "1.running_mean" in before["segmenter"]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_a_rate_stays_as_it_is(fabric, data, name):
    config = replace(CONFIG, **{f"lr_{name}": 0.0})
    some = players(fabric, config)
    before = states(some)
    train_step(fabric, some, data, config, 0)
    assert changed(before, some) == set(NAMES) - {name}


@pytest.mark.parametrize("term", ["reconstruction", "supervision", "softness", "anchor"])
def test_every_weighted_term_moves_the_generator(fabric, data, term):
    """An ablation is a weight of zero: with all four at zero nothing is learnt, with one of them something is."""
    none = dict.fromkeys(("reconstruction", "supervision", "softness", "anchor"), 0.0)
    for weight, learns in ((0.0, set()), (1.0, {"generator"})):
        config = replace(CONFIG, head="sigmoid", **none | {term: weight})
        some = players(fabric, config)
        for group in some.generator.optimizer.param_groups:
            group["weight_decay"] = 0.0
        before = states(some)
        generator_step(fabric, some, data, config, step_random(0, 0))
        assert changed(before, some) == learns


def test_the_critics_learn_from_the_layers_they_are_given(fabric, data):
    results = []
    for soft in (data.image, 1 - data.image):
        some = players(fabric)
        layers = torch.cat((soft, soft, soft), dim=1)
        discriminator_step(fabric, some, data, layers)
        results.append(states(some)["discriminator"])
    assert any(not torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_the_same_seed_gives_the_same_losses(fabric, data):
    runs = []
    for seed in (0, 0, 1):
        config, some, log = replace(CONFIG, seed=seed), players(fabric, seed=0), []
        end = train(fabric, some, data, config, on_step=lambda step, values, log=log: log.append((step, values)))
        assert end == 3 and [step for step, _ in log] == [1, 2, 3]
        runs.append(log)
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0][0][1]) == {"reconstruction", "supervision", "softness", "anchor", "segmenter", "discriminator"}


def test_learning_lowers_what_it_minimises(fabric, data):
    """The anchor alone, with the same images in every step."""
    weights = {"reconstruction": 0.0, "supervision": 0.0, "softness": 0.0, "anchor": 1.0}
    config, log = replace(CONFIG, batch=4, steps=8, lr_generator=1e-3, **weights), []
    train(fabric, players(fabric), data, config, on_step=lambda _, values: log.append(values["anchor"]))
    assert log[-1] < 0.8 * log[0]


def test_a_report_of_true_stops(fabric, data):
    some = players(fabric)
    assert train(fabric, some, data, CONFIG, on_step=lambda step, _: step == 2) == 2
    assert train(fabric, some, data, CONFIG, start=3) == 3


def test_minutes_end_a_training(fabric, data):
    config = replace(CONFIG, minutes=1.0, steps=1000)
    assert train(fabric, players(fabric), data, config, start=5, spent=1.0) == 5
    assert train(fabric, players(fabric), data, config, start=5, spent=1.0 - 1e-6) == 6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(fabric, data, monkeypatch, bad):
    monkeypatch.setitem(losses.SOFT_TISSUE, "paper", lambda logits, masks: logits.mean() * bad)
    with pytest.raises(FloatingPointError, match=r"^step 7: softness\b.* is not finite$"):
        train_step(fabric, players(fabric), data, CONFIG, 7)


# --- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(12, 4), (10, 4), (3, 12), (5, 1)])
def test_an_epoch_shows_each_image_once(count, size):
    config = replace(CONFIG, batch=size)
    steps = count // min(size, count)
    epochs = [torch.cat([draw_batch(count, config, e * steps + k) for k in range(steps)]).tolist() for e in range(30)]
    whole = count - count % min(size, count)  # what does not fill a batch waits for another epoch
    assert all(len(epoch) == len(set(epoch)) == whole for epoch in epochs)
    assert {index for epoch in epochs for index in epoch} == set(range(count))
    assert len({tuple(epoch) for epoch in epochs}) > 1  # another order each time


def test_batches_depend_on_seed_and_step_alone():
    draws = [draw_batch(50, CONFIG, 31).tolist() for _ in range(2)]
    assert draws[0] == draws[1]
    assert len({tuple(draw_batch(50, replace(CONFIG, seed=seed), 31).tolist()) for seed in range(20)}) > 15


def test_steps_draw_different_numbers():
    drawn = [torch.rand(3, generator=step_random(seed, step)).tolist() for seed in range(3) for step in range(3)]
    assert drawn[4] == torch.rand(3, generator=step_random(1, 1)).tolist()
    assert len({tuple(row) for row in drawn}) == 9


@pytest.mark.parametrize(("size", "scale"), [(256, 1.0), (64, 0.25)])
def test_shifts_fill_their_range_and_differ(size, scale):
    config = replace(CONFIG, size=size, shift_x=20.0, shift_y=30.0, shift_degrees=10.0)
    by = draw_shift(2000, config, step_random(0, 0), torch.device("cpu"))
    for drawn, most in ((by.dx, 20 * scale), (by.dy, 30 * scale), (by.degrees, 10)):
        assert drawn.abs().max() <= most and drawn.max() > 0.98 * most and drawn.min() < -0.98 * most
        assert drawn.mean().abs() < 0.1 * most and len(drawn.unique()) > 1900
    assert not torch.equal(by.dx / 20, by.dy / 30)


# --- moving the bones ------------------------------------------------------------------------------------------------


def test_masks_move_with_their_layers():
    joint = Phantom(seed=3, finger=FINGERS[1], size=64).render()
    masks = joint.masks[None]
    layers = torch.cat((torch.zeros_like(masks[:, :1]), 0.5 * masks[:, 1:]), dim=1)  # a bone is grey where its mask is
    lower, upper = Shift(dx=3.0, dy=-2.0), Shift(dx=-1.0, dy=4.0)
    composed, moved = move(layers, masks, lower, upper)
    assert not torch.equal(moved[:, 1:], masks[:, 1:]) and torch.equal(moved[:, :1], masks[:, :1])
    assert torch.allclose(composed, 1 - (1 - 0.5 * moved[:, 1:2]) * (1 - 0.5 * moved[:, 2:3]), atol=1e-5)
    for bone, by in ((1, lower), (2, upper)):
        expected = shift(masks[:, bone : bone + 1], by).round() * masks[:, :1]
        assert torch.equal(moved[:, bone : bone + 1], expected)


def test_nothing_is_seen_beyond_the_hand():
    masks = torch.zeros(1, 3, 32, 32)
    masks[:, 0, :, 8:24], masks[:, 1, 18:28, 10:22], masks[:, 2, 4:14, 10:22] = 1, 1, 1
    composed, moved = move(0.5 * masks, masks, Shift(dx=9.0), Shift(degrees=30.0))
    assert not ((1 - masks[:, :1]) * composed).any() and not ((1 - masks[:, :1]) * moved).any()
    assert moved[:, 1].sum() > 0


def test_no_movement_recomposes_the_image():
    joint = Phantom(seed=3, size=64).render()
    composed, moved = move(joint.layers[None], joint.masks[None], Shift(), Shift())
    assert torch.allclose(composed, joint.image[None] * joint.masks[None, :1], atol=1e-5)
    assert torch.equal(moved, joint.masks[None])


# --- precision and validation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "native", "capability", "avx", "amx", "wanted"),
    [
        (False, False, "AVX2", False, False, "32-true"),
        (False, False, "DEFAULT", False, False, "32-true"),
        (False, False, "AVX512", False, False, "32-true"),
        (False, False, "AVX512", True, False, "bf16-mixed"),
        (False, False, "AVX2", True, False, "32-true"),  # torch was told not to use AVX-512
        (False, False, "AVX512", True, True, "bf16-mixed"),
        (True, True, "AVX2", False, False, "bf16-mixed"),
        (True, False, "AVX512", True, True, "32-true"),
    ],
)
def test_precision_follows_the_hardware(monkeypatch, cuda, native, capability, avx, amx, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert precision(replace(CONFIG, precision="auto")) == wanted
    for asked in ("32-true", "bf16-mixed"):
        assert precision(replace(CONFIG, precision=asked)) == asked


def test_validation_is_a_mean_over_images(data):
    class Grey(nn.Module):
        """Soft tissue of the image's own values, no bone."""

        def forward(self, image: Tensor, masks: Tensor) -> Tensor:
            assert not self.training
            return torch.cat((0.9 * image, torch.zeros_like(image), torch.zeros_like(image)), dim=1)

    net = Grey().train()
    big = stack(phantoms(5, seed=0, size=64), size=64, dilate_px=4.0)
    scores = validate(net, big, chunk=2)
    hand = big.masks[:, :1]
    squares = ((0.1 * big.image) ** 2 * hand).sum(dim=(1, 2, 3)) / hand.sum(dim=(1, 2, 3))
    assert scores["psnr_db"] == pytest.approx(float((-10 * squares.log10()).mean()), rel=1e-5)
    assert scores["shadow"] > 0.05 and net.training  # bone is seen in it; and the mode is as before


def test_validation_leaves_out_what_cannot_be_measured(fabric, data):
    """At 32 px a band of 6 px at 256 is narrower than a pixel."""
    scores = validate(players(fabric).networks.generator, data)
    assert set(scores) == {"psnr_db"} and scores["psnr_db"] > 100  # the partition head is exact before it learns


def test_layers_recompose_throughout_with_the_partition_head(fabric, data):
    some = players(fabric)
    for step in range(2):
        train_step(fabric, some, data, CONFIG, step)
    layers = some.networks.generator.eval()(data.image, data.masks)
    hand = data.masks[:, :1]
    assert ((compose(layers) - data.image) * hand).abs().max() < 1e-5
