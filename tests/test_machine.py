"""The machine's answer: every joint tested once by what never saw it; AUC and p against independent judges."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from test_two_sample import sample, visits

from lsn_core import two_sample
from lsn_core.machine import answer, area_under_roc, exchanged, folds, report, resampled, with_null

pytestmark = pytest.mark.slow


@pytest.fixture(name="quick")
def _quick(monkeypatch):
    """A short training."""
    monkeypatch.setattr(two_sample, "STEPS", 10)
    monkeypatch.setattr(two_sample, "BATCH", 8)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_each_joint_is_tested_once_and_never_learnt_from(count):
    a, b = sample(0, visits("x", 12) + visits("y", 5)), sample(1, visits("x", 12) + visits("z", 7))
    tested: list[list[str]] = [[], []]
    for parts in folds(a, b, count, seed=0):
        here = {joint for one, part in zip((a, b), parts, strict=True) for joint in one.joints[part.test]}
        for one, part, seen in zip((a, b), parts, tested, strict=True):
            assert not set(one.joints[part.train]) & here
            assert len(part.train) + 2 * len(part.test) == len(one.joints)
            seen += one.joints[part.test].tolist()
    assert sorted(tested[0]) == sorted(set(a.joints)) and sorted(tested[1]) == sorted(set(b.joints))


def test_auc_is_scikit_learns():
    random = np.random.default_rng(0)
    for _ in range(5):
        ranks, positive = random.integers(0, 9, 40).astype(float), random.random(40) < 0.4
        assert area_under_roc(ranks, positive) == pytest.approx(roc_auc_score(positive, ranks))


def test_p_is_mann_whitneys():
    random = np.random.default_rng(2)
    for shift in (0.0, 0.5):
        positive = np.arange(60) < 30
        ranks = random.normal(size=60) + shift * positive
        judge = stats.mannwhitneyu(ranks[positive], ranks[~positive], alternative="greater").pvalue
        assert exchanged(ranks, positive, seed=0) == pytest.approx(judge, abs=0.03)


def test_the_interval_is_wider_where_joints_bring_several_radiographs():
    random = np.random.default_rng(3)
    base, positive = random.normal(size=40), np.arange(40) < 20
    ranks = np.repeat(base + 0.4 * positive, 2) + 0.01 * random.normal(size=80)
    twice = np.repeat(positive, 2)
    alone = resampled(ranks, twice, np.arange(80), seed=0)
    together = resampled(ranks, twice, np.repeat(np.arange(40), 2), seed=0)
    assert together[1] - together[0] > 1.2 * (alone[1] - alone[0])


def test_what_differs_is_found_and_what_does_not_is_not(quick):
    real = sample(1, visits("r", 30), frames=True)
    told = with_null(sample(0, visits("s", 30), texture=2.0, frames=True), real, turns=2, seed=0)
    found, null = told["synthetic against real"]["statistics"], told["real against real"]["statistics"]
    assert found["auc"] > 0.85 and found["p"] < 0.01 and found["low"] > 0.7 and found["n"] == 60 == found["joints"]
    assert next(iter(found["weights"])) == "bone_texture" and found["weights"]["bone_texture"] > 0
    assert null["low"] < 0.5 < null["high"] and null["p"] > 0.02
    assert told["synthetic against real"]["heat"].shape == (256, 256)
    assert "bone_texture +" in report(told)


def test_brightness_is_seen_in_frames(monkeypatch):
    monkeypatch.setattr(two_sample, "STEPS", 40)
    monkeypatch.setattr(two_sample, "BATCH", 8)
    a, b = sample(0, visits("s", 16, 1), brightness=2.0, frames=True), sample(1, visits("r", 16, 1), frames=True)
    told = answer(a, b, turns=2, seed=0)
    found = told["frames"]
    assert found["auc"] > 0.9 and sum(one["share"] for one in found["saliency"].values()) == pytest.approx(1, abs=1e-3)
    assert torch.isfinite(told["heat"]).all()
