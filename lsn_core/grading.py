"""Scores of ordinal classes, as the SvdH-like class 0 (wide) to 4 (narrow) of a joint, and corrected p-values.

`graded` is what a network or a reader says, `truth` what is so: whole numbers from 0 to `classes` - 1, one a joint and
at least one.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

Grades = Int[np.ndarray, " n"]


def confusion(graded: Grades, truth: Grades, *, classes: int = 5) -> Int[np.ndarray, "classes classes"]:
    """How many joints of each true class (rows) are graded as each class (columns)."""
    both = np.stack((truth, graded))
    if both.min() < 0 or both.max() >= classes:
        raise ValueError(f"classes are from {both.min()} to {both.max()}, not from 0 to {classes - 1}")
    return np.bincount(truth * classes + graded, minlength=classes**2).reshape(classes, classes)


def _shares(counts: np.ndarray, of: np.ndarray) -> Float[np.ndarray, " classes"]:
    """Ratios, 0 where they are not defined."""
    return np.where(of > 0, counts / np.maximum(of, 1), 0.0)


def paper_scores(graded: Grades, truth: Grades, *, classes: int = 5) -> dict[str, float]:
    """The paper's "accuracy", "sensitivity", "specificity", "precision" and "f1", as its published code has them.

    Each class against all others, then the mean over the classes; each in [0, 1]. An undefined ratio counts as 0:
    precision of a class that nobody is graded as, sensitivity of one that nobody has, specificity of one that all have,
    F1 of one that is neither. One-versus-rest accuracy is 1 - 2 (1 - top1) / classes, since an error is one in two of
    the classes only, and therefore flatters: of five classes, always wrong is 0.6 and guessing 0.68. Quote it beside
    `ordinal_scores` only.
    """
    table = confusion(graded, truth, classes=classes)
    hits, has, called = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    rejected = len(truth) - has - called + hits
    scores = {
        "accuracy": (hits + rejected) / len(truth),
        "sensitivity": _shares(hits, has),
        "specificity": _shares(rejected, len(truth) - has),
        "precision": _shares(hits, called),
        "f1": _shares(2 * hits, has + called),
    }
    return {name: float(each.mean()) for name, each in scores.items()}


def ordinal_scores(graded: Grades, truth: Grades, *, classes: int = 5) -> dict[str, float]:
    """What an ordinal grading should be told by: "top1", "balanced_accuracy", "quadratic_kappa" and "ordinal_mae".

    Top-1 is the share of right grades; balanced accuracy is the mean sensitivity of the classes that occur in `truth`,
    1 / (their number) for one who says the same everywhere; the mean absolute error is in classes, 0 to `classes` - 1.
    """
    table = confusion(graded, truth, classes=classes)
    has = table.sum(axis=1)
    return {
        "top1": float((graded == truth).mean()),
        "balanced_accuracy": float((table.diagonal()[has > 0] / has[has > 0]).mean()),
        "quadratic_kappa": quadratic_kappa(table),
        "ordinal_mae": float(np.abs(graded - truth).mean()),
    }


def quadratic_kappa(table: Int[np.ndarray, "classes classes"]) -> float:
    """Cohen's (1968) weighted kappa of a confusion matrix, disagreement weighted by its square; -1 to 1, 0 by chance.

    NaN where it is not defined: both grade everything as one and the same class.
    """
    steps = np.arange(len(table))
    weights = (steps[:, None] - steps) ** 2
    observed = (weights * table).sum() * table.sum()
    chance = (weights * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()
    return float(1 - observed / chance) if chance else math.nan


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for their number by Holm (1979), in the order given; what is below 0.05 errs at all in 5 %.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is below one that was smaller, nor above 1.
    """
    adjusted, least, left = {}, 0.0, len(p_values)
    for name in sorted(p_values, key=p_values.__getitem__):
        least = max(least, min(1.0, left * p_values[name]))
        adjusted[name], left = least, left - 1
    return {name: adjusted[name] for name in p_values}
