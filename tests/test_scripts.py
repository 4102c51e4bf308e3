"""Scripts: what they ask of `lsn`, with a stand-in for it that notes how it was called."""

import os
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from lsn_core.config import Config, make_config
from lsn_core.profile import load_profile
from lsn_core.stage import PAPER

SCRIPT = Path(__file__).parents[1] / "scripts" / "paper_schedule.sh"
STAND_IN = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
mkdir -p "$2/checkpoints"
if [[ $1 == evaluate ]]; then touch "$2/metrics_test.json"; exit; fi
touch "$2/checkpoints/step_1.safetensors"
if [[ $2 != *"${STOPPED:-nowhere}" ]]; then touch "$2/metrics.json"; fi
"""


@pytest.fixture
def call(tmp_path):
    """Run the script; what it asked of `lsn`, and its exit code."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/lsn").write_text(STAND_IN)
    (tmp_path / "bin/lsn").chmod(0o755)
    calls = tmp_path / "calls"

    def run(**given: str) -> tuple[list[list[str]], int]:
        calls.write_text("")
        known = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)}
        done = subprocess.run(["bash", str(SCRIPT), "data", "runs"], cwd=tmp_path, env=known | given)
        return [shlex.split(line) for line in calls.read_text().splitlines()], done.returncode

    return run


def config(words: list[str]) -> Config:
    """What `lsn train` makes of its words."""
    given = dict(word.split("=") for before, word in pairwise(words) if before == "--set")
    return make_config(("profile", load_profile(words[words.index("--profile") + 1])["train"]), ("--set", given))


def test_both_runs_have_the_papers_schedule_and_are_measured(call):
    calls, code = call()
    assert code == 0 and [words[:2] for words in calls] == [
        [verb, f"runs/{name}"] for name in ("sigmoid", "partition") for verb in ("train", "evaluate")
    ]
    sigmoid, partition = config(calls[0]), config(calls[2])
    assert sigmoid == Config(), "the paper's training, which is the default"
    assert partition.stages == PAPER and (partition.networks, partition.size, partition.batch) == ("paper", 256, 12)
    assert (partition.head, partition.soft_tissue, partition.dilate_px) == ("partition", "bounded", 4.0)
    assert all("test" in words and "--probe" in words for words in calls[1::2])


def test_what_is_done_is_left_alone_and_what_was_stopped_goes_on(call):
    assert call(STOPPED="sigmoid")[1] == 75, "stopped and saved is not done"
    calls, code = call()
    assert code == 0 and calls[0] == ["train", "runs/sigmoid", "--data", "data", "--resume"]
    assert call() == ([], 0)


def test_the_toy_trains_both_stages_in_a_minute(call):
    calls, _ = call(TOY="1")
    for words in calls[::2]:
        toy = config(words)
        assert toy.networks == "compact" and toy.size <= 64 and [stage.epochs for stage in toy.stages] == [2, 1]
        assert toy.stages[0].switch == 1, "N_D plays in it"
    assert "--probe" not in calls[1]
