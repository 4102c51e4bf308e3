"""Two processes: what they learn is what one learns from the doubled batch, and a run of theirs is one run."""

import json
import os
import subprocess
import sys

import pytest

from lsn_core.checkpoint import checkpoints, read_header
from lsn_core.config import Config
from lsn_core.files import InputError
from lsn_core.journal import CURVES, LOG
from lsn_core.keeper import CHECKPOINTS
from lsn_core.run import train_run

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch

from lsn_core import run
from lsn_core.batch import stack
from lsn_core.config import Config
from lsn_core.phantom import phantoms
from lsn_core.scene import sources
from lsn_core.stage import Stage, Weights
from lsn_core.training import bare, set_up, train

devices, out = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
weights = Weights(supervision=0.3, softness=0.05, bones=0.3, anchor=1.0, truth=1.0, overlap=0.0)
stages = (
    Stage("pseudo", epochs=2, joints="apart", phantoms=0.5, originals=True, switch=1, after=weights, before=weights),
    Stage("real", epochs=2, after=replace(weights, bones=0.0), shifts=2),
)
config = Config(networks="compact", head="partition", soft_tissue="bounded", size=32, batch=8 // devices, mirror=0.5,
                stages=stages, precision="32-true")
def batch(seed, layers):
    made = stack(phantoms(16, seed=seed, size=32), size=32, dilate_px=4.0)
    truth = made.layers.double() if layers else None
    return replace(made, image=made.image.double(), fill=made.fill.double(), layers=truth)

learn = sources(batch(0, False), batch(100, True))
torch.set_default_dtype(torch.float64)  # what rounding adds grows without bound in a game of three networks
torch.Tensor.float = torch.Tensor.double
fabric = run._launch(replace(config, precision="64-true"), devices, 1)
torch.manual_seed(0)
players, log = set_up(fabric, config), []
train(fabric, players, learn, config, on_step=lambda step, values: log.append(values))
if fabric.is_global_zero:
    weights = [p.detach().norm().item() for net in players.modules().values() for p in bare(net).parameters()]
    out.write_text(json.dumps({"log": log, "weights": weights}))
"""


@pytest.fixture(name="alone")
def _alone() -> dict[str, str]:
    """The environment without what a scheduler set for this process."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "LOCAL_RANK", "MASTER_"))}


def test_two_processes_learn_what_one_learns_from_the_doubled_batch(tmp_path, alone):
    """Where all images have a term: of one that some lack, overlap or L3, the processes' means count unlike numbers."""
    (tmp_path / "script.py").write_text(SCRIPT)
    told = []
    for devices in (1, 2):
        out = tmp_path / f"{devices}.json"
        command = [sys.executable, tmp_path / "script.py", str(devices), out]
        done = subprocess.run(command, env=alone, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(out.read_text()))
    one, two = told
    assert len(one["log"]) > 6 and len(one["log"][0]) >= 6
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-9)
    for mine, theirs in zip(one["log"], two["log"], strict=True):
        assert theirs == pytest.approx(mine, rel=1e-6, abs=1e-9)


def test_a_run_of_two_processes_is_one_run(phantom_folder, tmp_path, alone):
    command = [sys.executable, "-m", "lsn_core.cli", "train", "run", "--data", str(phantom_folder), "--devices", "2"]
    sets = ["size=32", "batch=1", "pseudo.epochs=2", "real.epochs=1", "precision=32-true"]
    words = [*command, "--profile", "quick", *(word for pair in sets for word in ("--set", pair))]
    done = subprocess.run(words, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "run: trained; measure it with 'lsn evaluate'\n"
    folder = tmp_path / "run"
    log = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, len(log) + 1)) and len(log) >= 3
    assert len(list((folder / CURVES).iterdir())) == 1 and (folder / "generator.safetensors").is_file()
    assert read_header(checkpoints(folder / CHECKPOINTS)[-1])["processes"] == 2
    with pytest.raises(InputError, match="trained by 2 processes, not 1"):
        train_run(folder, str(phantom_folder), Config(), profile="test", resume=True)


def test_what_is_wrong_is_told_once(tmp_path, alone):
    command = [sys.executable, "-m", "lsn_core.cli", "train", "run", "--data", str(tmp_path / "absent")]
    words = [*command, "--devices", "2", "--profile", "quick"]
    done = subprocess.run(words, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("absent: no such folder or file") == 1
    assert not (tmp_path / "run").exists()
