"""Checkpoints: a training goes on from one as if it had never stopped; nothing else is taken for one."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from lsn_core.checkpoint import (
    checkpoint_path,
    checkpoints,
    keep_newest,
    load_checkpoint,
    read_header,
    save_checkpoint,
)
from lsn_core.files import InputError
from lsn_core.networks import Recipe, save_generator

HEADER = {"step": 3, "minutes": 0.5, "config": {"head": "partition", "lr": 1e-4}}


class Pair:
    """Two networks with buffers, random dropout and weights in another order of memory, each with its optimiser."""

    def __init__(self, seed: int, width: int = 8) -> None:
        torch.manual_seed(seed)
        self.modules, self.optimizers = {}, {}
        for name, rate in (("a", 1e-2), ("b", 3e-2)):
            net = nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.5), nn.Conv2d(width, 1, 2))
            self.modules[name] = net.to(memory_format=torch.channels_last)
            self.optimizers[name] = AdamW(net.parameters(), lr=rate, fused=True)

    def step(self) -> None:
        """One step of each network on random data: everything of the state matters to the next one."""
        for name, net in self.modules.items():
            self.optimizers[name].zero_grad()
            net(torch.randn(8, 2, 6, 6)).square().mean().backward()
            self.optimizers[name].step()

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers."""
        return {f"{name}.{k}": v.clone() for name, net in self.modules.items() for k, v in net.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(name="saved")
def _saved(tmp_path):
    pair = Pair(seed=0)
    for _ in range(3):
        pair.step()
    path = save_checkpoint(tmp_path / "c.safetensors", pair.modules, pair.optimizers, HEADER)
    return path, pair


def test_going_on_is_bit_identical(saved):
    path, pair = saved
    stopped = pair.state()
    for _ in range(2):
        pair.step()
    other = Pair(seed=1)
    assert not equal(other.state(), stopped)
    assert load_checkpoint(path, other.modules, other.optimizers) == HEADER
    assert equal(other.state(), stopped)
    for _ in range(2):
        other.step()  # the same dropout and data, the same momenta, the same rates
    assert equal(other.state(), pair.state()) and not equal(other.state(), stopped)


def test_the_settings_of_optimisers_are_restored(saved):
    path, pair = saved
    other = Pair(seed=1)
    for optimizer in other.optimizers.values():
        optimizer.param_groups[0]["lr"] = 1.0
    load_checkpoint(path, other.modules, other.optimizers)
    for name, optimizer in other.optimizers.items():
        assert optimizer.param_groups[0]["lr"] == pair.optimizers[name].param_groups[0]["lr"]
        mine, theirs = (one.optimizers[name].state_dict()["state"] for one in (other, pair))
        assert mine.keys() == theirs.keys() and all(equal(mine[k], theirs[k]) for k in mine)


def test_the_header_alone(saved):
    assert read_header(saved[0]) == HEADER


def test_a_fresh_start_can_be_saved(tmp_path):
    pair, other = Pair(seed=0), Pair(seed=1)
    path = save_checkpoint(tmp_path / "c.safetensors", pair.modules, pair.optimizers, {})
    load_checkpoint(path, other.modules, other.optimizers)
    assert equal(other.state(), pair.state())


@pytest.mark.parametrize("make", [lambda: Pair(1, width=9), lambda: Pair(1, width=4)])
def test_other_networks_are_refused(saved, make):
    other = make()
    with pytest.raises(
        InputError, match=r"c.safetensors: does not fit these networks \(.*\); resume with the run's own"
    ):
        load_checkpoint(saved[0], other.modules, other.optimizers)


def test_other_players_are_refused(saved):
    pair = Pair(seed=1)
    with pytest.raises(InputError, match="does not fit these networks"):
        load_checkpoint(saved[0], pair.modules | {"c": nn.Conv2d(1, 1, 1)}, pair.optimizers)
    with pytest.raises(InputError, match="does not fit these networks"):
        load_checkpoint(saved[0], pair.modules, pair.optimizers | {"c": SGD(pair.modules["a"].parameters(), 0.1)})


def test_damaged_files(saved):
    path, pair = saved
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            InputError,
            match=r"c.safetensors: the checkpoint cannot be read .*; delete it, and resume from the one before",
        ):
            load_checkpoint(path, pair.modules, pair.optimizers)
        with pytest.raises(InputError, match="cannot be read"):
            read_header(path)


def test_other_safetensors_are_no_checkpoints(tmp_path):
    path = save_generator(tmp_path / "g.safetensors", nn.Linear(1, 1), Recipe("compact", "sigmoid", 64, 1.0), {})
    with pytest.raises(InputError, match=r"g.safetensors: not a checkpoint"):
        read_header(path)


def test_the_last_few_are_kept(tmp_path):
    pair = Pair(seed=0)
    assert checkpoints(tmp_path / "absent") == []
    steps = [9, 10, 100, 12_345_678]
    for step in reversed(steps):
        save_checkpoint(checkpoint_path(tmp_path, step), pair.modules, {}, {"step": step})
    (tmp_path / ".step_00000200.1.part.safetensors").write_text("of a session that was killed")
    assert [read_header(path)["step"] for path in checkpoints(tmp_path)] == steps
    keep_newest(tmp_path, 5)
    assert len(checkpoints(tmp_path)) == 4
    keep_newest(tmp_path, 2)
    assert [read_header(path)["step"] for path in checkpoints(tmp_path)] == steps[2:]
    keep_newest(tmp_path, 1)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_12345678.safetensors"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpus_random_state_is_restored(tmp_path):
    path = save_checkpoint(tmp_path / "c.safetensors", {}, {}, {})
    drawn = torch.randn(4, device="cuda")
    load_checkpoint(path, {}, {})
    assert torch.equal(torch.randn(4, device="cuda"), drawn)
