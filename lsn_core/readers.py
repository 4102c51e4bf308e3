"""One reader of a visual Turing test: how well real and synthetic are told apart, and whether that beats guessing.

Positive is "synthetic": sensitivity is the share of synthetic images called synthetic, specificity the share of real
images called real. Proportions are in [0, 1]; intervals are two-sided; guessing is an accuracy of `GUESSING`.
"""

import math
from typing import Any

import numpy as np

from lsn_core.readings import Rating, Truth

GUESSING = 0.5
MARGIN = 0.10  # accuracies nearer to guessing than this count as equivalent to it
ALPHA = 0.05  # of each one-sided test of equivalence


def wilson(successes: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a proportion of `n` > 0 independent trials."""
    from scipy.stats import norm

    z2, share = norm.ppf((1 + level) / 2) ** 2, successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def proportion(successes: int, n: int) -> dict[str, Any]:
    """A share with its Wilson 95 % interval: "mean", "low", "high", "successes" and "n"; no numbers where n is 0."""
    low, high = wilson(successes, n) if n else (None, None)
    return {"mean": successes / n if n else None, "low": low, "high": high, "successes": successes, "n": n}


def guessing_p(right: int, n: int) -> float:
    """Exact two-sided binomial p of `right` among `n` answers under guessing."""
    from scipy.stats import binomtest

    return float(binomtest(right, n, GUESSING).pvalue)


def d_prime_and_criterion(
    hits: int, positives: int, false_alarms: int, negatives: int, *, added: float = 0.5
) -> tuple[float, float]:
    """Sensitivity d' = z(H) - z(F) and criterion c = -(z(H) + z(F)) / 2 of signal detection; c > 0 leans to "real".

    The log-linear correction (Hautus 1995) adds 0.5 to each count and 1 to each total, so that both stay finite. With
    `added` 0 the rates are taken as they are, and are infinite at 0 and 1.
    """
    from scipy.stats import norm

    z_hits, z_alarms = (
        norm.ppf((count + added) / (total + 2 * added))
        for count, total in ((hits, positives), (false_alarms, negatives))
    )
    return float(z_hits - z_alarms), float(-(z_hits + z_alarms) / 2)


def roc_points(ratings: Rating, synthetic: Truth) -> tuple[list[float], list[float]]:
    """False alarm and hit rates at every threshold of the ratings, strictest first: from (0, 0) to (1, 1).

    Ratings have no NaN, and both kinds of image are among them.
    """
    levels = [np.inf, *np.unique(ratings)[::-1]]
    alarms, hits = ([float((ratings[kind] >= level).mean()) for level in levels] for kind in (~synthetic, synthetic))
    return alarms, hits


def area_under_roc(ratings: Rating, synthetic: Truth) -> dict[str, float | None]:
    """Chance that a synthetic image is rated above a real one, ties counting half; "mean", "low" and "high".

    95 % interval by the variance of DeLong et al. (1988), symmetric in the logit (as Pepe, 2003, advises near 1); None
    where that variance is 0, as when all are told apart, or with fewer than two images of a kind. Ratings have no NaN.
    """
    above = np.sign(ratings[synthetic][:, None] - ratings[~synthetic][None, :]) / 2 + 0.5
    if 0 in above.shape:
        return {"mean": None, "low": None, "high": None}
    area = float(above.mean())
    none = {"mean": area, "low": None, "high": None}
    if min(above.shape) < 2:
        return none
    variance = sum(above.mean(axis=axis).var(ddof=1) / above.shape[1 - axis] for axis in (0, 1))
    low, high = logit_interval(area, math.sqrt(variance), 1.959964)
    return none if variance == 0 else {"mean": area, "low": low, "high": high}


def logit_interval(share: float, standard_error: float, quantile: float) -> tuple[float, float]:
    """An interval within (0, 1), symmetric in the logit, whose scale is the delta method's; `share` at 0 or 1 stays."""
    spread = share * (1 - share)
    if spread == 0:
        return share, share
    half = min(quantile * standard_error / spread, 500.0)  # e^500 is still finite
    low, high = (1 / (1 + (1 - share) / share * math.exp(-step)) for step in (-half, half))
    return low, high


def equivalence(right: int, n: int, *, margin: float = MARGIN) -> dict[str, Any]:
    """Two one-sided exact binomial tests (TOST) that the accuracy is within 0.5 ± `margin`: "p" is the larger p.

    Exact, hence conservative: under either bound "equivalent" comes out with a probability of at most 0.05.
    """
    from scipy.stats import binom

    p = max(binom.sf(right - 1, n, GUESSING - margin), binom.cdf(right, n, GUESSING + margin))
    return {"margin": margin, "p": float(p), "equivalent": bool(p <= ALPHA), "power": power(n, margin=margin)}


def power(n: int, *, margin: float = MARGIN, accuracy: float = GUESSING) -> float:
    """Probability that `equivalence` is found among `n` independent answers of this true accuracy; exact."""
    from scipy.stats import binom

    right = np.arange(n + 1)
    passes = np.maximum(binom.sf(right - 1, n, GUESSING - margin), binom.cdf(right, n, GUESSING + margin)) <= ALPHA
    return float(binom.pmf(right, n, accuracy)[passes].sum())


def readings_needed(*, margin: float = MARGIN, wanted: float = 0.8) -> int:
    """The n from which on `power` for a true guesser stays at `wanted` or above (it is a saw, not a slope).

    Independent answers; where readers share images, see `effective_readings` in `reader_study`.
    """
    n = math.ceil(1.15 * readings_needed_normal(margin=margin, wanted=wanted)) + 40  # safely above the answer
    while power(n, margin=margin) >= wanted:
        n -= 1
    return n + 1


def readings_needed_normal(*, margin: float = MARGIN, wanted: float = 0.8) -> int:
    """The textbook's n by the normal distribution, (z(1 - alpha) + z((1 + power) / 2))² / (4 margin²); 215 for 0.10."""
    from scipy.stats import norm

    return math.ceil(((norm.ppf(1 - ALPHA) + norm.ppf((1 + wanted) / 2)) / (2 * margin)) ** 2)


def verdict(low: float, high: float, *, equivalent: bool) -> str:
    """What an accuracy's 95 % interval and its test of equivalence say, in words.

    "reversed" is an accuracy below guessing: images are told apart, and the labels exchanged. An accuracy above
    guessing is "detected" even where it is equivalent, as it can be among very many readings.
    """
    if low > GUESSING:
        return "detected"
    if high < GUESSING:
        return "reversed"
    return "equivalent to guessing" if equivalent else "undecided"


def reader_scores(ratings: Rating, synthetic: Truth, *, margin: float = MARGIN) -> dict[str, Any]:
    """All that is said of one reader, ready for JSON; ratings 1 to 10, NaN where an image was not read.

    Accuracy is the plain share of right answers: guessing is 0.5 whatever the mixture, unless a reader leans to one
    answer and the set holds more of it; sensitivity, specificity, d' and the area do not depend on the mixture.
    """
    kept = ~np.isnan(ratings)
    rated, truth = ratings[kept], synthetic[kept]
    says = rated > 5.5
    hits, rejections = int((says & truth).sum()), int((~says & ~truth).sum())
    found = scores_of_counts(hits, int(truth.sum()), rejections, int((~truth).sum()), margin=margin)
    both = bool(truth.any() and (~truth).any())
    alarms, points = roc_points(rated, truth) if both else ([], [])
    return found | {
        "of": len(ratings),
        "auc": area_under_roc(rated, truth),
        "roc": {"false_alarms": alarms, "hits": points},
    }


def scores_of_counts(
    hits: int, positives: int, rejections: int, negatives: int, *, margin: float = MARGIN
) -> dict[str, Any]:
    """What right answers alone say: hits among synthetic images, correct rejections among real ones."""
    right, n = hits + rejections, positives + negatives
    accuracy, tested = proportion(right, n), equivalence(right, n, margin=margin)
    d_prime, criterion = d_prime_and_criterion(hits, positives, negatives - rejections, negatives)
    return {
        "n": n,
        "accuracy": accuracy,
        "sensitivity": proportion(hits, positives),
        "specificity": proportion(rejections, negatives),
        "p": guessing_p(right, n),
        "d_prime": d_prime if positives and negatives else None,
        "criterion": criterion if positives and negatives else None,
        "equivalence": tested,
        "verdict": verdict(accuracy["low"], accuracy["high"], equivalent=tested["equivalent"]),
    }
