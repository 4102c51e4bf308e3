"""Agreement of two measurements: published tables, by hand, scikit-learn, scipy, statsmodels, and simulated studies."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress
from sklearn.metrics import explained_variance_score, mean_absolute_error, mean_squared_error, r2_score
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from lsn_core.agreement import (
    bland_altman,
    icc_2_1,
    regression_scores,
    smallest_detectable_change,
    summary,
    two_way_mean_squares,
)

# Cardiac output of twelve subjects by ventriculography and by impedance: Bland and Altman (1999), table 4.
VISITS = (5, 4, 6, 5, 6, 4, 4, 6, 3, 5, 6, 6)
VENTRICULOGRAPHY = """7.83 7.42 7.89 7.12 7.88 6.16 7.26 6.71 6.54 4.75 5.24 4.86 4.78 6.05 5.42 4.21 3.61 3.72 3.87
    3.92 3.13 2.98 2.85 3.17 3.09 3.12 5.92 6.42 5.92 6.27 7.13 6.62 6.58 6.93 4.54 4.81 5.11 5.29 5.39 5.57 4.48 4.92
    3.97 4.22 4.65 4.74 4.44 4.50 6.78 6.07 6.52 6.42 6.41 5.76 5.06 4.72 4.90 4.80 4.90 5.10"""
IMPEDANCE = """6.57 5.62 6.90 6.57 6.35 4.06 4.29 4.26 4.09 4.71 5.50 5.08 5.02 6.01 5.67 4.14 4.20 4.61 4.68 5.04 3.03
    2.86 2.77 2.46 2.32 2.43 5.90 5.81 5.70 5.76 5.09 4.63 4.61 5.09 4.72 4.61 4.36 4.20 4.36 4.20 3.17 3.12 2.96 4.35
    4.62 3.16 3.53 3.53 7.20 6.09 7.00 7.10 7.40 6.80 4.50 4.20 3.80 3.80 4.20 4.50"""
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7.0]])
seeds = st.integers(0, 2**32 - 1)


def study(dice: np.random.Generator, visits: np.ndarray, *, bias: float, between: float, within: float):
    """Measured, truth and joints, whose differences have these SDs between and within joints."""
    joints = np.repeat(np.arange(len(visits)), visits)
    truth = dice.normal(1.6, 0.4, len(joints))
    of_joints = between * dice.standard_normal(len(visits))
    return truth + bias + of_joints[joints] + within * dice.standard_normal(len(joints)), truth, joints.astype(str)


def test_regression_by_hand():
    """Truth 1 2 3, variance 2/3; differences 1 0 2: mean 1, squares 5/3, variance 2/3."""
    found = regression_scores(np.array([2.0, 2, 5]), np.array([1.0, 2, 3]))
    assert found == pytest.approx({"mse": 5 / 3, "mae": 1, "rmse": math.sqrt(5 / 3), "evs": 0, "r2": 1 - 2.5})


@given(seeds, st.integers(2, 50))
def test_regression_as_scikit_learn_has_it(seed, n):
    truth, measured = np.random.default_rng(seed).normal(size=(2, n))
    judges = {"mse": mean_squared_error, "mae": mean_absolute_error, "evs": explained_variance_score, "r2": r2_score}
    found = regression_scores(measured, truth)
    assert found.pop("rmse") == pytest.approx(math.sqrt(found["mse"]))
    assert found == pytest.approx({name: judge(truth, measured) for name, judge in judges.items()})


def test_a_truth_that_does_not_vary_has_no_r2():
    found = regression_scores(np.array([0.1, 0.2, 0.4]), np.full(3, 0.1))
    assert math.isnan(found["r2"]) and math.isnan(found["evs"]) and found["mae"] == pytest.approx(0.4 / 3)


def test_limits_as_bland_and_altman_published_them():
    """Section 3 of 2007 on these data: bias 0.602, variances 0.171 and 0.811, SD 0.991, limits -1.339 to 2.544."""
    first, second = (np.array(text.split(), dtype=float) for text in (VENTRICULOGRAPHY, IMPEDANCE))
    found = bland_altman(first, second, np.repeat(np.arange(12), VISITS).astype(str))
    published = {"bias": 0.6021667, "sd": 0.99062408, "lower_limit": -1.3394565, "upper_limit": 2.5437899}
    assert {name: found[name]["value"] for name in published} == pytest.approx(published, abs=1e-7)
    assert found["within_sd"]["value"] ** 2 == pytest.approx(0.1707, abs=5e-5)
    assert found["between_sd"]["value"] ** 2 == pytest.approx(0.8106, abs=5e-5)
    assert (found["n"], found["joints"]) == (60, 12)


@given(seeds)
def test_components_as_statsmodels_has_their_mean_squares(seed):
    dice = np.random.default_rng(seed)
    visits = np.array([2, *dice.integers(1, 6, dice.integers(3, 20))])
    measured, truth, joints = study(dice, visits, bias=5.0, between=0.3, within=0.2)
    frame = pd.DataFrame({"d": measured - truth, "joint": joints})
    outside, inside = anova_lm(ols("d ~ C(joint)", frame).fit())["mean_sq"]
    usual = (visits.sum() - (visits**2).sum() / visits.sum()) / (len(visits) - 1)
    found, between = bland_altman(measured, truth, joints), max((outside - inside) / usual, 0)
    assert found["within_sd"]["value"] ** 2 == pytest.approx(inside)
    assert found["between_sd"]["value"] ** 2 == pytest.approx(between, abs=1e-9)
    assert found["sd"]["value"] ** 2 == pytest.approx(inside + between)


def test_components_are_recovered():
    """4000 joints of one to five visits; the plain SD of all differences is theirs only on average."""
    dice = np.random.default_rng(0)
    visits = dice.integers(1, 6, 4000)
    found = bland_altman(*study(dice, visits, bias=0.05, between=0.2, within=0.1))
    expected = {"bias": 0.05, "between_sd": 0.2, "within_sd": 0.1, "sd": math.hypot(0.2, 0.1)}
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=0.01)
        assert found[name]["low"] < value < found[name]["high"] < found[name]["low"] + 0.03


def test_few_joints_with_many_visits_do_not_pass_for_many():
    """One joint of 60 visits among 30 of one: each joint's own bias has SD 0.2, which pooling would underrate."""
    dice, visits, pooled, found = np.random.default_rng(0), np.array([60] + [1] * 30), [], []
    for _ in range(100):
        measured, truth, joints = study(dice, visits, bias=0.0, between=0.2, within=0.05)
        pooled.append((measured - truth).var(ddof=1))
        found.append(bland_altman(measured, truth, joints)["sd"]["value"] ** 2)
    assert np.mean(found) == pytest.approx(0.2**2 + 0.05**2, rel=0.1) and np.mean(pooled) < 0.8 * np.mean(found)


def test_one_visit_a_joint_is_the_textbook():
    measured, truth = np.random.default_rng(0).normal(size=(2, 40))
    found = bland_altman(measured, truth, [str(k) for k in range(40)])
    d = measured - truth
    assert found["sd"]["value"] == pytest.approx(d.std(ddof=1)) and found["within_sd"]["value"] == 0
    assert found["upper_limit"]["value"] == pytest.approx(d.mean() + 1.96 * d.std(ddof=1))


@given(seeds)
def test_slope_as_scipy_has_it(seed):
    dice = np.random.default_rng(seed)
    measured, truth, joints = study(dice, np.array([1, 2, 3, 4, 5, 6]), bias=0.1, between=0.1, within=0.1)
    judge = linregress((measured + truth) / 2, measured - truth).slope
    assert bland_altman(measured, truth, joints)["slope"]["value"] == pytest.approx(judge)


def test_slope_tells_a_proportional_bias():
    """A scale of 0.9 has the slope -0.1 / 0.95; random error of the measurement alone raises the slope, as is told."""
    dice = np.random.default_rng(0)
    truth = dice.normal(1.6, 0.4, 400)
    joints = np.repeat(np.arange(100), 4).astype(str)
    scaled = bland_altman(0.9 * truth, truth, joints)["slope"]
    assert list(scaled.values()) == pytest.approx([-0.1 / 0.95] * 3)
    noisy = bland_altman(truth + dice.normal(0, 0.2, 400), truth, joints)["slope"]
    assert 0 < noisy["low"] < (0.04 / 2) / (0.16 + 0.04 / 4) < noisy["high"]


def test_intervals_draw_joints_and_not_visits():
    """The same visits four times over say nothing new, so the interval of the bias stays."""
    measured, truth, joints = study(np.random.default_rng(0), np.array([1, 2, 3] * 5), bias=0, between=0.2, within=0.1)
    once, often = (bland_altman(*(np.tile(x, k) for x in (measured, truth, joints))) for k in (1, 4))
    assert often["bias"] == pytest.approx(once["bias"]) and often["slope"] == pytest.approx(once["slope"])


def test_the_interval_of_the_bias_covers():
    """400 studies of 40 joints, whose own biases vary more than their visits; one that draws visits would hold 75 %."""
    dice, visits = np.random.default_rng(0), np.array([1, 2, 3, 6] * 10)
    studies = [study(dice, visits, bias=0.3, between=0.2, within=0.1) for _ in range(400)]
    found = [bland_altman(*one)["bias"] for one in studies]
    assert 0.91 <= np.mean([one["low"] <= 0.3 <= one["high"] for one in found]) <= 0.98


def test_limits_move_and_scale_with_the_differences():
    measured, truth, joints = study(np.random.default_rng(1), np.array([2] * 10), bias=0, between=0.2, within=0.1)
    found, moved = bland_altman(measured, truth, joints), bland_altman(measured + 1000, truth, joints)
    scaled, again = bland_altman(3 * measured, 3 * truth, joints), bland_altman(measured, truth, joints, seed=1)
    for name in ("bias", "lower_limit", "upper_limit"):
        assert list(moved[name].values()) == pytest.approx([1000 + x for x in found[name].values()])
        assert list(scaled[name].values()) == pytest.approx([3 * x for x in found[name].values()])
        assert again[name]["value"] == found[name]["value"] and again[name]["low"] != found[name]["low"]
    assert scaled["slope"] == pytest.approx(found["slope"]) and moved["sd"] == pytest.approx(found["sd"])


def test_no_limits_of_one_joint_and_no_slope_of_one_mean():
    with pytest.raises(ValueError, match="at least two joints"):
        bland_altman(np.array([1.0, 2]), np.array([1.0, 1]), ["a", "a"])
    found = bland_altman(np.full(4, 0.1), np.full(4, 0.1), ["a", "a", "b", "c"])
    assert math.isnan(found["slope"]["value"]) and math.isnan(found["slope"]["low"]) and found["sd"]["value"] == 0
    two = bland_altman(np.array([1.0, 2]), np.array([1.5, 1.7]), ["a", "b"])  # half of the samples have one mean
    assert math.isfinite(two["slope"]["low"])


def test_icc_as_shrout_and_fleiss_published_it():
    """Their tables 2 and 3: mean squares 11.24, 32.49 and 1.02, ICC(2,1) = .29; R's psych has 0.019 to 0.761."""
    assert two_way_mean_squares(SHROUT_FLEISS) == pytest.approx((11.24, 32.49, 1.02), abs=0.005)
    found = icc_2_1(SHROUT_FLEISS)
    assert list(found.values()) == pytest.approx([0.290, 0.019, 0.761], abs=5e-4)


def test_icc_by_hand():
    """1 2 3 and 2 3 4: rows 2, columns 1.5, rest 0; 2 / (2 + 2 x 1.5 / 3) = 2/3, and 1 without the shift."""
    assert icc_2_1(np.array([[1.0, 2], [2, 3], [3, 4]]))["value"] == pytest.approx(2 / 3)
    assert icc_2_1(np.array([[1.0, 1], [2, 2], [3, 3]])) == {"value": 1, "low": 1, "high": 1}
    assert all(map(math.isnan, icc_2_1(np.full((3, 2), 0.1)).values()))


@given(seeds, st.integers(2, 20), st.integers(2, 5))
def test_mean_squares_as_statsmodels_has_them(seed, n, k):
    ratings = np.random.default_rng(seed).normal(size=(n, k)) + np.arange(n)[:, None]
    row, column = np.indices((n, k))
    frame = pd.DataFrame({"y": ratings.ravel(), "row": row.ravel(), "column": column.ravel()})
    judge = anova_lm(ols("y ~ C(row) + C(column)", frame).fit())["mean_sq"]
    assert two_way_mean_squares(ratings) == pytest.approx(tuple(judge))
    found = icc_2_1(ratings)
    assert found["low"] <= found["value"] <= found["high"] <= 1


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_the_interval_of_the_icc_covers(share):
    """600 studies of 30 targets and 4 raters, all drawn: targets this share of the variance, raters a tenth."""
    dice, rest = np.random.default_rng(0), 0.9 - share
    parts = [(share, (30, 1)), (0.1, (1, 4)), (rest, (30, 4))]
    found = [icc_2_1(sum(math.sqrt(v) * dice.standard_normal(shape) for v, shape in parts)) for _ in range(600)]
    assert 0.92 <= np.mean([one["low"] <= share <= one["high"] for one in found]) <= 0.98


def test_change_by_hand():
    """Differences 1 -1 1 -1: SD sqrt(4/3); SEM sqrt(2/3)."""
    found = smallest_detectable_change(np.array([2.0, 1, 4, 3]), np.array([1.0, 2, 3, 4]))
    assert found == pytest.approx({"sem": math.sqrt(2 / 3), "sdc": 1.96 * math.sqrt(4 / 3)})


def test_change_is_exceeded_by_one_in_twenty():
    """Two measurements, each of error SD 0.1; and √2 SDC where the truth is exact, as the docstring has it."""
    truth = np.random.default_rng(0).normal(1.6, 0.4, 20000)
    first, second = truth + np.random.default_rng(1).normal(0, 0.1, (2, 20000))
    found = smallest_detectable_change(first, second)
    assert found["sem"] == pytest.approx(0.1, rel=0.02)
    assert np.mean(np.abs(first - second) > found["sdc"]) == pytest.approx(0.05, abs=0.005)
    exact = math.sqrt(2) * smallest_detectable_change(first, truth)["sdc"]
    assert np.mean(np.abs(first - second) > exact) == pytest.approx(0.05, abs=0.005)


def test_summary_has_all_of_it_in_mm_and_px():
    measured, truth, joints = study(np.random.default_rng(0), np.array([3] * 8), bias=0.1, between=0.1, within=0.1)
    found = summary(measured, truth, joints, spacing_mm=0.082, seed=3)
    pixels = regression_scores(measured / 0.082, truth / 0.082)
    assert (found["mae_px"], found["mse_px"]) == pytest.approx((pixels["mae"], pixels["mse"]))
    assert found["bland_altman"] == bland_altman(measured, truth, joints, seed=3)
    assert found["icc_2_1"] == icc_2_1(np.stack((measured, truth), axis=1))
    assert found.items() >= regression_scores(measured, truth).items()
    json.dumps(found, allow_nan=False)
