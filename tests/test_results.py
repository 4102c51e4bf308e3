"""Results: summaries against numpy and scipy, intervals that know visits from joints, provenance, tables."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lsn_core import results
from lsn_core.data import Row
from lsn_core.files import InputError
from lsn_core.results import (
    beside,
    commit,
    counts,
    limits_of_agreement,
    listing,
    means,
    provenance,
    recorded,
    recorded_log,
    summarise,
    table,
    write_metrics,
)

VALUES = np.random.default_rng(5).gamma(2.0, size=60)
ALONE = [f"j{k}" for k in range(60)]


def test_mean_and_sd():
    summary = summarise(list(VALUES), ALONE)
    assert summary["mean"] == pytest.approx(VALUES.mean()) and summary["sd"] == pytest.approx(np.std(VALUES, ddof=1))
    assert summary["n"] == summary["groups"] == 60 and summary["low"] < summary["mean"] < summary["high"]


def test_the_interval_of_single_images_is_the_percentile_bootstrap():
    summary = summarise(list(VALUES), ALONE)
    judge = stats.bootstrap((VALUES,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    tolerance = 0.15 * (judge.high - judge.low)  # 1000 resamples against 20000
    assert summary["low"] == pytest.approx(judge.low, abs=tolerance)
    assert summary["high"] == pytest.approx(judge.high, abs=tolerance)


def test_two_joints_can_only_be_drawn_in_three_ways():
    """Means are 0, the overall mean, or 1, and the extremes come up in a quarter of the samples each."""
    summary = summarise([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"])
    assert (summary["low"], summary["high"], summary["mean"]) == (0.0, 1.0, 0.25)
    assert (summary["n"], summary["groups"]) == (4, 2)


def test_visits_of_one_joint_are_no_new_evidence():
    """Each image taken four times: the interval stays, though n is fourfold; as new joints it would halve."""
    once = summarise(list(VALUES), ALONE)
    visits = summarise(list(VALUES) * 4, ALONE * 4)
    joints = summarise(list(VALUES) * 4, [f"j{k}" for k in range(240)])
    width, of_visits, of_joints = (one["high"] - one["low"] for one in (once, visits, joints))
    assert (visits["n"], visits["groups"]) == (240, 60)
    assert of_visits == pytest.approx(width) and of_joints == pytest.approx(width / 2, rel=0.15)


def test_a_single_joint_has_no_width():
    summary = summarise([1.0, 3.0], ["a", "a"])
    assert (summary["mean"], summary["low"], summary["high"]) == (2.0, 2.0, 2.0)
    assert summarise([3.0], ["a"])["sd"] == 0.0


def test_intervals_cover_the_truth():
    """About 95 of 100 intervals hold the true mean of 2; joints with three visits each, drawn alike within a joint."""
    random = np.random.default_rng(0)
    held = 0
    for k in range(100):
        x = np.repeat(random.normal(2, 1, size=40), 3) + random.normal(0, 0.1, size=120)
        summary = summarise(list(x), [f"j{i // 3}" for i in range(120)], seed=k)
        held += summary["low"] <= 2 <= summary["high"]
    assert 87 <= held <= 99


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_was_not_measured_is_left_out(bad):
    assert summarise([1.0, bad, 2.0], ["a", "b", "c"]) == summarise([1.0, 2.0], ["a", "c"])
    assert (
        summarise([bad], ["a"])
        == summarise([], [])
        == dict.fromkeys(("mean", "sd", "low", "high"), None) | {"n": 0, "groups": 0}
    )


def test_the_same_seed_gives_the_same_interval():
    assert summarise(list(VALUES), ALONE, seed=1) == summarise(list(VALUES), ALONE, seed=1)
    assert summarise(list(VALUES), ALONE, seed=1)["low"] != summarise(list(VALUES), ALONE, seed=2)["low"]


def test_tables_are_aligned():
    text = table([["", "n", "value"], ["thumb", "10", "1.5"], ["all", "5", "-"]])
    assert text == "\n".join(["        n  value", "-----  --  -----", "thumb  10    1.5", "all     5      -"])


def test_counts_are_of_images_and_of_joints():
    rows = [
        Row("n", "", "", "", j, f, None, None, ())
        for j, f in (("a", "thumb"), ("a", "thumb"), ("b", None), ("c", "ring"))
    ]
    cells = [line.split() for line in counts(rows).splitlines()]
    assert cells[0] == ["finger", "radiographs", "joints"]
    assert cells[2:] == [["ring", "1", "1"], ["thumb", "2", "1"], ["unknown", "1", "1"], ["all", "4", "3"]]


def test_written_metrics_say_where_they_come_from(tmp_path):
    path = write_metrics(tmp_path / "m.json", {"a": 1.0}, kind="training", seed=3)
    record = json.loads(path.read_text())
    assert record["metrics"] == {"a": 1.0}
    known = record["provenance"]
    assert {"kind": "training", "seed": 3}.items() <= known.items()
    assert {"commit", "machine", "device", "versions", "date"} <= set(known) and known["versions"]["torch"][0].isdigit()
    with pytest.raises(ValueError, match="JSON"):
        write_metrics(tmp_path / "n.json", {"a": float("nan")})
    assert not (tmp_path / "n.json").exists()


def git(folder: Path, *words: str) -> str:
    """Run git as somebody."""
    who = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    file = tmp_path / "results.py"
    file.write_text("1")
    monkeypatch.setattr(results, "__file__", str(file))
    assert commit() is None  # outside a checkout
    git(tmp_path, "init", "-q")
    assert commit() is None  # nothing committed
    git(tmp_path, "add", "results.py"), git(tmp_path, "commit", "-qm", "x")
    assert commit() == git(tmp_path, "rev-parse", "HEAD") and len(commit()) == 40
    (tmp_path / "untracked").write_text("1")
    assert "+" not in commit()
    file.write_text("2")
    assert commit() == git(tmp_path, "rev-parse", "HEAD") + "+changes" == provenance()["commit"]
    monkeypatch.setenv("PATH", "")
    assert commit() is None  # no git


def test_recorded_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RECORDS", tmp_path)
    (tmp_path / "real.json").write_text('{"metrics": {}}')
    (tmp_path / "real.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    assert recorded("real") == {"metrics": {}} and recorded_log("real") == [{"step": 1}, {"step": 2}]
    with pytest.raises(InputError, match=r"other.json: no such recorded run; this checkout has real.json, real.jsonl"):
        recorded("other")


def test_runs_stand_side_by_side():
    first = {"psnr": {"mean": 30.25, "sd": 1.0}, "shadow": {"mean": None, "sd": None}}
    second = {"psnr": {"mean": 150.0, "sd": 0.25}, "shadow": {"mean": 0.031, "sd": 0.002}}
    lines = results.side_by_side({"a": first, "b": second}, ["shadow", "psnr"]).splitlines()
    assert [line.split() for line in (lines[0], *lines[2:])] == [
        ["mean", "±", "SD", "a", "b"],
        ["shadow", "-", "0.031", "±", "0.002"],
        ["psnr", "30.25", "±", "1", "150", "±", "0.25"],
    ]


def test_limits_of_agreement_by_hand_and_numpys_spread():
    differences, groups = [0.1, -0.2, 0.4, float("nan"), 0.3], ["a", "a", "b", "b", "c"]
    found = limits_of_agreement(differences, groups)
    kept = np.array([0.1, -0.2, 0.4, 0.3])
    spread = 1.96 * kept.std(ddof=1)
    values = {name: one["value"] for name, one in found.items()}
    assert values == pytest.approx({"bias": 0.15, "lower_limit": 0.15 - spread, "upper_limit": 0.15 + spread})
    assert all(one["low"] <= one["high"] for one in found.values())
    moved = limits_of_agreement([d + 1 for d in differences], groups)
    for name, one in found.items():
        assert moved[name] == pytest.approx({key: value + 1 for key, value in one.items()})


def test_a_listing_has_a_row_for_each_number_and_dashes_where_there_is_none():
    some = summarise([1.0, 2.0, 3.0], ["a", "b", "c"])
    rows = listing({"x": some, "y": summarise([float("nan")], ["a"])}, {"x": "width", "y": "length"}).splitlines()
    assert rows[2].startswith("width ") and "2 ± 1" in rows[2] and f"[{some['low']:.3g}, {some['high']:.3g}]" in rows[2]
    assert rows[3].split() == ["length", "0", "-", "-"]


def test_ours_beside_the_papers():
    ours = {"mse": summarise([2.0, 4.0], ["a", "b"]), "ssim": summarise([0.5], ["a"])}
    rows = beside({"mse": 1.5, "ssim": None}, ours, names=["mse", "ssim"]).splitlines()
    assert (
        rows[2].split() == ["mse", "1.5", "3", "±", "1.4", "2.00"] and rows[3].split()[1] == "-" == rows[3].split()[-1]
    )
    assert means({"run": ours}, ["mse"]) == {"run": {"mse": 3.0}}
