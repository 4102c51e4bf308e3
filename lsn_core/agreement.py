"""How well one measurement agrees with another, as joint space width by a network with joint space width by hand.

`measured` and `truth` are in one unit, mm unless a name ends in _px, without NaN; differences are measured - truth.
Visits of one joint are repeated measurements of a true value that varies: intervals resample whole joints.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lsn_core.results import RESAMPLES

Values = Float[np.ndarray, " n"]
Labels = Sequence[str] | np.ndarray  # one joint's name a value
QUANTILE = 1.96  # of the normal distribution, as Bland and Altman round it


def regression_scores(measured: Values, truth: Values) -> dict[str, float]:
    """Mean squared ("mse"), absolute ("mae") and root mean squared error ("rmse"), explained variance and R².

    "evs" is 1 - Var(differences) / Var(truth) and forgives a bias, "r2" is 1 - mse / Var(truth) and does not; both are
    at most 1, 0 for one who always says the mean of the truth, and NaN where the truth is the same everywhere.
    """
    differences, varies = measured - truth, bool(np.ptp(truth))
    mse = float((differences**2).mean())
    spread = float(truth.var()) if varies else math.nan
    return {
        "mse": mse,
        "mae": float(np.abs(differences).mean()),
        "rmse": math.sqrt(mse),
        "evs": 1 - float(differences.var()) / spread,
        "r2": 1 - mse / spread,
    }


def bland_altman(measured: Values, truth: Values, joints: Labels, *, seed: int = 0) -> dict[str, Any]:
    """Bias and 95 % limits of agreement where a joint's visits are repeated and its true value varies.

    After Bland and Altman (2007), section 3: the variance of a single difference is the sum of the components between
    and within joints of a one-way random-effects analysis of variance of the differences, whose joints may have unequal
    numbers of visits; a negative component is taken as 0. The limits are bias ± 1.96 "sd". With one visit a joint, "sd"
    is the plain SD and "within_sd" 0. Each number is "value", "low" and "high", a 95 % percentile bootstrap that draws
    whole joints; "n" and "joints" count.

    "slope" is that of the difference on the mean of both, without unit: 0 without proportional bias. As its covariance
    is half of Var(measured) - Var(truth), random error of `measured` alone raises it, and a regression that shrinks to
    the mean lowers it. At least two joints; the slope is NaN where all means are the same.
    """
    sums, centre = _sums_of_joints(measured - truth, (measured + truth) / 2, joints)
    count = sums.shape[1]
    if count < 2:
        raise ValueError("limits of agreement of repeated measurements need at least two joints")
    picks = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    found = _components(sums[:, np.concatenate((np.arange(count)[None], picks))], centre)  # the sample itself is first
    return {name: _with_interval(values) for name, values in found.items()} | {"n": len(truth), "joints": count}


def _sums_of_joints(differences: Values, means: Values, joints: Labels) -> tuple[Float[np.ndarray, "6 joints"], float]:
    """What `_components` needs of each joint, differences less their mean, and that mean (the centre).

    Number of visits, sum of differences, squares of differences within the joint, sums of means, of their squares, and
    of means times differences.
    """
    _, index = np.unique(np.asarray(joints), return_inverse=True)
    centre = float(differences.mean())
    d, m = differences - centre, means - means.mean()
    visits = np.bincount(index).astype(float)
    within = d - (np.bincount(index, weights=d) / visits)[index]
    parts = (np.ones_like(d), d, within**2, m, m**2, m * d)
    return np.stack([np.bincount(index, weights=part) for part in parts]), centre


def _components(sums: Float[np.ndarray, "6 samples joints"], centre: float) -> dict[str, Float[np.ndarray, " samples"]]:
    """Bias, components, limits and slope of each sample of joints; a joint drawn twice counts as two."""
    count = sums.shape[2]
    n, d, within, m, mm, md = sums.sum(axis=2)
    visits, of_joints = sums[0], sums[1]
    inside = within / np.maximum(n - count, 1)  # mean square; nothing within where no joint has a second visit
    outside = ((of_joints**2 / visits).sum(axis=1) - d**2 / n) / (count - 1)
    usual = (n - (visits**2).sum(axis=1) / n) / (count - 1)  # visits a joint, n0 of an unbalanced design
    between = np.maximum((outside - inside) / usual, 0)
    bias, sd = centre + d / n, np.sqrt(inside + between)
    spread = mm - m**2 / n
    return {
        "bias": bias,
        "sd": sd,
        "lower_limit": bias - QUANTILE * sd,
        "upper_limit": bias + QUANTILE * sd,
        "between_sd": np.sqrt(between),
        "within_sd": np.sqrt(inside),
        "slope": (md - m * d / n) / np.where(spread > 1e-12 * mm, spread, np.nan),
    }


def _with_interval(values: Float[np.ndarray, " samples"]) -> dict[str, float]:
    """The first of the values, and the 2.5 and 97.5 percentile of the others that are numbers."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (math.nan, math.nan)
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def two_way_mean_squares(ratings: Float[np.ndarray, "n k"]) -> tuple[float, float, float]:
    """Mean squares of targets (rows), raters (columns) and the rest, of one rating a cell; n and k at least 2."""
    n, k = ratings.shape
    of_rows, of_columns = ratings.mean(axis=1), ratings.mean(axis=0)
    rest = ratings - of_rows[:, None] - of_columns + ratings.mean()
    freedom = (n - 1) * (k - 1)
    return float(k * of_rows.var(ddof=1)), float(n * of_columns.var(ddof=1)), float((rest**2).sum() / freedom)


def icc_2_1(ratings: Float[np.ndarray, "n k"]) -> dict[str, float]:
    """ICC(2,1) of Shrout and Fleiss (1979): two-way random effects, absolute agreement, single measure; at most 1.

    Rows are targets, columns raters (two methods are np.stack((measured, truth), axis=1)); n and k are at least 2. The
    95 % interval is the F interval of McGraw and Wong (1996) for ICC(A,1); it takes rows as independent, so repeated
    visits of a joint make it too narrow. NaN where all ratings are the same.
    """
    n, k = ratings.shape
    rows, columns, rest = two_way_mean_squares(ratings)
    whole = rows + (k - 1) * rest + k * (columns - rest) / n
    if not np.ptp(ratings) or whole <= 0:
        return dict.fromkeys(("value", "low", "high"), math.nan)
    value = (rows - rest) / whole
    low, high = _interval_of_icc(rows, columns, rest, n=n, k=k, value=value)
    return {"value": value, "low": low, "high": high}


def _interval_of_icc(rows: float, columns: float, rest: float, *, n: int, k: int, value: float) -> tuple[float, float]:
    """McGraw and Wong's (1996, table 7) 95 % limits of ICC(A,1); an estimate below 0 has the freedom of one at 0."""
    from scipy.stats import f

    share = max(value, 0.0)
    of_columns, of_rest = k * share / n * columns, (1 - share + k * share * (n - 1) / n) * rest
    if of_columns + of_rest == 0:  # all agree
        return value, value
    freedom = (of_columns + of_rest) ** 2 * (k - 1) / (of_columns**2 + of_rest**2 / (n - 1))
    below, above = float(f.ppf(0.975, n - 1, freedom)), float(f.ppf(0.975, freedom, n - 1))
    doubt = k * columns + (k * n - k - n) * rest
    low = n * (rows - below * rest) / (below * doubt + n * rows)
    return low, n * (above * rows - rest) / (doubt + n * above * rows)


def smallest_detectable_change(measured: Values, truth: Values) -> dict[str, float]:
    """SEM = SD of differences / √2, the error SD of one of two equally good measurements, and SDC = 1.96 √2 SEM.

    Both in the unit of the measurement; SDC is 1.96 SD of differences, half the width of plain limits of agreement. Of
    joints that do not change, 95 % seem to change by less than SDC between two measurements. That holds where both have
    the same error: where `truth` has none, all of the SD is that of `measured`, and two visits measured by it differ by
    up to √2 SDC.
    """
    sem = float((measured - truth).std(ddof=1)) / math.sqrt(2)
    return {"sem": sem, "sdc": QUANTILE * math.sqrt(2) * sem}


def summary(measured: Values, truth: Values, joints: Labels, *, spacing_mm: float, seed: int = 0) -> dict[str, Any]:
    """All that is said of one measurement in mm, errors also in px of `spacing_mm` ("mae_px", "mse_px" in px²)."""
    scores = regression_scores(measured, truth)
    return {
        **scores,
        "mae_px": scores["mae"] / spacing_mm,
        "mse_px": scores["mse"] / spacing_mm**2,
        "bland_altman": bland_altman(measured, truth, joints, seed=seed),
        "icc_2_1": icc_2_1(np.stack((measured, truth), axis=1)),
        "smallest_detectable_change": smallest_detectable_change(measured, truth),
    }
