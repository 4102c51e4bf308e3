"""Simulated readers: they see as well as they are told to, fool nobody about what they are, and repeat themselves."""

import math
from datetime import datetime

import numpy as np
import pytest
from scipy import stats

from lsn_core.reader_study import fleiss_kappa, study_scores
from lsn_core.readings import Key, as_study, csv_text, is_simulated, read_readings
from lsn_core.simulated_readers import PANEL, Observer, answer_to, simulated_readings


def key(images: int) -> Key:
    """A set, half of it synthetic."""
    return Key("ab" * 32, {f"{k:05d}": ("real", "synthetic")[k % 2] for k in range(images)})


def test_answers_by_hand():
    """0.4 SD a step: 0.3 above is unsure, 0.5 below one surer, 9 away as sure as can be."""
    assert answer_to(0.5, 0.2) == ("synthetic", 1) and answer_to(-0.3, 0.2) == ("real", 2)
    assert answer_to(9.0, 0.2) == ("synthetic", 5) and answer_to(-9.0, 0.2) == ("real", 5)


@pytest.mark.parametrize(("d_prime", "criterion"), [(0.0, 0.0), (1.2, 0.3), (2.0, -0.5)])
def test_readers_see_as_well_as_they_are_told_to(d_prime, criterion):
    """6,000 images: d' and criterion within 0.1; the area is Φ(d' / √2), less a little for its ten steps."""
    some = key(6000)
    readings = simulated_readings(some, [Observer(d_prime, criterion)], seed=0)
    found = study_scores(as_study(some, readings))["readers"]["simulated 1"]
    assert (found["d_prime"], found["criterion"]) == pytest.approx((d_prime, criterion), abs=0.1)
    assert found["auc"]["mean"] == pytest.approx(stats.norm.cdf(d_prime / math.sqrt(2)), abs=0.025)


def test_images_fool_all_readers_alike_where_they_share_evidence():
    """Without d' and sharing nothing, kappa is 0; two who share 0.8 of the variance agree by 2 asin(0.8) / π."""
    some, observers = key(4000), [Observer(0.0), Observer(0.0)]

    def kappa(shared: float) -> float:
        study = as_study(some, simulated_readings(some, observers, seed=0, shared=shared))
        return fleiss_kappa(study.says_synthetic, study.synthetic)["mean"]

    assert kappa(0.0) == pytest.approx(0.0, abs=0.05) and kappa(1.0) == pytest.approx(1.0)
    assert kappa(0.8) == pytest.approx(2 * math.asin(0.8) / math.pi, abs=0.05)


def test_rows_are_those_of_a_rater_and_say_what_they_are(tmp_path):
    readings = simulated_readings(key(40), PANEL, seed=1)
    path = tmp_path / "simulated.csv"
    path.write_text(csv_text(readings))
    assert read_readings(path) == readings and len(readings) == 40 * len(PANEL)
    assert all(is_simulated(one.reader) and datetime.fromisoformat(one.when).year == 2000 for one in readings)
    first = [one for one in readings if one.reader == "simulated 1"]
    assert [one.position for one in first] == list(range(40)) and len({one.image for one in first}) == 40
    assert [one.image for one in first] != sorted(one.image for one in first)
    assert 5 < np.median([one.seconds for one in readings]) < 12


def test_the_seed_decides():
    assert simulated_readings(key(20), PANEL, seed=1) == simulated_readings(key(20), PANEL, seed=1)
    assert simulated_readings(key(20), PANEL, seed=1) != simulated_readings(key(20), PANEL, seed=2)
