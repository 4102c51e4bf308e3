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


def values(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Bias and limits without their intervals."""
    return {name: one["value"] for name, one in found.items()}


def test_limits_of_agreement_by_hand():
    """The mean of 1, 2, 3 and 6 is 3, and their squares about it add up to 14: SD is the root of 14 / 3."""
    found = limits_of_agreement([1.0, 2.0, 3.0, 6.0], ["a", "a", "b", "c"])
    spread = 1.96 * (14 / 3) ** 0.5
    assert values(found) == pytest.approx({"bias": 3.0, "lower_limit": 3.0 - spread, "upper_limit": 3.0 + spread})
    assert values(limits_of_agreement([4.0], ["a"])) == {"bias": 4.0, "lower_limit": 4.0, "upper_limit": 4.0}


@pytest.mark.parametrize("names", [ALONE, [f"j{k // 7}" for k in range(60)]])
def test_limits_of_agreement_are_numpys_and_inside_their_intervals(names):
    found = limits_of_agreement(list(VALUES), names)
    mean, spread = VALUES.mean(), 1.96 * np.std(VALUES, ddof=1)
    assert values(found) == pytest.approx({"bias": mean, "lower_limit": mean - spread, "upper_limit": mean + spread})
    assert all(one["low"] < one["value"] < one["high"] for one in found.values())
    summary = summarise(list(VALUES), names)  # the same resamples
    assert (found["bias"]["low"], found["bias"]["high"]) == pytest.approx((summary["low"], summary["high"]))


@pytest.mark.parametrize(("name", "sign"), [("lower_limit", -1), ("upper_limit", 1)])
def test_the_intervals_of_limits_are_the_percentile_bootstrap(name, sign):
    def limit(x: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.mean(axis=axis) + sign * 1.96 * x.std(axis=axis, ddof=1)

    judge = stats.bootstrap((VALUES,), limit, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    found = limits_of_agreement(list(VALUES), ALONE)[name]
    tolerance = 0.15 * (judge.high - judge.low)
    assert found["low"] == pytest.approx(judge.low, abs=tolerance)
    assert found["high"] == pytest.approx(judge.high, abs=tolerance)


def test_intervals_of_limits_cover_the_truth():
    """Of a normal distribution of mean 2 and SD 1, forty joints with three visits that are nearly alike."""
    random, held = np.random.default_rng(0), dict.fromkeys(("bias", "lower_limit", "upper_limit"), 0)
    truth = {"bias": 2.0, "lower_limit": 2 - 1.96, "upper_limit": 2 + 1.96}
    for k in range(100):
        x = np.repeat(random.normal(2, 1, size=40), 3) + random.normal(0, 0.05, size=120)
        found = limits_of_agreement(list(x), [f"j{i // 3}" for i in range(120)], seed=k)
        for name, one in found.items():
            held[name] += one["low"] <= truth[name] <= one["high"]
    assert all(82 <= count <= 99 for count in held.values()), held  # percentiles of 40 joints' SD are a little narrow


def test_visits_of_one_joint_do_not_narrow_limits():
    """Four times the same images in the same joints: as new joints the intervals would halve."""
    once = limits_of_agreement(list(VALUES), ALONE)
    visits = limits_of_agreement(list(VALUES) * 4, ALONE * 4)
    joints = limits_of_agreement(list(VALUES) * 4, [f"j{k}" for k in range(240)])
    for name in once:
        width, of_visits, of_joints = (found[name]["high"] - found[name]["low"] for found in (once, visits, joints))
        assert of_visits == pytest.approx(width, rel=0.02) and of_joints == pytest.approx(width / 2, rel=0.2)


def test_a_single_joint_has_limits_without_width():
    found = limits_of_agreement([1.0, 2.0, 3.0], ["a"] * 3)
    assert values(found) == pytest.approx({"bias": 2.0, "lower_limit": 0.04, "upper_limit": 3.96})
    assert all(one["low"] == one["value"] == one["high"] for one in found.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_differences_that_were_not_measured_are_left_out_of_limits(bad):
    kept = limits_of_agreement([0.1, -0.2, 0.3], ["a", "a", "c"])
    assert limits_of_agreement([0.1, bad, -0.2, 0.3, bad], ["a", "b", "a", "c", "d"]) == kept


def test_limits_move_with_the_differences_and_turn_with_their_sign():
    groups = [f"j{k // 3}" for k in range(60)]
    found = limits_of_agreement(list(VALUES), groups)
    moved, turned = limits_of_agreement(list(VALUES + 5), groups), limits_of_agreement(list(-3 * VALUES), groups)
    for name, one in found.items():
        assert moved[name] == pytest.approx({key: value + 5 for key, value in one.items()})
        other = turned[{"bias": "bias", "lower_limit": "upper_limit", "upper_limit": "lower_limit"}[name]]
        expected = {"value": -3 * one["value"], "low": -3 * one["high"], "high": -3 * one["low"]}
        assert other == pytest.approx(expected)
    assert limits_of_agreement(list(VALUES), groups) == found != limits_of_agreement(list(VALUES), groups, seed=1)


def test_a_listing_has_a_row_for_each_number_and_dashes_where_there_is_none():
    some = {"mean": 2.0, "sd": 1.0, "n": 3, "groups": 3, "low": 1.2345, "high": 2.5}
    found = {"x": some, "y": summarise([float("nan")], ["a"]), "not asked for": some}
    head, _, *rows = listing(found, {"y": "length", "x": "width, mm"}).splitlines()
    assert head.split("  ")[-2:] == ["mean ± SD", "95 % interval"] and len(rows) == 2
    assert rows[0].split() == ["length", "0", "-", "-"]
    assert rows[1].split() == ["width,", "mm", "3", "2", "±", "1", "[1.23,", "2.5]"]


def test_ours_beside_the_papers():
    ours = {"mse": summarise([2.0, 4.0], ["a", "b"]), "ssim": summarise([0.5], ["a"])}
    rows = beside({"mse": 1.5, "ssim": None}, ours, names=["mse", "ssim"]).splitlines()
    assert (
        rows[2].split() == ["mse", "1.5", "3", "±", "1.4", "2.00"] and rows[3].split()[1] == "-" == rows[3].split()[-1]
    )
    assert means({"run": ours}, ["mse"]) == {"run": {"mse": 3.0}}
