"""Downstream results: laws of scores, contrasts and worths on answers that are made up, so that the truth is known."""

import json

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import explained_variance_score, mean_absolute_error, r2_score

from lsn_core.answers import write_answers
from lsn_core.coaching import ANSWERS, METRICS
from lsn_core.downstream import (
    FLIPS,
    PX_MM,
    Setting,
    as_grades,
    both_ways,
    contrasts,
    correlations,
    crossing,
    difference,
    exchange_p,
    gather_downstream,
    grade_scores,
    narrowing_scores,
    origin,
    over_seeds,
    read_off,
    read_runs,
    rivals,
    width_scores,
    worth,
)
from lsn_core.downstream_figures import annotation_curves, arms_figure, confusion_figure, coverage_figure
from lsn_core.downstream_figures import differences_figure as differences
from lsn_core.downstream_tables import (
    arms_table,
    chosen,
    read_off_table,
    score_cell,
    scores_table,
    table_4,
    worth_table,
)
from lsn_core.files import InputError
from lsn_core.jsw import svdh_like

JOINTS, VISITS = 30, 3


def widths(noise: float, *, seed: int, bias: float = 0.0) -> list[dict]:
    """Answers to widths with errors of that SD."""
    dice, truth = np.random.default_rng(seed), np.random.default_rng(99).uniform(0.3, 2.0, (JOINTS, VISITS))
    return [
        {
            "name": f"{j}_{v}",
            "joint": f"{j}",
            "true": float(t),
            "found": float(t + bias + noise * dice.standard_normal()),
        }
        for (j, v), t in np.ndenumerate(truth)
    ]


def grades(share_wrong: float, *, seed: int) -> list[dict]:
    """Answers to classes, so many of them one too high."""
    dice = np.random.default_rng(seed)
    rows = widths(0.0, seed=0)
    true = [min(3, int(2 * row["true"])) for row in rows]
    return [row | {"true": t, "found": t + int(dice.random() < share_wrong)} for row, t in zip(rows, true, strict=True)]


def narrowings(noise: float, *, seed: int) -> list[dict]:
    """Answers to all ordered pairs of three visits."""
    dice, rows = np.random.default_rng(seed), []
    for j in range(JOINTS):
        for first in range(VISITS):
            for second in range(VISITS):
                if first != second:
                    true = 0.1 * (second - first)
                    known = {"name": f"{j}_{first}", "fixed": f"{j}_{second}", "joint": f"{j}", "true": true}
                    found = true + noise * dice.standard_normal()
                    rows.append(known | {"found": float(found), "sd": noise, "error": 0.001})
    return rows


def write_run(folder, name: str, rows: list[dict]) -> None:
    """A run that is done."""
    write_answers(folder / name / ANSWERS, rows)
    known = {"cohort": {"phantoms": 1}, "device": "d", "commit": "c"}
    metrics = {"images_a_second": {"training": 10.0, "inference": 20.0}, "seconds": 1.0}
    (folder / name / METRICS).write_text(json.dumps({"metrics": metrics, "provenance": known}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of two arms at three shares with two seeds: pre-trained is better, at 20 % as good as the control at all."""
    runs = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        for share, control, pretrained in ((10, 0.4, 0.2), (20, 0.3, 0.1), (100, 0.1, 0.05)):
            for arm, noise in (("control", control), ("pretrained", pretrained)):
                number = 1000 * seed + share + (arm == "control")
                write_run(runs, f"jsw-compact-{arm}-{share}-{seed}", widths(noise, seed=number))
        write_run(runs, f"svdh-compact-control-100-{seed}", grades(0.4, seed=seed))
        write_run(runs, f"svdh-compact-pretrained-100-{seed}", grades(0.1, seed=seed))
        write_run(runs, f"jsn-compact-control-100-{seed}", narrowings(0.2, seed=seed))
        write_run(runs, f"jsn-compact-pretrained-100-{seed}", narrowings(0.1, seed=10 + seed))
    (runs / "jsw-compact-mixed-100-0").mkdir()  # begun, not done
    return runs


@pytest.fixture(scope="module")
def results(folder):
    return gather_downstream(folder)


def test_runs_are_read_by_setting_and_seed(folder, tmp_path):
    runs = read_runs(folder)
    assert runs.keys() >= {Setting("jsw", "compact", "control", 0.1), Setting("svdh", "compact", "pretrained", 1.0)}
    assert all(sorted(seeds) == [0, 1] for seeds in runs.values()) and len(runs) == 10
    assert not any(setting.arm == "mixed" for setting in runs)
    with pytest.raises(InputError, match="no run in it is done"):
        read_runs(tmp_path)


def test_width_scores_as_scikit_learn_has_them():
    rows = widths(0.2, seed=1, bias=0.05)
    found, true = (np.array([row[name] for row in rows]) for name in ("found", "true"))
    scores = width_scores(rows)
    assert scores["mae_mm"] == pytest.approx(mean_absolute_error(true, found))
    assert scores["mae_px"] == pytest.approx(scores["mae_mm"] / (21 / 256))
    assert scores["mse_px2"] == pytest.approx((scores["rmse_mm"] / PX_MM) ** 2)
    assert scores["r2"] == pytest.approx(r2_score(true, found))
    assert scores["evs"] == pytest.approx(explained_variance_score(true, found))
    assert scores["bias_mm"] == pytest.approx((found - true).mean())
    assert scores["lower_limit_mm"] < scores["bias_mm"] < scores["upper_limit_mm"]


def test_grade_scores_have_both_kinds():
    scores = grade_scores(grades(0.25, seed=3))
    assert scores["accuracy"] == pytest.approx(1 - 2 * (1 - scores["top1"]) / 5)
    assert scores["ordinal_mae"] == pytest.approx(1 - scores["top1"])  # each error is one class


def test_narrowings_that_add_up_close_and_mismatches_are_counted():
    exact = narrowing_scores(narrowings(0.0, seed=0))
    assert exact["phase_sigma_mm"] == pytest.approx(0, abs=1e-6) and exact["mae_mm"] == pytest.approx(0, abs=1e-6)
    rows = narrowings(0.0, seed=0)
    rows[0] = rows[0] | {"found": float("nan"), "sd": float("nan")}
    assert narrowing_scores(rows)["mismatch"] == pytest.approx(1 / len(rows))
    assert narrowing_scores(narrowings(0.2, seed=0))["phase_sigma_mm"] > 0.05


def test_read_both_ways_what_is_always_added_cancels():
    rows = narrowings(0.0, seed=0)
    shifted = [row | {"found": row["found"] + 0.07} for row in rows]
    assert narrowing_scores(shifted)["bias_mm"] == pytest.approx(0.07)
    assert narrowing_scores(shifted)["mae_both_ways_mm"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(both_ways(rows[:1])).all()  # there is no way back


def test_correlations_as_numpy_has_them():
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    expected = {"r": np.corrcoef(x, y)[0, 1], "rank_r": np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1]}
    assert correlations(x, y) == pytest.approx(expected)
    assert correlations(np.r_[x, np.nan], np.r_[y, 1.0]) == pytest.approx(expected)
    assert np.isnan(list(correlations(np.zeros(3), np.arange(3.0)).values())).all()
    assert np.isnan(list(correlations(np.array([np.nan]), np.ones(1)).values())).all()


def test_classes_read_off_widths():
    """Exact widths give exact classes; a grader who is always wrong is wrong in all of them more often."""
    exact = widths(0.0, seed=0)
    true = [svdh_like(row["true"]) for row in exact]
    always = [row | {"true": t, "found": (t + 1) % 5} for row, t in zip(exact, true, strict=True)]
    runs = {
        Setting("jsw", "compact", "control", 1.0): {0: exact},
        Setting("svdh", "compact", "control", 1.0): {0: always},
    }
    (found,) = read_off(runs)
    assert found["graded"]["mean"] == 0 and found["read"]["mean"] == 1 and found["mean"] == 1
    assert "1.000" in read_off_table([found]) and read_off_table([]) == ""
    assert [row["found"] for row in as_grades(exact)] == true


def test_a_difference_is_paired_by_row_and_seed():
    """Two arms that are wrong alike but for a constant differ by it exactly, however wrong they are."""
    one = {seed: widths(0.5, seed=seed) for seed in (0, 1)}
    other = {
        s: [row | {"found": row["true"] + 2 * (row["found"] - row["true"])} for row in rows] for s, rows in one.items()
    }
    away = lambda rows: np.array([abs(row["found"] - row["true"]) for row in rows])  # noqa: E731
    found = difference(one, other, away)
    assert found["mean"] == pytest.approx(-np.mean([away(rows) for rows in one.values()]))
    assert found["low"] < found["mean"] < found["high"] < 0 and found["p"] == pytest.approx(1 / (FLIPS + 1), rel=2)


def test_exchange_p_as_scipy_has_it():
    """One row a joint: the test of signs of scipy, which tries all exchanges."""
    x = np.random.default_rng(4).normal(0.25, 1, 14)
    judge = permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert exchange_p(x, np.arange(14)) == pytest.approx(judge.pvalue, abs=0.015)


def test_exchange_p_takes_joints_whole():
    """The same values ten times over are no ten joints."""
    x = np.array([0.5, -0.2, 0.7, 0.4, 0.3])
    many = exchange_p(np.repeat(x, 10), np.repeat(np.arange(5), 10))
    assert many == pytest.approx(exchange_p(x, np.arange(5)))
    assert exchange_p(np.repeat(x, 10), np.arange(50)) < many / 3


def test_exchange_p_is_even_where_nothing_differs():
    values = [exchange_p(np.random.default_rng(k).normal(size=20), np.arange(20), seed=k) for k in range(200)]
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.1 and 0.4 < np.mean(values) < 0.6


def test_contrasts_are_with_the_control_of_the_same_share(results):
    jsw = chosen(results["contrasts"], task="jsw", error="mae_mm")
    assert sorted(one["share"] for one in jsw) == [0.1, 0.2, 1.0] and all(one["mean"] < 0 for one in jsw)
    assert all(one["arm"] == "pretrained" and one["seeds"] == [0, 1] for one in results["contrasts"])


def test_holm_goes_over_the_three_tasks(results):
    """Only the first error of each task is tested; the smallest p of three is made three times as large."""
    tested = [one for one in chosen(results["contrasts"], share=1.0) if one["holm"] is not None]
    assert sorted(one["task"] for one in tested) == ["jsn", "jsw", "svdh"]
    least = min(tested, key=lambda one: one["p"])
    assert least["holm"] == pytest.approx(min(1, 3 * least["p"]))
    assert all(one["holm"] >= one["p"] for one in tested)


def test_other_arms_are_a_family_of_their_own():
    arms = ("control", "pretrained", "mixed", "cut")
    runs = {Setting("jsw", "compact", arm, 1.0): {0: widths(0.1 + 0.02 * k, seed=k)} for k, arm in enumerate(arms)}
    found = {one["arm"]: one for one in contrasts(runs)}
    assert found["pretrained"]["holm"] == pytest.approx(found["pretrained"]["p"])
    least = min(("mixed", "cut"), key=lambda arm: found[arm]["p"])
    assert found[least]["holm"] == pytest.approx(min(1, 2 * found[least]["p"]))


def test_rivals_are_compared_with_controls_of_their_own():
    arms = {"control": 0.3, "fastest": 0.2, "pretrained": 0.1}
    runs = {Setting("jsw", "compact", arm, 1.0): {0: widths(sd, seed=k)} for k, (arm, sd) in enumerate(arms.items())}
    (found,) = rivals(runs)
    assert found["arm"] == "pretrained" and found["against"] == "fastest"
    assert -0.2 < found["mean"] < 0 and contrasts(runs)[1]["mean"] < found["mean"]


@pytest.mark.parametrize(
    ("errors", "level", "expected"),
    [
        ([4, 2, 1], 5, 0.1),  # better from the start
        ([4, 2, 1], 2, 0.2),
        ([4, 2, 1], 3, 0.1 * 2**0.5),  # half way, in the logarithm
        ([4, 2, 1], 1, 0.4),
        ([4, 2, 1], 0.5, np.inf),
    ],
)
def test_crossings_by_hand(errors, level, expected):
    assert crossing([0.1, 0.2, 0.4], errors, level) == pytest.approx(expected)


def test_worth_of_pre_training(results):
    """The control's error with all joints is that of the pre-trained arm with a fifth of them."""
    (found,) = results["worth"]
    assert found["share"] == pytest.approx(0.2, rel=0.15)
    assert found["low"] <= found["share"] <= found["high"] and found["reached"] == 1


def test_what_is_never_reached_is_not_known():
    away = lambda rows: np.array([abs(row["found"] - row["true"]) for row in rows])  # noqa: E731
    curve = [{0: widths(0.5, seed=1)}, {0: widths(0.4, seed=2)}]
    found = worth([0.5, 1.0], curve, {0: widths(0.01, seed=3)}, away)
    assert found == {"share": None, "low": None, "high": None, "reached": 0.0}


def test_scores_over_seeds():
    assert over_seeds([1.0, 3.0]) == {"mean": 2.0, "sd": pytest.approx(2**0.5)}
    assert over_seeds([1.0, float("nan")]) == {"mean": 1.0, "sd": None}
    assert over_seeds([float("nan")]) == {"mean": None, "sd": None}


def test_the_record_is_json_and_tells_its_origin(folder, results):
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    told = origin(folder)
    assert told == {"cohorts": [{"phantoms": 1}], "runs": 20, "made": {"device": ["d"], "commit": ["c"]}}


def test_runs_of_two_cohorts_are_not_put_side_by_side(tmp_path):
    for seed, cohort in enumerate(({"phantoms": 1}, {"phantoms": 2})):
        write_run(tmp_path, f"jsw-compact-control-100-{seed}", widths(0.1, seed=seed))
        path = tmp_path / f"jsw-compact-control-100-{seed}" / METRICS
        path.write_text(path.read_text().replace('{"phantoms": 1}', json.dumps(cohort)))
    with pytest.raises(InputError, match="its runs are of several cohorts"):
        gather_downstream(tmp_path)


def test_tables_hold_every_setting(results):
    text = scores_table(results)
    assert "compact, control" in text and "ICC(2,1)" in text and "one-vs-rest" in text and "sigma' mm" in text
    assert len(arms_table(results["contrasts"]).splitlines()) == 2 + len(results["contrasts"])
    assert "above 100 %" in worth_table([{**results["worth"][0], "high": None}]) and worth_table([]) == ""
    assert score_cell({"mean": 0.5, "sd": None}, "{:.2f}") == "0.50"
    assert score_cell({"mean": -0.5, "sd": 0.1}, "{:+.2f}") == "-0.50 ± 0.10"


def test_table_4_puts_the_paper_first(results):
    paper = {task: {arm: {} for arm in ("control", "pretrained")} for task in ("jsn", "jsw", "svdh")}
    paper["jsw"]["control"]["mae_px"] = 1.81
    text = table_4(paper, {"phantoms": results}, network="compact")
    line = next(line for line in text.splitlines() if line.startswith("jsw: MAE px"))
    ours = chosen(results["settings"], task="jsw", arm="control", share=1.0)[0]["scores"]["mae_px"]["mean"]
    assert line.split()[3] == "1.81" and f"{ours:.2f} ±" in line


def test_figures_show_what_they_are_given(results):
    figure = annotation_curves({"phantoms": results}, "jsw", "mae_mm", y_label="error")
    axis = figure.axes[0]
    drawn = [line.get_xdata().tolist() for line in axis.lines if len(line.get_xdata()) == 3]
    assert drawn == [[10, 20, 100], [10, 20, 100]]
    assert len(arms_figure({"phantoms": results["contrasts"]}, x_label="x").axes[0].get_yticks()) == 1
    assert len(confusion_figure({"a": [[1, 0], [0, 3]]}).axes[0].texts) == 4
    panels = differences([1.0, 2.0, 1.5], {"a": [1.1, 2.1, 1.4], "b": [1.0, 2.0, 1.5]}).axes
    assert len(panels) == 2 and len(panels[0].lines) == 3
    one = {"edges": [0, 1, 2], "train": [0.5, 0.5], "test": [0.2, 0.8], "synthetic": [0.5, 0.5], "overlap": 0.7}
    assert "0.70" in coverage_figure({"phantoms": one}).axes[0].get_title()
