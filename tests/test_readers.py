"""One reader: each statistic worked by hand, and against scipy, statsmodels and scikit-learn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve
from statsmodels.stats.proportion import proportion_confint

from lsn_core.readers import (
    area_under_roc,
    d_prime_and_criterion,
    equivalence,
    guessing_p,
    logit_interval,
    power,
    proportion,
    reader_scores,
    readings_needed,
    readings_needed_normal,
    roc_points,
    verdict,
    wilson,
)

counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_by_hand():
    """8 of 10, z² = 3.8415: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half 0.31362 / 1.38415 = 0.22658."""
    assert wilson(8, 10) == pytest.approx((0.71674 - 0.22658, 0.71674 + 0.22658), abs=2e-5)
    assert proportion(0, 0) == {"mean": None, "low": None, "high": None, "successes": 0, "n": 0}


@given(counts, st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_as_statsmodels_has_it(count, level):
    assert wilson(*count, level=level) == pytest.approx(proportion_confint(*count, 1 - level, "wilson"), abs=1e-12)


def test_p_by_hand():
    """9 or 1 of 10, or further out: 2 (10 + 1) / 1024."""
    assert guessing_p(9, 10) == pytest.approx(22 / 1024) and guessing_p(5, 10) == 1.0


def test_d_prime_by_hand():
    """8 hits of 9 and 2 false alarms of 9: rates 8.5 / 10 and 2.5 / 10, z = 1.03643 and -0.67449."""
    found = d_prime_and_criterion(8, 9, 2, 9)
    assert found == pytest.approx((1.03643 + 0.67449, -(1.03643 - 0.67449) / 2), abs=1e-5)
    assert d_prime_and_criterion(42, 50, 8, 50, added=0.0) == pytest.approx((2 * stats.norm.ppf(0.84), 0.0))


def test_d_prime_stays_finite_and_leans_as_told():
    assert math.isfinite(sum(d_prime_and_criterion(50, 50, 0, 50)))
    assert d_prime_and_criterion(0, 50, 0, 50)[1] > 2  # says "real" to everything
    assert d_prime_and_criterion(50, 50, 50, 50) == pytest.approx((0.0, -d_prime_and_criterion(0, 50, 0, 50)[1]))


def test_area_by_hand():
    """Of 3 x 2 pairs 4 are in order and 1 tied: 4.5 / 6. Placements (1, 0.75, 0.5) and (0.5, 1) vary by 1/16 and 1/8.

    DeLong's variance: 1/48 + 1/16 = 1/12. On the logit log 3 ± 1.96 sqrt(1/12) / 0.1875 = 1.0986 ± 3.0176.
    """
    ratings, synthetic = np.array([10.0, 6, 5, 6, 3]), np.array([True, True, True, False, False])
    found = area_under_roc(ratings, synthetic)
    assert found["mean"] == 0.75
    ends = (1 / (1 + math.exp(3.0176 - 1.0986)), 1 / (1 + math.exp(-3.0176 - 1.0986)))
    assert (found["low"], found["high"]) == pytest.approx(ends, abs=1e-4)
    alarms, hits = roc_points(ratings, synthetic)  # thresholds above all, 10, 6, 5, 3
    assert alarms == [0, 0, 0.5, 0.5, 1] and hits == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 40))
def test_roc_as_scikit_learn_has_it(seed, real, made):
    dice = np.random.default_rng(seed)
    ratings = dice.integers(1, 11, real + made).astype(float)
    synthetic = np.arange(real + made) < made
    found = area_under_roc(ratings, synthetic)
    assert found["mean"] == pytest.approx(roc_auc_score(synthetic, ratings))
    alarms, hits, _ = roc_curve(synthetic, ratings, drop_intermediate=False)
    np.testing.assert_allclose(roc_points(ratings, synthetic), (alarms, hits))
    if found["low"] is not None:
        assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1


def test_the_interval_of_the_area_covers():
    """300 studies of 50 + 50 ratings in ten steps at d' = 1: about 95 % hold the area that all of them have."""
    dice, synthetic = np.random.default_rng(0), np.arange(100) < 50
    held, means, found = 0, [], []
    for _ in range(300):
        evidence = dice.normal(np.where(synthetic, 0.5, -0.5))
        found.append(area_under_roc(np.clip(np.floor(evidence / 0.4), -5, 4) + 6, synthetic))
        means.append(found[-1]["mean"])
    held = sum(one["low"] <= np.mean(means) <= one["high"] for one in found)
    assert 0.92 <= held / 300 <= 0.98


def test_areas_without_an_interval():
    ratings, synthetic = np.array([10.0, 9, 2, 1]), np.array([True, True, False, False])
    assert area_under_roc(ratings, synthetic) == {"mean": 1.0, "low": None, "high": None}
    assert area_under_roc(ratings[1:], synthetic[1:])["low"] is None
    assert area_under_roc(ratings[:2], synthetic[:2])["mean"] is None


def test_logit_intervals_stay_inside():
    assert logit_interval(0.5, 1e6, 2.0) == pytest.approx((0, 1)) and logit_interval(1.0, 0.1, 2.0) == (1.0, 1.0)
    low, high = logit_interval(0.8, 0.05, 2.0)  # log 4 ± 0.1 / 0.16
    assert math.log(low / (1 - low)) == pytest.approx(math.log(4) - 0.625)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(4) + 0.625)


def test_equivalence_by_hand():
    """2 of 4 within 0.5 ± 0.25: P(X >= 2 | 1/4) = 1 - 81/256 - 108/256 = 67/256, and as much on the other side."""
    assert equivalence(2, 4, margin=0.25)["p"] == pytest.approx(67 / 256)


@given(counts)
def test_equivalence_is_two_binomial_tests(count):
    sides = [stats.binomtest(*count, 0.4, "greater").pvalue, stats.binomtest(*count, 0.6, "less").pvalue]
    found = equivalence(*count)
    assert found["p"] == pytest.approx(max(sides)) and found["equivalent"] == (max(sides) <= 0.05)


def test_equivalence_and_its_power_are_exact():
    """Summed over all outcomes by hand; under a bound, the test errs in at most 5 %."""
    passes = [k for k in range(121) if equivalence(k, 120)["equivalent"]]
    assert power(120) == pytest.approx(sum(math.comb(120, k) for k in passes) / 2**120)
    assert power(20) == 0.0
    for n in (50, 100, 215, 500, 2000):
        assert power(n, accuracy=0.6) <= 0.05 and power(n, accuracy=0.4) <= 0.05


def test_how_many_readings_are_needed():
    """About 215 for ± 0.10, by (1.6449 + 1.2816)² / (4 x 0.01) = 214.1; exactly, 227 and every number above."""
    assert readings_needed_normal() == 215
    assert readings_needed() == 227 and power(226) < 0.8 <= min(power(n) for n in range(227, 330))
    assert readings_needed(margin=0.2, wanted=0.9) < readings_needed(margin=0.1, wanted=0.9)


def test_verdicts():
    assert verdict(0.51, 0.7, equivalent=False) == verdict(0.501, 0.55, equivalent=True) == "detected"
    assert verdict(0.3, 0.49, equivalent=False) == "reversed"
    assert verdict(0.45, 0.55, equivalent=True) == "equivalent to guessing"
    assert verdict(0.4, 0.6, equivalent=False) == "undecided"


def test_scores_of_a_reader_by_hand():
    """Synthetic rated 9, 7, 2 and not read; real rated 1, 6: 2 hits of 3, 1 correct rejection of 2."""
    ratings = np.array([9, 7, 2, np.nan, 1, 6])
    found = reader_scores(ratings, np.array([True] * 4 + [False] * 2))
    assert (found["n"], found["of"], found["accuracy"]["successes"]) == (5, 6, 3)
    assert (found["sensitivity"]["mean"], found["specificity"]["mean"]) == pytest.approx((2 / 3, 1 / 2))
    assert (found["d_prime"], found["criterion"]) == d_prime_and_criterion(2, 3, 1, 2)
    assert found["auc"]["mean"] == pytest.approx(5 / 6) and found["p"] == 1.0 and found["verdict"] == "undecided"
    json.dumps(found, allow_nan=False)


def test_a_reader_of_one_kind_has_no_d_prime():
    found = reader_scores(np.array([9.0, 7, np.nan]), np.array([True, True, False]))
    assert found["specificity"]["mean"] is found["d_prime"] is found["auc"]["mean"] is None
    assert found["roc"] == {"false_alarms": [], "hits": []}
    json.dumps(found, allow_nan=False)
