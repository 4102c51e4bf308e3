"""A panel of readers: how far they agree, how well they do together, and what may be said of readers like them.

Readers who see the same images are not so many independent trials. The panel's accuracy is therefore taken from a
crossed design in which readers and images are both drawn from more of their kind. Positive is "synthetic", as in
`readers`; simulated readers are named so in every result and every table.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lsn_core.readers import (
    ALPHA,
    GUESSING,
    MARGIN,
    d_prime_and_criterion,
    equivalence,
    guessing_p,
    logit_interval,
    power,
    proportion,
    reader_scores,
    readings_needed,
    readings_needed_normal,
    verdict,
    wilson,
)
from lsn_core.readings import Ratings, Study, Truth
from lsn_core.results import RESAMPLES, interval, table

WARNING = "SIMULATED READERS: numbers drawn at random by lsn_core.simulated_readers; nobody has looked at an image."
HEADINGS = ["reader", "whose", "n", "accuracy", "sensitivity", "specificity", "p", "d'", "criterion", "AUC", "verdict"]
LEGEND = """positive: synthetic (sensitivity: synthetic images called so; specificity: real images called so).
[ ]: 95 % intervals: Wilson's of each reader; of all readers, one that holds for other readers and images like these
(of the paper's: for other readers only). p: exact binomial against guessing. d', criterion: log-linear correction, the
paper's d' without; a criterion above 0 leans to "real". AUC: of the confidence ratings."""


def fleiss_kappa(says_synthetic: np.ndarray, synthetic: Truth, *, seed: int = 0) -> dict[str, Any]:
    """Fleiss' kappa (1971) of answers (readers, images), bool: agreement beyond what the shares of answers bring.

    The 95 % interval is a bootstrap over images, real and synthetic apart, with this panel of readers: a reader who is
    drawn twice would agree with himself, which is why readers are not drawn again. None where kappa is not defined:
    fewer than two readers, or the same answer everywhere.
    """
    readers, images = says_synthetic.shape
    if readers < 2 or images == 0:
        return {"mean": None, "low": None, "high": None, "images": images}
    votes = says_synthetic.sum(axis=0)
    drawn = _kappa(votes[_stratified(synthetic, np.random.default_rng(seed))], readers)
    found, drawn = _kappa(votes[None], readers)[0], drawn[np.isfinite(drawn)]
    if not np.isfinite(found):
        return {"mean": None, "low": None, "high": None, "images": images}
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(found), "low": float(low), "high": float(high), "images": images}


def _stratified(synthetic: Truth, dice: np.random.Generator) -> np.ndarray:
    """Indices (resamples, images) of images drawn again, as many real and synthetic as there are."""
    kinds = [np.flatnonzero(synthetic == kind) for kind in (False, True)]
    return np.concatenate([one[dice.integers(len(one), size=(RESAMPLES, len(one)))] for one in kinds if len(one)], 1)


def _kappa(votes: np.ndarray, readers: int) -> np.ndarray:
    """Fleiss' kappa (samples,) of votes (samples, images) for "synthetic"; NaN where all votes are the same."""
    pairs = votes * (votes - 1) + (readers - votes) * (readers - votes - 1)
    observed = pairs.mean(axis=1) / (readers * (readers - 1))
    share = votes.mean(axis=1) / readers
    expected = share**2 + (1 - share) ** 2
    possible = np.where(expected < 1, 1 - expected, np.nan)
    return (observed - expected) / possible


def mean_squares(right: Ratings, synthetic: Truth) -> tuple[float, float, float]:
    """Two-way analysis of variance of right (1) and wrong (0) answers without NaN: of readers, images and the rest.

    Images and rest are taken within the real and the synthetic: a set holds as many of each by design, and a reader
    who leans to one answer gains there what he loses here. Per answer: readers' expectation is I s_r² + s_e², images'
    R s_i² + s_e², the rest's s_e².
    """
    readers, images = right.shape
    kinds = [right[:, synthetic == kind] for kind in (False, True) if (synthetic == kind).any()]
    free = images - len(kinds)
    of_images = sum(readers * ((kind.mean(0) - kind.mean()) ** 2).sum() for kind in kinds)
    rest = sum(((kind - kind.mean(0) - kind.mean(1, keepdims=True) + kind.mean()) ** 2).sum() for kind in kinds)
    return float(images * right.mean(1).var(ddof=1)), float(of_images / free), float(rest / ((readers - 1) * free))


def crossed_accuracy(right: Ratings, synthetic: Truth, *, level: float = 0.95) -> dict[str, Any]:
    """Accuracy of a panel that all read the same images, with an interval for other readers and other images.

    A crossed random-effects decomposition, readers x images: the variance of the mean is (MS_r + max(MS_i - MS_e, 0)) /
    (R I), its degrees of freedom Satterthwaite's but at least R - 1; the interval is Student's in the logit, and never
    narrower than Wilson's of as many independent answers ("independent"). In simulated studies of 3 to 10 readers and
    100 to 200 images with effects, 93 to 97 % of the 95 % intervals held the truth, where Wilson's did 51 to 92 %; 98
    to 99 % without effects. One reader speaks only for himself: Wilson's interval. "effective_readings" is how many
    independent answers would say as much; the SDs are those of readers and images in the share of right answers.
    """
    readers, images = right.shape
    accuracy, n = float(right.mean()), right.size
    low, high = wilson(int(right.sum()), n, level=level)
    known = {"mean": accuracy, "readers": readers, "images": images, "independent": {"low": low, "high": high}}
    if readers < 2 or images < 3:
        return known | {"low": low, "high": high, "standard_error": None, "freedom": None, "effective_readings": n}
    squares = mean_squares(right, synthetic)
    variance, freedom = _variance(*squares, readers=readers, images=images)
    first, last = logit_interval(accuracy, math.sqrt(variance), _student(level, freedom))
    low, high = min(low, first), max(high, last)
    variance = max(variance, accuracy * (1 - accuracy) / n)
    if variance == 0:  # all right or all wrong: their spread cannot be seen; as if readers were one
        low, high = wilson(int(right.all(axis=0).sum()), images, level=level)
    effective = accuracy * (1 - accuracy) / variance if variance else float(images)
    spread = {"reader_sd": (squares[0] - squares[2]) / images, "image_sd": (squares[1] - squares[2]) / readers}
    return (
        known
        | {"low": low, "high": high, "standard_error": math.sqrt(variance), "freedom": freedom}
        | {"effective_readings": effective}
        | {name: math.sqrt(max(part, 0.0)) for name, part in spread.items()}
    )


def _variance(of_readers: float, of_images: float, rest: float, *, readers: int, images: int) -> tuple[float, float]:
    """Variance of the mean over readers and images, and its degrees of freedom, from the mean squares."""
    above = max(of_images - rest, 0.0)
    total = of_readers + above
    doubt = of_readers**2 / (readers - 1)
    if above:
        doubt += of_images**2 / (images - 2) + rest**2 / ((readers - 1) * (images - 2))
    return total / (readers * images), max(total**2 / doubt if doubt else 0.0, readers - 1.0)


def _student(level: float, freedom: float) -> float:
    """The quantile of Student's distribution that a two-sided interval takes."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, freedom))


def panel_equivalence(right: Ratings, synthetic: Truth, *, margin: float = MARGIN) -> dict[str, Any]:
    """The test of equivalence (TOST) of a panel: whether its crossed 90 % interval lies within 0.5 ± `margin`.

    "power" is that of as large a study of true guessers, whose spread between readers and images is as found here.
    """
    found = crossed_accuracy(right, synthetic, level=1 - 2 * ALPHA)
    inside = GUESSING - margin < found["low"] and found["high"] < GUESSING + margin
    chance = panel_power(found["standard_error"], found["freedom"], margin=margin)
    return {
        "margin": margin,
        "low_90": found["low"],
        "high_90": found["high"],
        "equivalent": inside,
        "power": power(right.size, margin=margin) if len(right) == 1 else chance,
    }


def panel_power(standard_error: float | None, freedom: float | None, *, margin: float = MARGIN) -> float | None:
    """Chance that a panel of true guessers is found equivalent, its mean being Student's; None without a spread."""
    from scipy.stats import t

    if not standard_error:
        return None
    return max(0.0, float(2 * t.cdf(margin / standard_error - t.ppf(1 - ALPHA, freedom), freedom) - 1))


def panel_scores(study: Study, *, margin: float = MARGIN, seed: int = 0) -> dict[str, Any]:
    """What all readers say together, of the images that all of them read; None where there are none."""
    shared = study.complete()
    known = {"of": len(study.images), "simulated": sum(study.simulated), "readers": len(study.readers)}
    if not shared.images:
        return known | {"accuracy": None, "equivalence": None, "verdict": "undecided", "kappa": None}
    accuracy = crossed_accuracy(shared.right, shared.synthetic)
    tested = panel_equivalence(shared.right, shared.synthetic, margin=margin)
    return known | {
        "accuracy": accuracy,
        "equivalence": tested,
        "verdict": verdict(accuracy["low"], accuracy["high"], equivalent=tested["equivalent"]),
        "kappa": fleiss_kappa(shared.says_synthetic, shared.synthetic, seed=seed),
    }


def study_scores(study: Study, *, margin: float = MARGIN, seed: int = 0) -> dict[str, Any]:
    """All results of a study, ready for `write_metrics`; "simulated" is said of each reader, and counted in "panel"."""
    readers = {
        name: {"simulated": simulated} | reader_scores(ratings, study.synthetic, margin=margin)
        for name, simulated, ratings in zip(study.readers, study.simulated, study.ratings, strict=True)
    }
    synthetic = int(study.synthetic.sum())
    return {
        "positive": "synthetic",
        "images": {"real": len(study.images) - synthetic, "synthetic": synthetic},
        "read": study.told(),
        "readers": readers,
        "panel": panel_scores(study, margin=margin, seed=seed),
        "needed": {"exact": readings_needed(margin=margin), "normal": readings_needed_normal(margin=margin)},
    }


def table_scores(known: Mapping[str, Any], *, margin: float = MARGIN) -> dict[str, Any]:
    """The paper's readers analysed again from its Table 3, as `study_scores` has ours; None where it does not tell.

    `known` is "table_3" of book/results/paper.json. A reader's "pairs" are the hits and correct rejections that fit.
    """
    readers = {name: _counted(one, known["synthetic"], known["real"], margin) for name, one in known["readers"].items()}
    shares = [one["accuracy"]["mean"] for one in readers.values()]
    return {"positive": "synthetic", "readers": readers, "panel": _between_readers(shares, margin)}


def _counted(one: Mapping[str, Any], positives: int, negatives: int, margin: float) -> dict[str, Any]:
    """A reader of whom right answers, and perhaps how many of each kind, are known."""
    right, n = one["right"], positives + negatives
    accuracy, tested = proportion(right, n), equivalence(right, n, margin=margin)
    known = {"sensitivity": None, "specificity": None, "criterion": None, "auc": None}
    if len(one["pairs"]) == 1:
        ((hits, rejections),) = one["pairs"]
        known["sensitivity"], known["specificity"] = proportion(hits, positives), proportion(rejections, negatives)
        known["criterion"] = d_prime_and_criterion(hits, positives, negatives - rejections, negatives)[1]
    return known | {
        "n": n,
        "of": n,
        "accuracy": accuracy,
        "p": guessing_p(right, n),
        "d_prime": one["d_prime"],
        "equivalence": tested,
        "verdict": verdict(accuracy["low"], accuracy["high"], equivalent=tested["equivalent"]),
    }


def _between_readers(shares: Sequence[float], margin: float) -> dict[str, Any]:
    """Mean accuracy, with Student's interval over readers alone: who told which image right is not known."""
    mean, error = float(np.mean(shares)), float(np.std(shares, ddof=1) / math.sqrt(len(shares)))
    low, high = logit_interval(mean, error, _student(0.95, len(shares) - 1))
    first, last = logit_interval(mean, error, _student(1 - 2 * ALPHA, len(shares) - 1))
    inside = GUESSING - margin < first and last < GUESSING + margin
    return {
        "readers": len(shares),
        "accuracy": {"mean": mean, "low": low, "high": high, "standard_error": error, "freedom": len(shares) - 1},
        "equivalence": {"margin": margin, "low_90": first, "high_90": last, "equivalent": inside},
        "verdict": verdict(low, high, equivalent=inside),
        "kappa": None,
    }


def report(ours: Mapping[str, Any], *, paper: Mapping[str, Any] | None = None) -> str:
    """The form of the paper's Table 3 with ours and, if given, the paper's beside it; below, what the panel says.

    `ours` are `study_scores`, `paper` are `table_scores`. Simulated readers are called so in their rows and on top.
    """
    rows = [HEADINGS]
    for whose, scores in (("ours", ours), ("paper", paper or {"readers": {}})):
        rows += [_row(name, whose, one) for name, one in scores["readers"].items()]
        rows += [_panel_row(whose, scores["panel"])] if scores["readers"] else []
    warning = [WARNING] if ours["panel"]["simulated"] else []
    return "\n".join([*warning, table(rows), LEGEND, _agreement(ours), _tested(ours)])


def _row(name: str, whose: str, one: Mapping[str, Any]) -> list[str]:
    """One reader's cells."""
    shares = (_share(one[key]) for key in ("accuracy", "sensitivity", "specificity"))
    numbers = ("-" if one[key] is None else f"{round(one[key], 2) + 0.0:+.2f}" for key in ("d_prime", "criterion"))
    read = str(one["n"]) if one["n"] == one["of"] else f"{one['n']} of {one['of']}"
    whose = "simulated" if one.get("simulated") else whose
    return [name, whose, read, *shares, f"{one['p']:.2g}", *numbers, _share(one["auc"]), one["verdict"]]


def _panel_row(whose: str, panel: Mapping[str, Any]) -> list[str]:
    """The cells of all readers together, "simulated" if some are."""
    simulated, readers = panel.get("simulated", 0), panel["readers"]
    if simulated:
        whose = "simulated" if simulated == readers else f"{simulated} of {readers} simulated"
    return [f"all {readers}", whose, "", _share(panel["accuracy"]), *[""] * 6, panel["verdict"]]


def _share(summary: Mapping[str, Any] | None) -> str:
    """A share and its interval; the share alone where there is no interval, "-" without any."""
    if summary is None or summary["mean"] is None:
        return "-"
    return f"{summary['mean']:.2f}" if summary["low"] is None else interval(summary, "{:.2f}")


def _agreement(ours: Mapping[str, Any]) -> str:
    """A line on Fleiss' kappa."""
    kappa = ours["panel"]["kappa"]
    return f"Fleiss' kappa: {_share(kappa)} (bootstrap over images, these readers)"


def _tested(ours: Mapping[str, Any]) -> str:
    """A line on the test of equivalence, its power, and how many readings it needs."""
    panel, needed = ours["panel"], ours["needed"]
    if panel["equivalence"] is None:
        return "no image was read by all readers: nothing is said of them together"
    tested, accuracy = panel["equivalence"], panel["accuracy"]
    chance = "not known" if tested["power"] is None else f"{tested['power']:.2f}"
    return (
        f"equivalence to guessing within ±{tested['margin']:.2f}: {'yes' if tested['equivalent'] else 'not shown'} "
        f"(power {chance}); {accuracy['readers']} readers x {accuracy['images']} images tell as much as "
        f"{accuracy['effective_readings']:.0f} independent answers, and 80 % power needs {needed['exact']}"
    )
