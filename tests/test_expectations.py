"""Expectations: what departs from them is named, what may vary may, and a rerun that measured nothing is no success."""

import json
from pathlib import Path

import pytest
import yaml

from lsn_core.expectations import (
    Departure,
    compare_runs,
    departures,
    expected_needs,
    expected_path,
    flat,
    keep_runs,
    read_found,
    report,
)
from lsn_core.files import InputError

ROOT = Path(__file__).parents[1]
NEEDS = {"01_a": {"seconds": 3.0, "megabytes": 900.0}}


def ran(folder: Path, metrics, stem: str = "01_a") -> Path:
    """A folder of runs in which one notebook has found these metrics."""
    path = folder / stem / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"metrics": metrics, "provenance": {}}))
    return folder


def test_metrics_are_leaves_by_path():
    assert dict(flat({"a": {"b": [1, {"c": True}], "d": []}, "e": None})) == {
        "a/b/0": 1,
        "a/b/1/c": True,
        "a/d": [],
        "e": None,
    }


@pytest.mark.parametrize(
    ("expected", "found", "odd"),
    [
        ([2.0, 0.1], 2.1, False),
        ([2.0, 0.1], 1.9, False),
        ([2.0, 0.1], 2.11, True),
        ([2.0, 0.1], "2.0", True),
        ([1.0, 0.1], True, True),
        (3, 3, False),
        (3, 4, True),
        (1, True, True),
        ("index", "index", False),
        ("index", "ring", True),
        (True, False, True),
        (None, 17.5, False),
        ([], [], False),
        ([], 1.0, True),
    ],
)
def test_tolerances(expected, found, odd):
    assert departures({"m": found}, {"m": expected}) == ([Departure("m", expected, found)] if odd else [])


def test_what_is_missing_or_new_departs():
    assert departures({"new": 1}, {"old": [2.0, 0.1]}) == [
        Departure("old", [2.0, 0.1], None),
        Departure("new", None, 1),
    ]


def test_expectations_hold_of_the_reruns_they_were_kept_from(tmp_path):
    metrics = [
        {"bias": 0.1, "done": True, "n": 5, "hits": 7, "seconds": 3.0, "best": "a", "none": None},
        {"bias": 0.14, "done": True, "n": 5, "hits": 9, "seconds": 30.0, "best": "b", "none": None},
    ]
    runs = [ran(tmp_path / str(k), one) for k, one in enumerate(metrics)]
    out = keep_runs(runs, NEEDS, tmp_path / "expected/quick.yaml")
    kept = yaml.safe_load(out.read_text())["01_a"]
    assert kept["seconds"] == 3.0 and kept["megabytes"] == 900.0
    bias, within = kept["metrics"].pop("bias")
    assert bias == pytest.approx(0.12) and within == pytest.approx(0.08), "four half-ranges"
    assert kept["metrics"] == {"done": True, "n": 5, "hits": [8.0, 4.0], "seconds": None, "best": None, "none": None}
    assert all(compare_runs(run, out) == {"01_a": []} for run in runs)
    assert report(compare_runs(runs[0], out)) == "1 notebooks: all metrics are as expected"


def test_a_tolerance_is_never_nothing(tmp_path):
    out = keep_runs([ran(tmp_path / "a", {"x": 100.0, "zero": 1e-17})], NEEDS, tmp_path / "quick.yaml")
    kept = yaml.safe_load(out.read_text())["01_a"]["metrics"]
    assert kept["x"] == [100.0, 5.0] and kept["zero"][1] == 1e-6


def test_chance_agreement_does_not_make_a_number_strict(tmp_path):
    found = [
        {"tiny": {"a": 1.0, "b": 1.0, "c": 1.0}, "exact": 1.0},
        {"tiny": {"a": 1.2, "b": 1.0, "c": 1.2}, "exact": 1.0},
    ]
    out = keep_runs([ran(tmp_path / str(k), one) for k, one in enumerate(found)], NEEDS, tmp_path / "quick.yaml")
    kept = yaml.safe_load(out.read_text())["01_a"]["metrics"]
    assert kept["exact"][1] == 0.05 and kept["tiny/b"][1] == pytest.approx(4 * 0.1 / 1.2, abs=0.01)


def test_the_report_can_be_read(tmp_path):
    out = keep_runs([ran(tmp_path / "a", {"truth": {"bias": 0.1}, "n": 5})], NEEDS, tmp_path / "quick.yaml")
    told = report(compare_runs(ran(tmp_path / "b", {"truth": {"bias": 0.2}, "more": 1}), out))
    lines = [line.split() for line in told.splitlines()]
    assert lines[2] == ["01_a:", "truth/bias", "0.1", "0.005", "0.2", "+0.1"]
    assert lines[3] == ["01_a:", "n", "5", "-"] and lines[4] == ["01_a:", "more", "-", "1"]
    assert told.endswith("3 metrics are not as expected")


def test_nothing_to_compare_is_an_error(tmp_path):
    out = keep_runs([ran(tmp_path / "a", {"x": 1.0})], NEEDS, tmp_path / "quick.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"metrics.json: no such file"):
        compare_runs(tmp_path / "empty", out)
    with pytest.raises(InputError, match="nothing was compared"):
        compare_runs(tmp_path / "empty", out, some=True)
    with pytest.raises(InputError, match="says nothing of 02_b"):
        compare_runs(ran(tmp_path / "a", {"x": 1.0}, "02_b"), out)
    with pytest.raises(InputError, match="holds no metrics"):
        read_found(ran(tmp_path / "none", {}) / "01_a")
    with pytest.raises(InputError, match="measured other things"):
        keep_runs([tmp_path / "a", ran(ran(tmp_path / "c", {"y": 1.0}), {}, "02_b")], NEEDS, out)


def test_there_may_be_no_expectations(tmp_path):
    assert expected_needs(tmp_path, "quick") == {}


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_every_chapter_has_expectations(profile):
    kept = yaml.safe_load(expected_path(ROOT / "notebooks", profile).read_text())
    assert sorted(kept) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    compared = [value for one in kept.values() for value in one["metrics"].values() if value is not None]
    assert len(compared) > 400, "most numbers are compared"


def test_the_command_compares_and_keeps(lsn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran(tmp_path / "build/runs", {"x": 1.0})
    executed = tmp_path / "build/executed/01_a.ipynb"
    executed.parent.mkdir(parents=True)
    executed.write_text(json.dumps({"metadata": {"papermill": {"duration": 3.21}, "lsn": {"megabytes": 900.0}}}))
    assert lsn("metrics", "keep", "build/runs").code == 0
    assert yaml.safe_load((tmp_path / "notebooks/expected/quick.yaml").read_text())["01_a"]["seconds"] == 3.2
    good = lsn("metrics", "compare")
    assert good.code == 0 and "as expected" in good.out
    ran(tmp_path / "build/runs", {"x": 2.0})
    bad = lsn("metrics", "compare")
    assert bad.code == 1 and "01_a: x" in bad.out and "+1" in bad.out
    assert lsn("metrics", "compare", "absent").code == 1
