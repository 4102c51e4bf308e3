"""`lsn downstream`, from radiographs to runs, as a user types it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from test_cli import listing, refused
from test_cohort import gathered

from lsn_core.answers import read_answers
from lsn_core.cohort import read_cohort, write_cohort

PLAN = {
    "size": 64,
    "batch": 4,
    "copies": 2,
    "seeds": [0, 1],
    "networks": {"compact": {"jsw": {"updates": 2, "rate": 1e-3}, "jsn": {"updates": 2, "rate": 1e-3}}},
    "arms": {
        "control": {"tells": "radiographs", "phases": [{"show": ["radiographs"], "updates": 1.0, "rate": 1.0}]},
        "elsewhere": {"tells": "the other", "phases": [{"show": ["elsewhere"], "updates": 1.0, "rate": 1.0}]},
    },
    "runs": [{"network": "compact", "tasks": ["jsw", "jsn"], "arms": ["control", "elsewhere"], "shares": [1.0, 0.5]}],
}


@pytest.fixture(scope="module", name="cohort")
def _cohort(tmp_path_factory) -> Path:
    """The tiny cohort as a file."""
    return write_cohort(tmp_path_factory.mktemp("cohort") / "c.safetensors", gathered(), data="phantoms")


@pytest.fixture(name="plan")
def _plan(tmp_path) -> Path:
    """A plan of 16 runs of two steps."""
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return path


def test_phantoms_become_a_cohort(lsn, tmp_path):
    out = tmp_path / "new" / "c.safetensors"
    told = lsn("downstream", "prepare", out, "--phantoms", "8", "--visits", "1", "--size", "32")
    assert (told.code, told.err) == (0, "")
    assert told.out == f"{out}: 6 radiographs of 6 joints to train on, 2 radiographs of 2 joints to test on\n"
    cohort, origin = read_cohort(out)
    assert cohort.size == 32 and len(cohort.rows) == 8
    assert {"phantoms": 8, "visits": 1, "weights": "compact", "size": 32}.items() <= origin.items()
    assert origin["versions"]["torch"]


def test_a_data_set_becomes_a_cohort_and_what_cannot_be_used_is_told(lsn, phantom_folder, tmp_path):
    folder, out = tmp_path / "data", tmp_path / "c.safetensors"
    shutil.copytree(phantom_folder, folder)
    listed = (folder / "manifest.csv").read_text().splitlines()
    spacing = listed[0].split(",").index("spacing_mm")
    cells = listed[1].split(",")
    listed[1] = ",".join([*cells[:spacing], "", *cells[spacing + 1 :]])
    (folder / "manifest.csv").write_text("\n".join(listed) + "\n")
    told = lsn("downstream", "prepare", out, "--data", folder, "--size", "32")
    assert told.code == 0 and told.err.count("\n") == 1 and "has no pixel spacing, so no widths in mm" in told.err
    assert told.out == f"{out}: 7 radiographs of 7 joints to train on, 2 radiographs of 2 joints to test on\n"
    assert "phantoms" not in read_cohort(out)[1] and read_cohort(out)[1]["data"]


def test_runs_are_trained_shared_and_left_alone(lsn, cohort, plan, tmp_path):
    runs = tmp_path / "runs"
    asked = ("downstream", "train", runs, "--cohort", cohort, "--plan", plan, "--device", "cpu", "--arm", "control")
    part = (*asked, "--task", "jsw", "--share", "1.0", "--share", "0.5", "--seed", "1", "--network", "compact")
    told = lsn(*part)
    assert (told.code, told.out) == (0, f"{runs}: all runs are done\n")
    assert {path.name for path in runs.iterdir()} == {"jsw-compact-control-100-1", "jsw-compact-control-50-1"}
    record = json.loads((runs / "jsw-compact-control-50-1" / "metrics.json").read_text())["provenance"]
    assert record["cohort"] == {"data": "phantoms"} and record["course"]["share"] == 0.5
    assert len(read_answers(runs / "jsw-compact-control-50-1" / "answers.csv")) == 6
    before = listing(runs)
    assert lsn(*part).code == 0 and listing(runs) == before
    assert lsn(*asked).code == 0 and before.items() <= listing(runs).items()
    assert sum(path.name == "metrics.json" for path in runs.rglob("*")) == 8


def test_an_arm_that_learns_elsewhere(lsn, cohort, plan, tmp_path):
    words = ("downstream", "train", tmp_path / "runs", "--cohort", cohort, "--plan", plan, "--device", "cpu")
    asked = (*words, "--arm", "elsewhere", "--task", "jsw", "--seed", "0", "--share", "1")
    refused(
        lsn(*asked),
        "jsw-compact-elsewhere-100-0: learns from another cohort first; name one with --other, or take other arms",
    )
    assert lsn(*asked, "--other", cohort).out == f"{tmp_path}/runs: all runs are done\n"


def test_a_stopped_training_says_how_to_go_on(lsn, cohort, plan, tmp_path):
    """A run that another process is at is not done either."""
    import fcntl

    held = tmp_path / "runs" / "jsw-compact-control-100-0"
    held.mkdir(parents=True)
    with (held / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asked = ("--plan", plan, "--arm", "control", "--task", "jsw", "--seed", "0", "--share", "1", "--device", "cpu")
        told = lsn("downstream", "train", tmp_path / "runs", "--cohort", cohort, *asked)
    assert (told.code, told.out) == (0, f"{tmp_path}/runs: some runs are not done; the same line goes on\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--device", "tpu0"), "--device tpu0: .*; give cpu, or auto"),
        (("--device", "cuda:99"), "--device cuda:99: .*; give cpu, or auto"),
        (("--arm", "control", "--task", "svdh"), "--task svdh: not in the plan; choose from jsw, jsn"),
        (("--share", "0.3"), r"--share 0\.3: not in the plan; choose from 1\.0, 0\.5"),
        (("--seed", "7"), "--seed 7: not in the plan; choose from"),
        (("--plan", "absent.yaml"), r"absent\.yaml: no such file; check the path"),
        (("--plan", "other.yaml"), r"other\.yaml: not a downstream plan; it has the sections arms, "),
        (
            ("--plan", "large.yaml"),
            r"c\.safetensors: its images are 64 px, and the plan's 128; prepare it with --size 128, or change",
        ),
        (("--cohort", "absent"), "absent: not a cohort .*; write one with 'lsn downstream prepare'"),
        (("--cohort", "pack"), "pack: not a cohort of this version; write it again with 'lsn downstream prepare'"),
        (("--other", "absent"), "absent: not a cohort .*; write one with 'lsn downstream prepare'"),
    ],
)
def test_words_that_cannot_be_followed(lsn, cohort, plan, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text("size: 64\n")
    Path("large.yaml").write_text(yaml.safe_dump(PLAN | {"size": 128}))
    save_file({"a": torch.zeros(1)}, "pack")
    before = listing(tmp_path)
    said = lsn("downstream", "train", "runs", "--cohort", cohort, "--plan", plan, *words)
    refused(said, told)
    assert not said.out and listing(tmp_path) == before and not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--data", "absent"), "absent: no such folder or file; give the path of a data set"),
        (("--weights", "absent", "--phantoms", "8"), "absent: no such weights; give a trained run's folder"),
    ],
)
def test_a_cohort_that_cannot_be_prepared(lsn, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    refused(lsn("downstream", "prepare", "c.safetensors", *words), told)
    assert not list(tmp_path.iterdir())


def test_a_data_set_without_a_test_split_is_refused(lsn, phantom_folder, tmp_path):
    shutil.copytree(phantom_folder, tmp_path / "data")
    manifest = tmp_path / "data" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",test,", ",train,"))
    refused(
        lsn("downstream", "prepare", tmp_path / "c.safetensors", "--data", tmp_path / "data", "--size", "32"),
        "split 'test' has no joints",
    )
    assert not (tmp_path / "c.safetensors").exists()


def test_sizes_and_counts_out_of_range_are_refused(lsn, tmp_path):
    for words in (("--size", "16"), ("--phantoms", "4"), ("--visits", "0")):
        told = lsn("downstream", "prepare", tmp_path / "c.safetensors", *words)
        assert told.code == 2 and "Error" in told.err and "Traceback" not in told.err
