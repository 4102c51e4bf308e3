"""Ordinal grades: by hand, against scikit-learn, and Holm's correction against statsmodels."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    mean_absolute_error,
    precision_recall_fscore_support,
    recall_score,
)
from statsmodels.stats.multitest import multipletests

from lsn_core.grading import confusion, holm, ordinal_scores, paper_scores

GRADED, TRUTH = np.array([0, 1, 1, 0, 4]), np.array([0, 0, 1, 1, 2])
grades = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60).map(
    lambda pairs: tuple(np.array(pairs).T)
)


def test_confusion_by_hand():
    table = confusion(GRADED, TRUTH)
    assert table.tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5, [0] * 5]
    assert confusion(np.array([1]), np.array([0]), classes=2).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_class_that_is_none_is_refused(wrong):
    for graded, truth in (([wrong], [0]), ([0], [wrong])):
        with pytest.raises(ValueError, match="from 0 to 4"):
            confusion(np.array(graded), np.array(truth))


def test_paper_scores_by_hand():
    """Right for class 0 are 3 of 5 (one hit, two others so called), class 1 as well, 2 and 4 four, 3 all five."""
    found = paper_scores(GRADED, TRUTH)
    assert found["accuracy"] == pytest.approx((3 + 3 + 4 + 5 + 4) / 25)
    assert found["precision"] == found["sensitivity"] == found["f1"] == pytest.approx((0.5 + 0.5) / 5)
    assert found["specificity"] == pytest.approx((2 / 3 + 2 / 3 + 1 + 1 + 4 / 5) / 5)


@given(grades)
def test_paper_scores_as_scikit_learn_has_them(pair):
    graded, truth = pair
    found = paper_scores(graded, truth)
    judge = precision_recall_fscore_support(truth, graded, labels=range(5), average="macro", zero_division=0)
    assert (found["precision"], found["sensitivity"], found["f1"]) == pytest.approx(judge[:3])
    of_the_rest = [recall_score(truth != k, graded != k, zero_division=0) for k in range(5)]
    assert found["specificity"] == pytest.approx(np.mean(of_the_rest))
    each = [accuracy_score(truth == k, graded == k) for k in range(5)]
    assert found["accuracy"] == pytest.approx(np.mean(each))


@given(grades)
def test_accuracy_of_one_against_the_rest_is_top1_in_disguise(pair):
    top1 = ordinal_scores(*pair)["top1"]
    assert paper_scores(*pair)["accuracy"] == pytest.approx(1 - 2 * (1 - top1) / 5)


def test_the_papers_numbers_in_plain_words():
    """0.8628 of its table is a top-1 accuracy of 0.657, 0.8954 one of 0.7385; always wrong is 0.6."""
    for flattering, top1 in ((0.8628, 0.657), (0.8954, 0.7385)):
        truth = np.arange(10000) % 5
        graded = np.where(np.arange(10000) < 10000 * top1, truth, (truth + 1) % 5)
        assert paper_scores(graded, truth)["accuracy"] == pytest.approx(flattering, abs=1e-4)
    assert paper_scores((TRUTH + 1) % 5, TRUTH)["accuracy"] == pytest.approx(0.6)


def test_ordinal_scores_by_hand():
    """Two of five right; sensitivity 1/2, 1/2 and 0; off by 1, 1 and 2.

    Weighted disagreement 1 + 1 + 4 = 6; by chance, rows 2 2 1 and columns 2 2 0 0 1 (of class 4):
    (2 (2 x 1 + 16) + 2 (2 x 1 + 9) + (2 x 4 + 2 x 1 + 4)) / 5 = (36 + 22 + 14) / 5; kappa = 1 - 30 / 72.
    """
    expected = {"top1": 0.4, "balanced_accuracy": 1 / 3, "quadratic_kappa": 1 - 30 / 72, "ordinal_mae": 0.8}
    assert ordinal_scores(GRADED, TRUTH) == pytest.approx(expected)


@given(grades)
def test_ordinal_scores_as_scikit_learn_has_them(pair):
    graded, truth = pair
    np.testing.assert_array_equal(confusion(graded, truth), confusion_matrix(truth, graded, labels=range(5)))
    found = ordinal_scores(graded, truth)
    assert found["top1"] == pytest.approx(accuracy_score(truth, graded))
    assert found["ordinal_mae"] == pytest.approx(mean_absolute_error(truth, graded))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of classes that do not occur
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, graded))
    if len(np.unique(pair)) > 1:
        judge = cohen_kappa_score(truth, graded, labels=range(5), weights="quadratic")
        assert found["quadratic_kappa"] == pytest.approx(judge)


def test_kappa_is_one_nothing_or_undefined():
    truth = np.arange(25) // 5
    assert ordinal_scores(truth, truth)["quadratic_kappa"] == 1
    assert ordinal_scores(np.arange(25) % 5, truth)["quadratic_kappa"] == pytest.approx(0)
    assert ordinal_scores(4 - truth, truth)["quadratic_kappa"] == pytest.approx(-1)
    same = ordinal_scores(np.full(3, 2), np.full(3, 2))
    assert math.isnan(same["quadratic_kappa"]) and same["top1"] == same["balanced_accuracy"] == 1


def test_holm_by_hand():
    """0.01 x 3, 0.02 x 2, and 0.03 x 1, which may not be below the one before."""
    found = holm({"c": 0.03, "a": 0.01, "b": 0.02})
    assert found == pytest.approx({"c": 0.04, "a": 0.03, "b": 0.04}) and list(found) == ["c", "a", "b"]
    assert holm({}) == {} and holm({"one": 0.2}) == {"one": 0.2} and holm({"a": 0.9, "b": 0.8}) == {"a": 1, "b": 1}


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_holm_as_statsmodels_has_it(count):
    """Rounded, so that some are equal; few cases, since each call of the judge collects garbage."""
    p_values = np.random.default_rng(count).beta(0.3, 2, count).round(2)
    found = holm({str(k): float(p) for k, p in enumerate(p_values)})
    assert list(found.values()) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())
