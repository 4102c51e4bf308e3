"""A panel: kappa and the crossed accuracy by hand and against statsmodels, its coverage, and the paper's readers."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.inter_rater import fleiss_kappa as judge_kappa

from lsn_core.reader_study import (
    WARNING,
    crossed_accuracy,
    fleiss_kappa,
    mean_squares,
    panel_equivalence,
    panel_power,
    report,
    study_scores,
    table_scores,
)
from lsn_core.readers import d_prime_and_criterion, guessing_p, power, wilson
from lsn_core.readings import Study
from lsn_core.results import recorded, write_metrics

HALF = np.arange(100) % 2 == 0
PAPER = recorded("paper")["metrics"]["table_3"]
NOTED = {  # of the paper's readers, in method.md: Wilson's interval, exact p, d'
    "R1": (0.62, 0.79, 1.17),
    "R2": (0.70, 0.86, 1.66),
    "R3": (0.69, 0.85, 1.54),
    "R4": (0.60, 0.78, 1.06),
    "R5": (0.46, 0.65, 0.30),
}


def study(ratings: np.ndarray, synthetic: np.ndarray, *, names: str = "reader") -> Study:
    """A study of readers with numbers for names."""
    readers = tuple(f"{names} {k}" for k in range(len(ratings)))
    return Study(readers, tuple(map(str, range(len(synthetic)))), synthetic, ratings)


def drawn(dice: np.random.Generator, readers: int, *, d_prime: float, skills: float, leaning: float, images: float):
    """Ratings 1 or 10 of 100 images by readers whose d' and criterion vary, of images that fool them all alike."""
    seen = np.where(HALF, 0.5, -0.5) * (d_prime + skills * dice.standard_normal((readers, 1)))
    seen = seen + images * dice.standard_normal(100) + dice.standard_normal((readers, 100))
    return np.where(seen > leaning * dice.standard_normal((readers, 1)), 10.0, 1.0)


def test_kappa_by_hand():
    """Three readers, votes 3 2 1 0: pairs agree in 1, 1/3, 1/3, 1, on average 2/3, by chance 1/2; (1/6) / (1/2)."""
    says = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool)
    found = fleiss_kappa(says, np.array([True, True, False, False]))
    assert found["mean"] == pytest.approx(1 / 3) and found["images"] == 4


@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_kappa_as_statsmodels_has_it(seed, readers):
    says = np.random.default_rng(seed).random((readers, 100)) < 0.6
    votes = says.sum(axis=0)
    judged = judge_kappa(np.column_stack((votes, readers - votes)))
    found = fleiss_kappa(says, HALF)
    assert found["mean"] == pytest.approx(judged) and found["low"] < found["mean"] < found["high"]


def test_kappa_where_there_is_none():
    one = np.ones((3, 4), dtype=bool)
    truth = np.array([True, True, False, False])
    for says in (one, one[:1], one[:, :0]):
        assert fleiss_kappa(says, truth[: says.shape[1]])["mean"] is None
    agreed = fleiss_kappa(np.tile(truth, (3, 1)), truth)
    assert (agreed["mean"], agreed["low"], agreed["high"]) == (1.0, 1.0, 1.0)


def test_kappa_repeats_itself_and_covers():
    """120 studies of guessers who share nothing: the interval over images holds 0 nearly always."""
    dice = np.random.default_rng(0)
    held = 0
    for _ in range(120):
        says = dice.random((5, 100)) < 0.5
        found = fleiss_kappa(says, HALF, seed=3)
        held += found["low"] <= 0 <= found["high"]
    assert found == fleiss_kappa(says, HALF, seed=3) and 0.88 <= held / 120 <= 1.0


RIGHT = np.array([[1.0, 1, 1, 0], [1, 0, 0, 0]])  # of two readers; two real images, then two synthetic
TWO = np.array([False, False, True, True])


def test_the_crossed_accuracy_by_hand():
    """Readers' means 3/4 and 1/4: MS_r = 4 x 1/8 = 1/2.

    Images' means 1, 1/2 about 3/4 and 1/2, 0 about 1/4: 2 x 4 x 1/16 = 1/2, of 2 degrees of freedom: MS_i = 1/4. All
    eight residuals are ± 1/4: 1/2 of 2 degrees of freedom: MS_e = 1/4. Variance 1/2 / 8 = 1/16, of 1 degree of freedom.
    """
    assert mean_squares(RIGHT, TWO) == pytest.approx((1 / 2, 1 / 4, 1 / 4))
    found = crossed_accuracy(RIGHT, TWO)
    assert found["mean"] == 0.5 and found["standard_error"] == pytest.approx(1 / 4) and found["freedom"] == 1
    assert found["effective_readings"] == pytest.approx(1 / 4 / (1 / 16))
    assert found["low"] == pytest.approx(1 / (1 + math.exp(12.7062)), rel=1e-3) and found["image_sd"] == 0
    assert found["reader_sd"] == pytest.approx(1 / 4)  # (1/2 - 1/4) / 4


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_mean_squares_as_statsmodels_has_them(seed, readers):
    """Of images of one kind, where the analysis is the textbook's: what each factor adds to a regression on both."""
    right = (np.random.default_rng(seed).random((readers, 9)) < 0.5).astype(float)
    reader, image = np.indices(right.shape)
    of_reader, of_image = (np.eye(one.max() + 1)[one.ravel()] for one in (reader, image))
    designs = (np.hstack((of_reader, of_image[:, 1:])), of_image, of_reader)
    both, without_reader, without_image = (OLS(right.ravel(), design).fit().ssr for design in designs)
    squares = ((without_reader - both) / (readers - 1), (without_image - both) / 8, both / 8 / (readers - 1))
    assert mean_squares(right, np.ones(9, dtype=bool)) == pytest.approx(squares, abs=1e-9)


def test_leaning_to_one_answer_is_not_a_spread_of_images():
    """Two readers who say always "real" and always "synthetic" are each right half the time, and tell nothing."""
    right = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    assert mean_squares(right, TWO) == (0.0, 0.0, 0.0)
    found = crossed_accuracy(right, TWO)
    assert (found["low"], found["high"]) == wilson(4, 8) and found["effective_readings"] == 8


@pytest.mark.parametrize(
    ("readers", "effects", "bounds"),
    [
        (5, {"d_prime": 1.2, "skills": 0.6, "leaning": 0.4, "images": 0.6}, (0.92, 0.98)),
        (5, {"d_prime": 0.0, "skills": 0.4, "leaning": 0.4, "images": 0.6}, (0.92, 0.98)),
        (5, {"d_prime": 0.0, "skills": 0.0, "leaning": 0.0, "images": 0.0}, (0.94, 1.0)),
    ],
)
def test_the_crossed_interval_covers_where_independence_does_not(readers, effects, bounds):
    """400 studies of 100 images; an image's evidence exceeds the criterion with Φ(d' / 2 / its whole SD)."""
    dice = np.random.default_rng(0)
    spread = 1 + effects["skills"] ** 2 / 4 + effects["leaning"] ** 2 + effects["images"] ** 2
    truth = stats.norm.cdf(effects["d_prime"] / 2 / math.sqrt(spread))
    found = [crossed_accuracy(study(drawn(dice, readers, **effects), HALF).right, HALF) for _ in range(400)]
    held = np.mean([one["low"] <= truth <= one["high"] for one in found])
    independent = np.mean([one["independent"]["low"] <= truth <= one["independent"]["high"] for one in found])
    assert bounds[0] <= held <= bounds[1]
    assert independent < 0.8 or not effects["images"]


def test_panels_that_show_no_spread():
    """All right: as one reader's images. One reader: Wilson's interval."""
    everything = crossed_accuracy(np.ones((3, 20)), np.arange(20) < 10)
    assert (everything["low"], everything["high"]) == wilson(20, 20) and everything["standard_error"] == 0
    alone = crossed_accuracy(RIGHT[:1], TWO)
    assert (alone["low"], alone["high"]) == wilson(3, 4) and alone["standard_error"] is None
    json.dumps([everything, alone], allow_nan=False)


def test_a_panel_near_guessing_is_equivalent_and_one_at_the_margin_is_not():
    """200 studies each of 5 readers: with a true accuracy of 0.5 many pass; of 0.6 about 5 % do, by error."""
    dice = np.random.default_rng(0)

    def passed(d_prime: float) -> float:
        effects = {"d_prime": d_prime, "skills": 0.2, "leaning": 0.3, "images": 0.5}
        rights = [study(drawn(dice, 5, **effects), HALF).right for _ in range(200)]
        return np.mean([panel_equivalence(right, HALF)["equivalent"] for right in rights])

    at_margin = 2 * stats.norm.ppf(0.6) * math.sqrt(1 + 0.01 + 0.09 + 0.25)
    assert passed(0.0) > 0.6 and passed(at_margin) <= 0.1


def test_power_of_a_panel():
    """With ample freedom, of n independent answers: 0.80 for 215. A wider spread or less freedom can only lose."""
    error = 0.5 / math.sqrt(215)
    assert panel_power(error, 1e6) == pytest.approx(0.80, abs=0.005)
    assert panel_power(error, 4.0) < panel_power(error, 1e6) and panel_power(0.2, 4.0) == 0.0
    assert panel_power(None, None) is None
    alone = panel_equivalence(np.tile(RIGHT[:1], 50), np.tile(TWO, 50))
    assert alone["power"] == power(200)


def test_the_paper_by_its_own_counts():
    """Each count is the only one with the noted interval (to half a unit of its last digit); they sum to 354."""
    scores = table_scores(PAPER)
    rights = {name: one["right"] for name, one in PAPER["readers"].items()}
    assert rights == {"R1": 71, "R2": 79, "R3": 78, "R4": 70, "R5": 56}
    for name, (low, high, d_prime) in NOTED.items():
        fits = [k for k in range(101) if np.allclose(wilson(k, 100), (low, high), rtol=0, atol=0.0055)]
        assert fits == [rights[name]], name
        one = scores["readers"][name]
        assert one["accuracy"]["mean"] == rights[name] / 100 and one["d_prime"] == d_prime
        assert one["verdict"] == ("undecided" if name == "R5" else "detected")
        assert (one["p"] < 1e-4) == (name != "R5")
    assert guessing_p(56, 100) == pytest.approx(0.27, abs=0.005)
    assert sum(rights.values()) / 500 == 0.708 and wilson(354, 500) == pytest.approx((0.667, 0.746), abs=5e-4)


def pairs(right: int, d_prime: float, added: float) -> list[list[int]]:
    """Hits and correct rejections, of 50 each, with this sum and this d' to two digits."""
    some = [(hits, right - hits) for hits in range(1, 50) if 0 < right - hits < 50]
    return [[h, r] for h, r in some if round(d_prime_and_criterion(h, 50, 50 - r, 50, added=added)[0], 2) == d_prime]


def test_which_answers_fit_the_papers_d_prime():
    """All five fit without a correction; with the log-linear one two do not."""
    for one in PAPER["readers"].values():
        assert one["pairs"] == pairs(one["right"], one["d_prime"], 0.0)
        unique = len(one["pairs"]) == 1
        assert one["sensitivity"] == (one["pairs"][0][0] / 50 if unique else None)
        assert one["specificity"] == (one["pairs"][0][1] / 50 if unique else None)
    fits = {name: pairs(one["right"], one["d_prime"], 0.5) for name, one in PAPER["readers"].items()}
    assert [name for name, found in fits.items() if not found] == ["R2", "R4"]


def test_the_papers_panel_by_hand():
    """Mean 0.708, SD 0.09203, over √5 0.04116; on the logit 0.8854 ± 2.7764 x 0.04116 / 0.20674 = 0.8854 ± 0.5527."""
    panel = table_scores(PAPER)["panel"]
    assert panel["accuracy"]["standard_error"] == pytest.approx(0.04116, abs=1e-5)
    ends = [1 / (1 + math.exp(-x)) for x in (0.8857 - 0.5527, 0.8857 + 0.5527)]
    assert [panel["accuracy"]["low"], panel["accuracy"]["high"]] == pytest.approx(ends, abs=1e-3)
    assert panel["verdict"] == "detected" and not panel["equivalence"]["equivalent"]


def test_simulated_readers_are_called_so_everywhere(tmp_path):
    dice = np.random.default_rng(0)
    ratings = dice.integers(1, 11, (3, 100)).astype(float)
    scores = study_scores(study(ratings, HALF, names="simulated"))
    assert scores["panel"]["simulated"] == 3 and all(one["simulated"] for one in scores["readers"].values())
    first, *lines = report(scores, paper=table_scores(PAPER)).splitlines()
    assert first == WARNING and [line.split()[:3] for line in lines[2:5]] == [
        ["simulated", str(k), "simulated"] for k in range(3)
    ]
    assert lines[5].startswith("all 3") and lines[5].split()[2] == "simulated"
    assert [line.split()[:2] for line in lines[6:11]] == [[f"R{k}", "paper"] for k in range(1, 6)]
    write_metrics(tmp_path / "metrics.json", scores)


def test_people_are_not_called_simulated():
    dice = np.random.default_rng(0)
    ratings = dice.integers(1, 11, (2, 100)).astype(float)
    ratings[0, :3] = np.nan
    scores = study_scores(study(ratings, HALF))
    text = report(scores)
    assert "imulated" not in text.replace("Simulated", "simulated") and "97 of 100" in text and "paper" in text
    assert scores["read"] == {"reader 0": "97 of 100", "reader 1": "100 of 100"}
    assert scores["panel"]["accuracy"]["images"] == 97 and "2 readers x 97 images" in text
    assert scores["images"] == {"real": 50, "synthetic": 50} and scores["needed"] == {"exact": 227, "normal": 215}


def test_a_mixed_panel_says_how_many_are_simulated():
    ratings = np.random.default_rng(0).integers(1, 11, (2, 100)).astype(float)
    mixed = Study(("Ann", "simulated 1"), tuple(map(str, range(100))), HALF, ratings)
    text = report(study_scores(mixed))
    assert text.startswith(WARNING) and "1 of 2 simulated" in text and " ours " in text


def test_readers_who_share_no_image_are_scored_alone():
    ratings = np.full((2, 4), np.nan)
    ratings[0, :2], ratings[1, 2:] = (1, 10), (3, 8)
    scores = study_scores(study(ratings, np.array([False, True, False, True])))
    assert scores["panel"]["accuracy"] is None and scores["readers"]["reader 0"]["accuracy"]["mean"] == 1.0
    assert "no image was read by all readers" in report(scores)
    json.dumps(scores, allow_nan=False)
