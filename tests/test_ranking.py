"""Variants side by side: means, paired differences and intervals by hand, and ranks that scipy agrees with."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lsn_core.ablation import MEASURED, TRAINED, Contrast, Plan, Variant
from lsn_core.config import Config
from lsn_core.files import InputError
from lsn_core.ranking import Board, agreement_with, board_table, crossed_interval, gather_board, origin, report
from lsn_core.results import clustered_interval

JOINTS = ["a", "a", "b", "c"]
VALUES = {  # of four images, with two seeds each
    "one": [[1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]],
    "two": [[0.0, 1.0, 1.0, 2.0], [1.0, 1.0, 2.0, 2.0]],
    "three": [[5.0, 5.0, float("nan"), 5.0], [6.0, 6.0, 6.0, 6.0]],
}
ERRORS = ("soft_mask_mae", "lower_mask_mae", "upper_mask_mae")


def write(path, rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_run(folder, values: list[float], error: float) -> None:
    """A measured run: `mse` of each image, and layers of two phantoms that are wrong by `error`."""
    folder.mkdir(parents=True)
    known = [{"name": f"{k}", "joint": joint, "finger": ""} for k, joint in enumerate(JOINTS)]
    write(folder / "metrics_test.csv", [one | {"mse": v} for one, v in zip(known, values, strict=True)])
    layers = {name: error * (i + 1) for i, name in enumerate(ERRORS)}
    phantoms = [
        {"name": n, "joint": n, "finger": ""} | layers | {"image": kind} for kind in ("clean", "film") for n in "xy"
    ]
    write(folder / "metrics_test_phantoms.csv", phantoms)
    (folder / MEASURED).write_text(json.dumps({"provenance": {"data": "d", "commit": "c"}}))
    trained = {"metrics": {"steps": 10, "minutes": 0.5}, "provenance": {"commit": "t"}}
    (folder / TRAINED).write_text(json.dumps(trained))


@pytest.fixture(name="runs")
def _runs(tmp_path):
    plan = Plan(
        tuple(Variant(name, f"the {name}", Config()) for name in VALUES),
        (0, 1),
        {"difference": Contrast("one less two", {"one": 1.0, "two": -1.0})},
    )
    for k, variant in enumerate(plan.variants):
        for seed in plan.seeds:
            write_run(variant.folder(tmp_path, seed), VALUES[variant.name][seed], 0.1 * (3 - k))
    return tmp_path, plan


def test_means_and_differences_by_hand(runs):
    board = Board(*runs)
    one = board.contrast({"one": 1.0}, "mse")
    assert (one["mean"], one["seeds"], one["n"]) == (3.0, [2.5, 3.5], 4) and one["sd"] == pytest.approx(0.5**0.5)
    difference = board.contrast({"one": 1.0, "two": -1.0}, "mse")
    assert difference["seeds"] == [1.5, 2.0] and difference["mean"] == 1.75
    assert difference["low"] <= 1.75 <= difference["high"]
    assert board.contrast({"one": 1.0}, "film_layer_error")["mean"] == pytest.approx(0.3 * 2)


def test_an_image_without_a_number_in_any_run_is_left_out_of_all(runs):
    found = Board(*runs).contrast({"three": 1.0, "one": -1.0}, "mse")
    kept = [0, 1, 3]
    expected = [np.mean([VALUES["three"][s][k] - VALUES["one"][s][k] for k in kept]) for s in (0, 1)]
    assert found["n"] == 3 and found["seeds"] == pytest.approx(expected)


def test_only_seeds_that_all_have_are_compared(runs):
    folder, plan = runs
    (plan.variants[1].folder(folder, 1) / MEASURED).unlink()
    board = Board(folder, plan)
    assert board.seeds("one") == [0, 1] and board.seeds("one", "two") == [0]
    found = board.contrast({"one": 1.0, "two": -1.0}, "mse")
    assert found["seeds"] == [1.5] and found["sd"] is None
    for seed in plan.seeds:
        (plan.variants[1].folder(folder, seed) / MEASURED).unlink(missing_ok=True)
    assert Board(folder, plan).contrast({"two": 1.0}, "mse")["mean"] is None
    assert set(gather_board(folder, plan)["variants"]) == {"one", "three"}


def test_no_run_at_all(runs, tmp_path):
    with pytest.raises(InputError, match="no run of this plan is measured"):
        Board(tmp_path / "nowhere", runs[1])


def test_with_one_seed_the_interval_is_that_of_joints_alone():
    dice = np.random.default_rng(3)
    values, joints = dice.normal(size=60), np.repeat(np.arange(20), 3).astype(str)
    crossed, clustered = crossed_interval(values[None], joints), clustered_interval(values, joints)
    assert crossed == pytest.approx(clustered, abs=0.05)


def test_the_interval_covers_a_known_mean_about_as_often_as_it_says():
    """Twenty seeds and thirty joints, each with an effect of its own."""
    dice, hits = np.random.default_rng(0), 0
    for _ in range(100):
        seeds, joints = dice.normal(size=(20, 1)), np.repeat(dice.normal(size=30), 2)
        values = seeds + joints + dice.normal(size=(20, 60))
        low, high = crossed_interval(values, np.repeat(np.arange(30), 2).astype(str))
        hits += low <= 0 <= high
    assert 85 <= hits <= 100


def test_intervals_widen_with_what_seeds_do():
    joints = np.array(JOINTS)
    same = crossed_interval(np.array([[1.0, 2.0, 3.0, 4.0]] * 2), joints)
    apart = crossed_interval(np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), joints)
    assert apart[1] - apart[0] > same[1] - same[0]
    assert crossed_interval(np.ones((3, 4)), joints) == (1.0, 1.0)


def test_ranks_are_scipys():
    dice = np.random.default_rng(1)
    values = dice.normal(size=(6, 2))
    board = {str(k): {"metric": {"mean": a}, "judge": {"mean": b}} for k, (a, b) in enumerate(values)}
    found = agreement_with(board, ["metric", "judge"], "judge")
    assert found["metric"] == pytest.approx(stats.spearmanr(*values.T).statistic) and found["judge"] == pytest.approx(1)


def test_all_that_the_runs_say(runs):
    results = gather_board(*runs)
    assert results["variants"]["one"]["tells"] == "the one"
    assert results["variants"]["one"]["training"] == {"steps": [10, 10], "minutes": [0.5, 0.5], "commits": ["t"]}
    assert results["contrasts"]["difference"]["mse"]["mean"] == 1.75
    assert results["agreement_with_layer_error"]["film_layer_error"] == pytest.approx(1)
    assert origin(*runs) == {"data": ["d"], "split": "test", "measured_by": ["c"]}
    json.dumps(results, allow_nan=False)


def test_the_board_is_ordered_by_layer_error_and_names_variants_by_what_they_are(runs, monkeypatch):
    from lsn_core import ranking

    monkeypatch.setattr(ranking, "REPORTED", {"mse": ("MSE", "{:.2f}"), "film_layer_error": ("error", "{:.1f}")})
    told = report(gather_board(*runs)).splitlines()
    assert [line.split("  ")[0] for line in told[2:5]] == ["the three", "the two", "the one"]
    assert "3.00 ± 0.71" in told[4] and any(line.startswith("one less two") and "1.75 [" in line for line in told)
    nothing = {"mean": None, "sd": None}
    assert board_table({"a": {"m": nothing}}, {"a": "A"}, {"m": ("M", "{}")}).splitlines()[-1].split() == ["A", "-"]


def test_plans_stay_plain(runs):
    plan = runs[1]
    assert replace(plan, seeds=(2,)).variants == plan.variants
