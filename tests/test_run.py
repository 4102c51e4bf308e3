"""A run as a folder: stopped, killed and resumed, it ends where it would have ended undisturbed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lsn_core import keeper, losses, run
from lsn_core.checkpoint import checkpoints, read_header
from lsn_core.config import Config
from lsn_core.data import open_dataset
from lsn_core.files import InputError
from lsn_core.images import read_image
from lsn_core.journal import CURVES, LOG, PREVIEWS
from lsn_core.keeper import BROKEN, CHECKPOINTS
from lsn_core.material import held_out
from lsn_core.networks import load_generator
from lsn_core.run import train_run
from lsn_core.stage import Stage, Weights
from lsn_core.training import Moment

pytestmark = pytest.mark.slow

WEIGHTS = Weights(supervision=0.3, softness=0.05, bones=0.3, anchor=1.0, truth=1.0)
STAGES = (
    Stage("pseudo", epochs=1, joints="apart", phantoms=0.5, originals=True, lr_generator=1e-3, after=WEIGHTS),
    Stage("real", epochs=1, after=WEIGHTS),
)
CONFIG = Config(
    networks="compact",
    head="partition",
    soft_tissue="bounded",
    size=32,
    batch=2,
    phantoms=2,
    mirror=0.5,
    stages=STAGES,
    validate_every=3,
    precision="32-true",
)
SPAWN = multiprocessing.get_context("forkserver")  # processes that can be killed, with torch imported once
SPAWN.set_forkserver_preload(["lsn_core.run"])


def go(folder: Path, data: Path, config: Config = CONFIG, *, resume: bool = False, **how) -> bool:
    """Train."""
    return train_run(folder, str(data), config, profile="test", resume=resume, **how)


def last(folder: Path) -> Path:
    """The newest checkpoint."""
    return checkpoints(folder / CHECKPOINTS)[-1]


def assert_same_end(folder: Path, other: Path) -> None:
    """Networks, optimisers, random state, the chosen generator and the log, bit by bit."""
    assert_equal(load_file(last(folder)), load_file(last(other)))
    assert_equal(load_file(folder / "generator.safetensors"), load_file(other / "generator.safetensors"))
    assert timeless(logged(folder)) == timeless(logged(other))
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Bit by bit."""
    assert one.keys() == other.keys() and [key for key in one if not torch.equal(one[key], other[key])] == []


def logged(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def timeless(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    """Without the clock."""
    return [{key: value for key, value in line.items() if key != "minutes"} for line in lines]


def at_step(monkeypatch, step: int, do) -> None:
    """Call `do` while that step is being made."""
    make = run.train

    def train(*args, on_step, **options):
        def report(done: int, values: dict[str, float]) -> bool:
            if done == step:
                do()
            return on_step(done, values)

        return make(*args, on_step=report, **options)

    monkeypatch.setattr(run, "train", train)


def signal_at(monkeypatch, step: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal while it makes a step."""
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), number))


@pytest.fixture(scope="module", name="undisturbed")
def _undisturbed(tmp_path_factory, phantom_folder) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert go(folder, phantom_folder)
    return folder


def test_what_a_run_leaves(undisturbed, phantom_folder):
    log = logged(undisturbed)
    steps = len(log)
    assert [line["step"] for line in log] == list(range(1, steps + 1)) and steps > 6
    assert {line["stage"] for line in log} == {"pseudo", "real"} and {line["epoch"] for line in log} == {1}
    scored = [line["step"] for line in log if "held_out_criterion" in line]
    assert scored == sorted({*range(3, steps + 1, 3), steps})
    names = [path.name for path in checkpoints(undisturbed / CHECKPOINTS)]
    ends = [line["step"] for line, then in zip(log, [*log[1:], {}], strict=True) if line["stage"] != then.get("stage")]
    assert names == [f"step_{step:08d}.safetensors" for step in ends]
    assert {path.stem for path in (undisturbed / PREVIEWS).iterdir()} == {*(Path(n).stem for n in names), "selected"}
    assert read_image(undisturbed / PREVIEWS / "selected.png").std() > 0.1
    assert len(list((undisturbed / CURVES).iterdir())) == 1
    known = json.loads((undisturbed / "metrics.json").read_text())
    learnt, _ = held_out(open_dataset(phantom_folder, split="train"), CONFIG.validation)
    assert known["provenance"]["data"] == learnt.fingerprint() and known["provenance"]["profile"] == "test"
    assert known["provenance"]["config"]["size"] == 32 and known["provenance"]["seed"] == 0
    metrics = known["metrics"]
    assert metrics["steps"] == steps and metrics["left_out"] == [] and metrics["images_per_second"] > 0
    assert metrics["final"]["step"] == steps and metrics["selected"]["criterion"] <= metrics["final"]["criterion"]
    assert load_generator(undisturbed).recipe.size == 32
    config = json.loads((undisturbed / "config.json").read_text())
    assert config["data"] == str(phantom_folder) and config["config"]["stages"][0]["name"] == "pseudo"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_it_ends_the_same(undisturbed, phantom_folder, tmp_path, monkeypatch, number):
    folder, told = tmp_path / "run", []
    with monkeypatch.context() as patch:
        signal_at(patch, 4, number)
        assert not go(folder, phantom_folder, tell=told.append)
    assert told == ["stopping after this step..."]
    assert read_header(last(folder))["step"] == len(logged(folder)) == 4
    assert not (folder / "generator.safetensors").exists()
    assert go(folder, phantom_folder, Config(), resume=True)  # with the run's own config
    assert_same_end(folder, undisturbed)
    assert json.loads((folder / "metrics.json").read_text())["provenance"]["profile"] == "test"
    assert signal.getsignal(number) not in (None, signal.SIG_IGN)


def test_a_second_ctrl_c_interrupts_at_once_and_further_terms_do_not(phantom_folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(3)])
        assert not go(tmp_path / "terms", phantom_folder)
    assert len(logged(tmp_path / "terms")) == 2
    at_step(monkeypatch, 2, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "interrupts", phantom_folder)


def killed(folder: Path, data: Path, step: int, delay: float, *, resume: bool) -> None:
    """Train with a checkpoint after every step, and kill -9 some time after a step was logged."""
    how = {"target": go, "args": (folder, data, replace(CONFIG, checkpoint_every=0.0)), "kwargs": {"resume": resume}}
    process = SPAWN.Process(**how)
    process.start()
    while process.is_alive() and not ((folder / LOG).is_file() and (folder / LOG).read_text().count("\n") >= step):
        time.sleep(0.02)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_again_and_again_it_ends_the_same(undisturbed, phantom_folder, tmp_path):
    """At moments that differ each time, in a step, a save or a drawing; `benchmarks/kill.py` does so 20 times."""
    folder, moments = tmp_path / "run", random.Random()
    for step, resume in ((2, False), (5, True)):
        killed(folder, phantom_folder, step, moments.uniform(0, 0.3), resume=resume)
    assert go(folder, phantom_folder, resume=True)
    assert_same_end(folder, undisturbed)
    assert not list(folder.rglob("*.part*"))


def dying(folder: Path, data: Path) -> None:
    """Train with a checkpoint after every step; the machine dies halfway through writing the third."""
    write, saves = Path.write_bytes, []

    def write_some(path: Path, blob: bytes) -> None:
        saves.append(path)
        write(path, blob[: len(blob) // 2] if len(saves) == 3 else blob)
        if len(saves) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.write_bytes = write_some
    go(folder, data, replace(CONFIG, checkpoint_every=0.0))


def test_killed_while_saving_it_goes_on_from_the_save_before(undisturbed, phantom_folder, tmp_path):
    folder = tmp_path / "run"
    process = SPAWN.Process(target=dying, args=(folder, phantom_folder))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and list(folder.rglob("*.part*"))
    assert read_header(last(folder))["step"] == 2 and len(logged(folder)) == 3
    assert go(folder, phantom_folder, resume=True)
    assert_same_end(folder, undisturbed)


def test_a_terminated_command_says_how_to_go_on(phantom_folder, tmp_path):
    """What a scheduler does to a job: SIGTERM, and exit code 0 with everything saved."""
    command = [sys.executable, "-m", "lsn_core.cli", "train", "a run", "--data", str(phantom_folder)]
    sets = ("--profile", "quick", "--set", "real.epochs=1000", "--set", "batch=2", "--set", "size=32")
    process = subprocess.Popen(
        [*command, *sets], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / "a run"
    while process.poll() is None and not ((folder / LOG).is_file() and (folder / LOG).read_text().count("\n") >= 2):
        time.sleep(0.1)
    process.terminate()
    told, err = process.communicate()
    assert process.returncode == 0
    assert told == f"stopped and saved; go on: lsn train 'a run' --data {phantom_folder} --resume\n"
    assert "\nstopping after this step...\n" in err
    assert read_header(last(folder))["step"] == len(logged(folder)) >= 2


def test_a_run_may_start_from_anothers_generator_and_goes_on_from_its_own(
    undisturbed, phantom_folder, tmp_path, monkeypatch
):
    """With a rate of 0 its generator stays what it was."""
    rates = {"lr_generator": 0.0, "lr_segmenter": 0.0, "lr_discriminator": 0.0, "epochs": 2}
    stages, folder = (replace(STAGES[1], **rates),), tmp_path / "run"
    signal_at(monkeypatch, 2)
    assert not go(folder, phantom_folder, replace(CONFIG, stages=stages, start=str(undisturbed)))
    state, begun = load_file(last(folder)), load_file(undisturbed / "generator.safetensors")
    assert_equal({key: state[f"module/generator/{key}"].half() for key in begun}, begun)
    monkeypatch.setattr(run, "start_from", None)  # never asked again
    assert go(folder, phantom_folder, resume=True)


def test_a_complete_run_can_be_finished_again(undisturbed, phantom_folder, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    (folder / "generator.safetensors").unlink()  # it was stopped just before it wrote its weights
    assert go(folder, phantom_folder, resume=True)
    assert_same_end(folder, undisturbed)


def test_a_machine_that_has_slurm_is_no_reason_to_warn(phantom_folder, tmp_path, monkeypatch):
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert go(tmp_path / "run", phantom_folder)


def test_runs_are_neither_overwritten_nor_invented(undisturbed, phantom_folder, tmp_path):
    before = last(undisturbed).stat()
    with pytest.raises(
        InputError, match=r"undisturbed: already holds a run; continue it with --resume, or name another"
    ):
        go(undisturbed, phantom_folder)
    assert last(undisturbed).stat() == before
    with pytest.raises(InputError, match=r"absent: no checkpoint to resume from; train without --resume"):
        go(tmp_path / "absent", phantom_folder, resume=True)
    assert not os.listdir(tmp_path)


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(undisturbed, phantom_folder, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    last(folder).write_bytes(last(folder).read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{last(folder)}: the checkpoint cannot be read .*; delete it, and resume"):
        go(folder, phantom_folder, resume=True)
    last(folder).unlink()
    assert go(folder, phantom_folder, resume=True)
    assert_same_end(folder, undisturbed)


def test_a_run_goes_on_with_its_own_data_only(undisturbed, phantom_folder, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    data = shutil.copytree(phantom_folder, tmp_path / "data")
    row = held_out(open_dataset(data, split="train"), CONFIG.validation)[0].rows[0]
    shutil.copy(data / row.lower, data / row.upper)
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        InputError, match=r"run: trained on other data \(fingerprint \w{12}, these have \w{12}\); give --data"
    ):
        go(folder, data, resume=True)
    assert sorted(folder.rglob("*")) == before


def test_a_run_goes_on_with_as_many_processes(undisturbed, phantom_folder, tmp_path, monkeypatch):
    """Else the batches, and with them the steps of an epoch, would be others."""
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    header = read_header(last(folder)) | {"processes": 4}
    monkeypatch.setattr(run, "read_header", lambda path: header)
    with pytest.raises(InputError, match=r"run: trained by 4 processes, not 1; give --devices and --nodes as before"):
        go(folder, phantom_folder, resume=True)


def test_data_that_cannot_be_used_leave_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        go(tmp_path / "run", tmp_path / "absent")
    assert not os.listdir(tmp_path)


def test_devices_that_are_not_there(phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")  # of a job script that starts one process for four
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    with pytest.raises(InputError, match=r"^--devices 1 --nodes 1: You set `--ntasks=4` .*; ask for what this machine"):
        go(tmp_path / "run", phantom_folder)


def test_radiographs_that_are_left_out_are_told(phantom_folder, tmp_path):
    data, told = shutil.copytree(phantom_folder, tmp_path / "data"), []
    row = held_out(open_dataset(data, split="train"), CONFIG.validation)[0].rows[0]
    shutil.copy(data / row.lower, data / row.upper)
    assert go(tmp_path / "run", data, replace(CONFIG, stages=STAGES[1:]), tell=told.append)
    assert told == ["1 radiographs are left out, with both masks drawn on one bone"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]["left_out"] == [row.name]


def test_a_full_disk_is_an_error_of_the_log(phantom_folder, tmp_path, monkeypatch):
    open_ = Path.open

    def full(path: Path, *mode, **options):
        return open_(Path("/dev/full") if path.name == LOG and mode == ("a",) else path, *mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=rf"{tmp_path}/run/{LOG}: cannot be written \(No space left on device\); free"):
        go(tmp_path / "run", phantom_folder)


def test_a_training_that_breaks_down_leaves_what_it_drew(phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(losses.SOFT_TISSUE, "bounded", lambda logits, masks: logits.mean() * float("nan"))
    with pytest.raises(
        InputError, match=r"^the training broke down at step 0: softness.* is not finite; see broken.json .*pseudo.lr_"
    ):
        go(tmp_path / "run", phantom_folder)
    record = json.loads((tmp_path / "run" / BROKEN).read_text())
    assert record["step"] == 0 and record["stage"] == "pseudo" and record["terms"]["softness"] == "nan"
    assert record["terms"]["supervision"] > 0
    names = {row.name for row in open_dataset(phantom_folder, split="train").rows}
    shown = {item["source"]: item["name"] for item in record["items"]}
    assert shown["radiograph"] in names and shown["phantom"] in ("phantom 0", "phantom 1")
    assert all({"overlap", "shifts", "pushed", "mirrored"} <= item.keys() for item in record["items"])
    assert not checkpoints(tmp_path / "run" / CHECKPOINTS)


# --- which generator is chosen ---------------------------------------------------------------------------------------


def scripted(monkeypatch, criteria: Iterator[float]) -> list[dict[str, Tensor]]:
    """Validate as told, and list the generators that were validated."""
    seen: list[dict[str, Tensor]] = []

    def validate(generator, watch, config) -> dict[str, float]:
        seen.append({key: value.clone() for key, value in generator.state_dict().items()})
        return {"criterion": next(criteria)}

    monkeypatch.setattr(keeper, "validate", validate)
    return seen


@pytest.mark.parametrize("stop", [None, 3, 4, 6])
def test_the_best_generator_is_chosen_whether_stopped_or_not(phantom_folder, tmp_path, monkeypatch, stop):
    """Of three or more validations the second is the best one; it was before, at, or after the stop."""
    config, folder = replace(CONFIG, validate_every=2), tmp_path / "run"
    seen = scripted(monkeypatch, iter([3.0, 1.0, 2.0, 1.0, 5.0, 5.0]))
    if stop:
        with monkeypatch.context() as patch:
            signal_at(patch, stop)
            assert not go(folder, phantom_folder, config)
    assert go(folder, phantom_folder, config, resume=bool(stop))
    chosen = {key: value.half() for key, value in seen[1].items()}
    assert_equal(load_file(folder / "generator.safetensors"), chosen)
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert metrics["selected"] == {"step": 4, "criterion": 1.0}
    assert metrics["final"] == {"step": metrics["steps"], "criterion": [3.0, 1.0, 2.0, 1.0, 5.0, 5.0][len(seen) - 1]}


# --- when it is saved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "every", "pause", "cost", "saved"),
    [
        (60.0, 3, 60.0, 0.0, [6, 8]),  # the ends of the stages
        (60.0, 1, 0.0, 0.0, [1, 2, 3, 4, 5, 6, 8]),
        (60.0, 3, 0.0, 0.0, [3, 6, 8]),
        (60.0, 3, 0.0, 60.0, [6, 8]),  # a minute for a checkpoint is too much for each epoch
        (0.0, 3, 60.0, 60.0, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_when_a_checkpoint_is_due(monkeypatch, minutes, every, pause, cost, saved):
    """Two stages, of six steps in epochs of `every`, and of two steps in one epoch; the last save was a second ago."""
    monkeypatch.setattr(keeper, "EPOCH_PAUSE", pause)
    kept = object.__new__(keeper.Keeper)
    kept.config, kept.saved, kept.cost = replace(CONFIG, checkpoint_every=minutes), time.monotonic() - 1, cost
    first, second = Stage("a", epochs=6 // every), Stage("b", epochs=1)
    moments = [Moment(0, first, k, k // every, closes=(k + 1) % every == 0) for k in range(6)]
    moments += [Moment(1, second, k, 0, closes=k == 1) for k in range(2)]
    assert [k + 1 for k, moment in enumerate(moments) if kept._save_is_due(moment)] == saved
