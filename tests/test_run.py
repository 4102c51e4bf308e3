"""A run as a folder: stopped, killed and resumed, it ends where it would have ended undisturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lsn_core import run
from lsn_core.checkpoint import read_header
from lsn_core.config import Config
from lsn_core.data import Folder, JointDataset, Row, open_dataset
from lsn_core.files import InputError
from lsn_core.networks import load_generator
from lsn_core.run import CHECKPOINT, LOG, decode, held_out, train_run

CONFIG = Config(networks="compact", head="partition", size=32, batch=2, steps=6, validate_every=2, precision="32-true")
COMPLETE = {CHECKPOINT, LOG, "config.json", "generator.safetensors", "metrics.json", "preview.png"}
SETTINGS = [f"{key}={getattr(CONFIG, key)}" for key in ("networks", "head", "size", "batch", "precision")]


def go(folder: Path, data: Path, config: Config = CONFIG, *, resume: bool = False) -> bool:
    """Train."""
    return train_run(folder, str(data), config, profile="test", resume=resume)


def tensors(folder: Path) -> dict[str, Tensor]:
    """All that a checkpoint holds: networks, optimisers, random state."""
    return load_file(folder / CHECKPOINT)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Bit by bit."""
    assert one.keys() == other.keys() and [key for key in one if not torch.equal(one[key], other[key])] == []


def logged(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def raise_signal_at(monkeypatch, step: int, number: int) -> None:
    """Send this process a signal while it makes a step."""
    make = run.train

    def train(*args, on_step, **options):
        def report(done: int, values: dict[str, float]) -> bool:
            if done == step:
                os.kill(os.getpid(), number)
            return on_step(done, values)

        return make(*args, on_step=report, **options)

    monkeypatch.setattr(run, "train", train)


@pytest.fixture(scope="module", name="undisturbed")
def _undisturbed(tmp_path_factory, phantom_folder) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert go(folder, phantom_folder)
    return folder


def test_what_a_run_leaves(undisturbed, phantom_folder):
    assert set(os.listdir(undisturbed)) == COMPLETE
    log = logged(undisturbed)
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert ["held_out_psnr_db" in line for line in log] == 3 * [False, True]
    metrics = json.loads((undisturbed / "metrics.json").read_text())
    assert metrics["metrics"]["steps"] == 6 and metrics["metrics"]["held_out"]["psnr_db"] > 60
    known = metrics["provenance"]
    assert known["seed"] == 0 and known["profile"] == "test" and known["config"]["size"] == 32
    training, _ = held_out(open_dataset(phantom_folder, split="train"), CONFIG.validation)
    assert known["data"] == training.fingerprint()
    assert load_generator(undisturbed).recipe.size == 32


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_it_ends_the_same(undisturbed, phantom_folder, tmp_path, monkeypatch, number):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        raise_signal_at(patch, 3, number)
        assert not go(folder, phantom_folder)
    assert set(os.listdir(folder)) == {CHECKPOINT, LOG, "config.json"}
    assert read_header(folder / CHECKPOINT)["step"] == len(logged(folder)) == 3
    assert go(folder, phantom_folder, Config(), resume=True)  # with the run's own config
    assert_equal(tensors(folder), tensors(undisturbed))
    assert_equal(load_file(folder / "generator.safetensors"), load_file(undisturbed / "generator.safetensors"))
    same = [{key: value for key, value in line.items() if key != "minutes"} for line in logged(folder)]
    assert same == [{key: value for key, value in line.items() if key != "minutes"} for line in logged(undisturbed)]
    assert set(os.listdir(folder)) == COMPLETE and signal.getsignal(number) not in (None, signal.SIG_IGN)


def test_killed_while_saving_it_goes_on_from_the_save_before(undisturbed, phantom_folder, tmp_path):
    """After step 3 a save is due and the machine dies halfway through it."""
    script = f"""
import os, signal
from pathlib import Path
from lsn_core.config import Config
from lsn_core.run import train_run
write, saves = Path.write_bytes, []
def dying(path, blob):
    saves.append(path)
    write(path, blob[: len(blob) // 2] if len(saves) == 3 else blob)
    if len(saves) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Path.write_bytes = dying
train_run(Path("run"), {str(phantom_folder)!r}, {replace(CONFIG, checkpoint_every=0.0)!r}, profile="test")
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    folder = tmp_path / "run"
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert read_header(folder / CHECKPOINT)["step"] == 2 and len(logged(folder)) == 3
    with (folder / LOG).open("a") as log:
        log.write('{"step": 4, "minu')  # a line that was being written
    assert go(folder, phantom_folder, resume=True)
    assert_equal(tensors(folder), tensors(undisturbed))
    assert [line["step"] for line in logged(folder)] == [1, 2, 3, 4, 5, 6]


def test_a_terminated_command_says_how_to_go_on(phantom_folder, tmp_path):
    """What a scheduler does to a job: SIGTERM, and exit code 0 with everything saved."""
    sets = [word for setting in [*SETTINGS, "steps=100000"] for word in ("--set", setting)]
    command = [sys.executable, "-c", "from lsn_core.cli import main; main()", "train", "a run"]
    process = subprocess.Popen(
        [*command, "--data", str(phantom_folder), *sets],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    folder = tmp_path / "a run"
    for _ in range(600):
        if (folder / LOG).is_file() and (folder / LOG).read_text().count("\n") >= 2:
            break
        time.sleep(0.1)
    process.terminate()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told.startswith("stopped and saved; go on: lsn train") and "--resume" in told and "'a run'" in told
    assert read_header(folder / CHECKPOINT)["step"] == len(logged(folder)) >= 2
    assert set(os.listdir(folder)) == {CHECKPOINT, LOG, "config.json"}


def test_a_complete_run_can_be_finished_again(undisturbed, phantom_folder):
    before = tensors(undisturbed)
    (undisturbed / "generator.safetensors").unlink()  # it was stopped just before it wrote its weights
    assert go(undisturbed, phantom_folder, resume=True)
    assert_equal(tensors(undisturbed), before)
    assert set(os.listdir(undisturbed)) == COMPLETE and len(logged(undisturbed)) == 6


def test_runs_are_neither_overwritten_nor_invented(undisturbed, phantom_folder, tmp_path):
    before = (undisturbed / CHECKPOINT).stat()
    with pytest.raises(
        InputError, match=r"undisturbed: already holds a run; continue it with --resume, or name another"
    ):
        go(undisturbed, phantom_folder)
    assert (undisturbed / CHECKPOINT).stat() == before
    with pytest.raises(InputError, match=r"absent: no checkpoint.safetensors to resume from; train without --resume"):
        go(tmp_path / "absent", phantom_folder, resume=True)
    assert not os.listdir(tmp_path)


def test_a_damaged_checkpoint_is_named(undisturbed, phantom_folder, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes((undisturbed / CHECKPOINT).read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{tmp_path / CHECKPOINT}: the checkpoint cannot be read"):
        go(tmp_path, phantom_folder, resume=True)


def test_data_that_cannot_be_used_leave_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        go(tmp_path / "run", tmp_path / "absent")
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_an_error_of_the_log(phantom_folder, tmp_path, monkeypatch):
    open_ = Path.open

    def full(path: Path, *mode, **options):
        return open_(Path("/dev/full") if path.name == LOG and mode == ("a",) else path, *mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=rf"{tmp_path}/run/{LOG}: cannot be written \(No space left on device\); free"):
        go(tmp_path / "run", phantom_folder)


# --- what is held out ------------------------------------------------------------------------------------------------


def dataset(joints: int, visits: int = 3) -> JointDataset:
    """Rows of joints with several visits each; no files."""
    names = [(f"j{joint}", visit) for visit in range(visits) for joint in range(joints)]
    return JointDataset(
        [Row(f"{j}/{v}", "", "", "", j, None, None, None, ("train",)) for j, v in names], Folder(Path())
    )


@pytest.mark.parametrize(
    ("joints", "share", "watched"), [(20, 0.1, 2), (20, 0.5, 10), (3, 0.1, 1), (2, 0.9, 1), (4, 7.0, 3)]
)
def test_whole_joints_are_held_out(joints, share, watched):
    everything = dataset(joints)
    sides = [{row.joint for row in part.rows} for part in held_out(everything, share)]
    assert len(sides[1]) == watched and not sides[0] & sides[1]
    assert sides[0] | sides[1] == {row.joint for row in everything.rows}
    assert sum(len(part) for part in held_out(everything, share)) == len(everything)
    assert [part.rows for part in held_out(everything, share)] == [
        part.rows for part in held_out(dataset(joints), share)
    ]


@pytest.mark.parametrize(("joints", "share"), [(1, 0.1), (5, 0.0)])
def test_without_a_share_the_same_images_serve_both(joints, share):
    learn, watch = held_out(dataset(joints), share)
    assert learn.rows == watch.rows == dataset(joints).rows


def test_decoding_in_parts_changes_nothing(phantom_folder):
    some = open_dataset(phantom_folder, split="all")
    rows = JointDataset(some.rows * 7, some.store)  # more than one part
    batch, part = decode(rows, CONFIG, "x"), decode(some, CONFIG, "x")
    assert len(batch) == 70
    for name in ("image", "drawn", "wide"):
        assert torch.equal(getattr(batch, name), getattr(part, name).repeat(7, 1, 1, 1))
    assert torch.allclose(batch.fill, part.fill.repeat(7, 1, 1, 1), atol=1e-6)
