"""Training: each step improves its own network and leaves the others as they are, and a seed decides everything."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lsn_core import losses
from lsn_core.batch import stack
from lsn_core.config import Config
from lsn_core.joint import FINGERS
from lsn_core.phantom import Phantom, phantoms
from lsn_core.radiograph import Shift, compose, shift
from lsn_core.scene import Scene, Sources, per_epoch, show, sources
from lsn_core.stage import Stage, Weights
from lsn_core.training import (
    Moment,
    NotFiniteError,
    Players,
    discriminator_step,
    generator_step,
    locate,
    make_fabric,
    move,
    plan,
    precision,
    segmenter_step,
    set_up,
    stage_steps,
    train,
    train_step,
)

ALL = Weights(reconstruction=1.0, supervision=0.3, softness=0.1, bones=0.3, anchor=0.5, truth=0.5)
EARLY = replace(ALL, softness=0.0)
STAGES = (
    Stage("pseudo", epochs=2, joints="apart", originals=True, switch=1, before=EARLY, after=ALL, shifts=2),
    Stage("mixed", epochs=2, phantoms=0.5, after=ALL, halve_every=1),
)
CONFIG = Config(
    networks="compact", head="partition", size=32, batch=2, stages=STAGES, phantoms=3, precision="32-true", mirror=0.5
)
NAMES = ("generator", "segmenter", "discriminator")
TERMS = {"reconstruction", "supervision", "softness", "bones", "anchor", "truth"}


@pytest.fixture(scope="module", name="fabric")
def _fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


@pytest.fixture(scope="module", name="data")
def _data() -> Sources:
    """Six radiographs, some of whose bones are apart, and three phantoms."""
    radiographs = replace(stack(phantoms(6, seed=0, size=64), size=32, dilate_px=4.0), layers=None)
    having = sources(radiographs, stack(phantoms(3, seed=50, size=64), size=32, dilate_px=4.0))
    assert 2 <= len(having.apart) < 6
    return having


@pytest.fixture(scope="module", name="scene")
def _scene(data) -> Scene:
    """A pseudo-image and a phantom."""
    return show(data, plan(data, CONFIG, sum(stage_steps(data, CONFIG, 1)[:1]))[1])


MOMENT = Moment(1, STAGES[1], 0, 0, closes=False)
SHIFTS = ((Shift(1.0, 2.0, 5.0), Shift(-1.0, -2.0, 3.0)),)


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


def weighted(**weights: float) -> Moment:
    """A moment of the second stage with these weights."""
    return replace(MOMENT, stage=replace(STAGES[1], after=Weights(**weights)))


# --- the steps of Algorithm 1 ----------------------------------------------------------------------------------------


def test_each_step_changes_its_own_network_only(fabric, data, scene):
    some = players(fabric)
    before = states(some)
    layers, terms = generator_step(fabric, some, scene, SHIFTS, MOMENT, "paper")
    assert changed(before, some) == {"generator"}
    assert set(terms) == TERMS | {"softness_at_chance"} and not layers.requires_grad
    before = states(some)
    segmenter_step(fabric, some, scene, originals=True)
    assert changed(before, some) == {"segmenter"}
    before = states(some)
    discriminator_step(fabric, some, scene, layers)
    assert changed(before, some) == {"discriminator"}


def test_frozen_statistics_stay_too(fabric, scene):
    """Critics with batch norm, whose running means would absorb the generator's images."""

    class Critic(nn.Sequential):
        def __init__(self, outputs: int) -> None:
            super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, outputs, 1))

    some = players(fabric)
    normed = replace(some.networks, segmenter=Critic(3), discriminator=Critic(1))
    some = replace(some, networks=normed)
    before = states(some)
    generator_step(fabric, some, scene, SHIFTS, MOMENT, "paper")
    assert changed(before, some) == {"generator"} and "1.running_mean" in before["segmenter"]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_a_rate_stays_as_it_is(fabric, data, name):
    config = replace(CONFIG, stages=tuple(replace(stage, **{f"lr_{name}": 0.0}) for stage in STAGES[1:]))
    some = players(fabric, config)
    before = states(some)
    train_step(fabric, some, data, config, 0)
    assert changed(before, some) == set(NAMES) - {name}


@pytest.mark.parametrize("term", sorted(TERMS))
def test_every_weighted_term_moves_the_generator(fabric, data, scene, term):
    """An ablation is a weight of zero: with all at zero nothing is learnt, with one of them something is."""
    for weight, learns in ((0.0, set()), (1.0, {"generator"})):
        some = players(fabric, replace(CONFIG, head="sigmoid"))
        for group in some.generator.optimizer.param_groups:
            group["weight_decay"] = 0.0
        before = states(some)
        _, terms = generator_step(fabric, some, scene, SHIFTS, weighted(**{term: weight}), "bounded")
        assert changed(before, some) == learns
        assert set(terms) - {"reconstruction", "softness_at_chance"} == ({term} & set(terms)) - {"reconstruction"}


def test_the_discriminator_plays_from_epoch_m_on(fabric, data):
    some, log = players(fabric), []
    before = states(some)
    first = per_epoch(data, STAGES[0], CONFIG.batch)
    train(fabric, some, data, CONFIG, on_step=lambda step, values: log.append(values) or step == first)
    assert changed(before, some) == {"generator", "segmenter"}
    assert all(not {"softness", "discriminator"} & set(values) for values in log)
    values = train_step(fabric, some, data, CONFIG, first)
    assert {"softness", "softness_at_chance", "discriminator"} <= set(values)
    assert changed(before, some) == set(NAMES)


def test_what_is_known_of_a_scene_decides_what_is_learnt(fabric, scene):
    """L3 does not see radiographs as they are, the layers' error only phantoms, the anchor all but phantoms."""
    some = players(fabric, replace(CONFIG, head="sigmoid"))
    blank = torch.zeros_like(scene.alone_known)
    for unknown, term in ((replace(scene, alone_known=blank), "bones"), (replace(scene, layers_known=blank), "truth")):
        _, terms = generator_step(fabric, some, unknown, SHIFTS, weighted(**{term: 1.0}), "paper")
        assert terms[term] == 0
    _, terms = generator_step(
        fabric, some, replace(scene, layers_known=1 - blank), SHIFTS, weighted(anchor=1.0), "paper"
    )
    assert terms["anchor"] == 0


def test_the_critics_learn_from_the_layers_they_are_given(fabric, scene):
    results = []
    for soft in (scene.image, 1 - scene.image):
        some = players(fabric)
        layers = torch.cat((soft, soft, soft), dim=1)
        discriminator_step(fabric, some, scene, layers)
        results.append(states(some)["discriminator"])
    assert any(not torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_the_segmenter_learns_from_the_unpushed_images_if_told(fabric, scene):
    results = []
    for original, told in ((scene.original, True), (1 - scene.original, True), (1 - scene.original, False)):
        some = players(fabric)
        segmenter_step(fabric, some, replace(scene, original=original), originals=told)
        results.append(states(some)["segmenter"])
    assert any(not torch.equal(results[0][key], results[1][key]) for key in results[0])
    some = players(fabric)
    segmenter_step(fabric, some, scene, originals=False)
    assert changed({"segmenter": results[2]} | {n: states(some)[n] for n in NAMES if n != "segmenter"}, some) == set()


def test_the_same_seed_gives_the_same_losses(fabric, data):
    runs, total = [], sum(stage_steps(data, CONFIG, 1))
    for seed in (0, 0, 1):
        config, some, log = replace(CONFIG, seed=seed), players(fabric, seed=0), []
        end = train(fabric, some, data, config, on_step=lambda step, values, log=log: log.append((step, values)))
        assert end == total and [step for step, _ in log] == list(range(1, total + 1))
        runs.append(log)
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0][-1][1]) == TERMS | {"softness_at_chance", "segmenter", "discriminator"}


def test_learning_lowers_what_it_minimises(fabric, data):
    """The anchor alone, with the same images in every step."""
    stage = Stage("only", epochs=8, after=Weights(anchor=1.0), lr_generator=1e-3, untouched=1.0)
    config, log = replace(CONFIG, batch=6, mirror=0.0, stages=(stage,)), []
    train(fabric, players(fabric), data, config, on_step=lambda _, values: log.append(values["anchor"]))
    assert len(log) == 8 and log[-1] < 0.8 * log[0]


def test_a_report_of_true_stops(fabric, data):
    some, total = players(fabric), sum(stage_steps(data, CONFIG, 1))
    assert train(fabric, some, data, CONFIG, on_step=lambda step, _: step == 2) == 2
    assert train(fabric, some, data, CONFIG, start=total) == total


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named_and_recorded(fabric, data, monkeypatch, bad):
    monkeypatch.setitem(losses.SOFT_TISSUE, "paper", lambda logits, masks: logits.mean() * bad)
    step = sum(stage_steps(data, CONFIG, 1)[:1])
    with pytest.raises(NotFiniteError, match=rf"^step {step}: softness\b.* is not finite$") as told:
        train_step(fabric, players(fabric), data, CONFIG, step)
    record = told.value.record
    assert record["step"] == step and record["stage"] == "mixed" and len(record["items"]) == CONFIG.batch
    assert record["items"] == plan(data, CONFIG, step)[1].record()


# --- when ------------------------------------------------------------------------------------------------------------


def test_stages_follow_one_another(data):
    apart = len(data.apart)
    steps = stage_steps(data, CONFIG, 1)
    assert steps == [2 * (apart // 2), 2 * 6]  # a pair of joints apart; one radiograph and one phantom
    moments = [locate(data, CONFIG, step) for step in range(sum(steps))]
    assert [moment.index for moment in moments] == [0] * steps[0] + [1] * steps[1]
    assert [moment.epoch for moment in moments[steps[0] :]] == [0] * 6 + [1] * 6
    assert [k for k, moment in enumerate(moments) if moment.closes] == [
        steps[0] // 2 - 1,
        steps[0] - 1,
        steps[0] + 5,
        steps[0] + 11,
    ]
    assert [moment.playing for moment in moments[: steps[0]]] == [False] * (steps[0] // 2) + [True] * (steps[0] // 2)
    assert moments[0].weights == EARLY and moments[steps[0] - 1].weights == ALL
    with pytest.raises(IndexError):
        locate(data, CONFIG, sum(steps))


def test_rates_are_halved():
    stage = Stage("one", epochs=9, lr_generator=0.8, lr_discriminator=0.2, halve_every=4)
    rates = [Moment(0, stage, 0, epoch, closes=False).rate("generator") for epoch in range(9)]
    assert rates == [0.8] * 4 + [0.4] * 4 + [0.2]
    assert Moment(0, stage, 0, 4, closes=False).rate("discriminator") == 0.1


def test_rates_rise_at_first():
    stage = Stage("one", epochs=9, lr_generator=0.8, warmup=4)
    rates = [Moment(0, stage, step, 0, closes=False).rate("generator") for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_each_stage_begins_with_fresh_optimisers(fabric, data):
    """The count of steps in their state starts again; it goes on within a stage."""
    some, counts = players(fabric), []
    first, second = stage_steps(data, CONFIG, 1)

    def count(*_: object) -> None:
        counts.append({int(state["step"]) for state in some.generator.optimizer.state.values()})

    train(fabric, some, data, CONFIG, on_step=count)
    assert counts == [{k + 1} for k in range(first)] + [{k + 1} for k in range(second)]


def test_rates_reach_the_optimisers(fabric, data):
    some, seen = players(fabric), []
    config = replace(CONFIG, stages=STAGES[1:])
    train(
        fabric,
        some,
        data,
        config,
        on_step=lambda *_: seen.append(some.generator.optimizer.param_groups[0]["lr"]),
    )
    assert seen == [1e-4] * 6 + [5e-5] * 6


def test_twice_the_processes_take_half_the_steps(data):
    config = replace(CONFIG, stages=(Stage("all", epochs=3, after=ALL),))
    assert stage_steps(data, config, 1) == [9] and stage_steps(data, config, 3) == [3]


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


# --- precision -------------------------------------------------------------------------------------------------------


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


def test_in_bf16_the_physics_stays_in_float32(data):
    """White absorbs without end in bf16, and a pixel divided there does not come back."""
    config = replace(CONFIG, precision="bf16-mixed")
    fabric = make_fabric(config, accelerator="cpu", devices=1)
    some = players(fabric)
    white = replace(data, radiographs=replace(data.radiographs, image=data.radiographs.image.clone().fill_(1.0)))
    for step, shown in enumerate((data, white, data)):
        assert all(map(math.isfinite, train_step(fabric, some, shown, config, step).values()))
    batch = data.radiographs
    with torch.no_grad():
        layers = some.networks.generator(batch.image, batch.masks)
    assert layers.dtype == torch.float32
    assert ((compose(layers) - batch.image) * batch.masks[:, :1]).abs().max() < 1e-5


def test_layers_recompose_throughout_with_the_partition_head(fabric, data, scene):
    some = players(fabric)
    for step in range(2):
        train_step(fabric, some, data, CONFIG, step)
    layers = some.networks.generator.eval()(scene.image, scene.masks)
    hand = scene.masks[:, :1]
    assert ((compose(layers) - scene.image) * hand).abs().max() < 1e-5
