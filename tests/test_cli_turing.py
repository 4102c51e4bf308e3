"""`lsn turing`, from two data sets to scored readers and a machine's answer, as a user types it."""

import json
import shutil
from pathlib import Path

import pytest

from lsn_core import two_sample
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.export import write_phantoms
from lsn_core.readings import csv_text, read_key
from lsn_core.simulated_readers import PANEL, simulated_readings


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """Thirty phantoms as film."""
    folder = tmp_path_factory.mktemp("data") / "real"
    write_phantoms(folder, count=30, size=96, seed=500, detector=COMPUTED_RADIOGRAPHY)
    return folder


@pytest.fixture
def made(lsn, real, tmp_path) -> Path:
    """What `lsn synthesize` makes of them."""
    told = lsn("synthesize", "--data", real, "--plan", "around", "--copies", "1", "--out", tmp_path / "made")
    assert told.code == 0
    return tmp_path / "made"


@pytest.fixture
def assembled(lsn, real, made, tmp_path) -> tuple[Path, Path]:
    """A set of ten and its key."""
    asked = ("--data", real, "--synthetic", made, "--split", "all", "--real", "5", "--made", "5", "--training", "2")
    told = lsn("turing", "assemble", *asked, "--out", tmp_path / "set", "--key", tmp_path / "key.json", "--size", "64")
    assert told.code == 0, told.err
    assert told.out.startswith(f"{tmp_path}/set: 5 real and 5 synthetic images and 2 examples, of 12 joints; key:")
    assert "numbers that tell the halves apart: none" in told.out
    return tmp_path / "set", tmp_path / "key.json"


def test_a_study_from_assembly_to_scores(lsn, assembled, tmp_path):
    folder, key = assembled
    page = lsn("turing", "page", folder, "--out", tmp_path / "rater.html")
    assert page.code == 0 and (tmp_path / "rater.html").stat().st_size > 10_000
    assert key.read_text() not in (tmp_path / "rater.html").read_text(encoding="utf-8")
    (tmp_path / "answers.csv").write_text(csv_text(simulated_readings(read_key(key), PANEL, seed=0)))
    told = lsn("turing", "score", tmp_path / "answers.csv", "--key", key, "--out", tmp_path / "scores.json")
    assert told.code == 0 and "SIMULATED READERS" in told.out and "R1" in told.out
    scores = json.loads((tmp_path / "scores.json").read_text())["metrics"]
    assert len(scores["readers"]) == 5 and scores["images"] == {"real": 5, "synthetic": 5}


def test_a_machine_is_asked(lsn, real, made, tmp_path, monkeypatch):
    monkeypatch.setattr(two_sample, "STEPS", 4)
    monkeypatch.setattr(two_sample, "BATCH", 4)
    asked = ("--data", real, "--synthetic", made, "--split", "all", "--size", "64", "--turns", "2")
    told = lsn("turing", "machine", *asked, "--out", tmp_path / "machine.json")
    assert told.code == 0 and "real against real" in told.out
    found = json.loads((tmp_path / "machine.json").read_text())["metrics"]["synthetic against real"]
    assert found["statistics"]["n"] == 60 and 0 <= found["frames"]["auc"] <= 1


def test_refusals(lsn, assembled, tmp_path):
    folder, key = assembled
    (tmp_path / "answers.csv").write_text(csv_text(simulated_readings(read_key(key), PANEL, seed=0)))
    other = json.loads(key.read_text()) | {"seed": 99}
    (tmp_path / "other.json").write_text(json.dumps(other))
    shutil.rmtree(folder / "images")
    for words, told in (
        (("score", tmp_path / "answers.csv", "--key", tmp_path / "other.json"), "and this key is of"),
        (("score", tmp_path / "absent.csv", "--key", key), "absent.csv: no such file"),
        (("score", key, "--key", key), "key.json"),
        (("page", folder, "--out", tmp_path / "x.html"), "000.png"),
        (("page", tmp_path / "absent", "--out", tmp_path / "x.html"), "absent"),
    ):
        said = lsn("turing", *words)
        assert said.code == 1 and said.err.startswith("error: ") and told in said.err, said.err
        assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "x.html").exists()
