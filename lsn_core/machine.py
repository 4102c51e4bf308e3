"""The machine's answer to the visual Turing test: a classifier on joints that it never saw.

Two samples are compared as `two_sample` does, but every joint is tested once, by classifiers that learnt from the
others. The p is that of exchanging the answers; the same between two halves of the real joints says what is chance.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lsn_core.compare import Sample
from lsn_core.results import RESAMPLES, table
from lsn_core.two_sample import Halves, attention, contrast, frames_logits, grain, statistics_logits

Numbers = Float[np.ndarray, " n"]
Flags = Bool[np.ndarray, " n"]

KNOWN = ("name", "joint", "finger")
EXCHANGES = 2000
VIEWS = {"frames": contrast, "grain": grain}  # what the networks are shown
KINDS = ("statistics", *VIEWS)
LEGEND = """AUC: chance that of a synthetic and a real radiograph, of joints that the classifier never saw, it calls the
right one synthetic; 0.5 is guessing. [ ]: 95 % interval, resampling joints; p: share of random exchanges of the answers
with as large an AUC. Real against real: the same between two halves of the real joints.
statistics: logistic regression; frames: a network that sees pictures; grain: one that sees what a 5 px mean leaves."""


def folds(a: Sample, b: Sample, count: int, *, seed: int) -> Iterator[tuple[Halves, Halves]]:
    """Rows of both samples to learn from and to be tested on, so often that each joint is tested once.

    A joint of both samples is tested in the same turn; of a joint with several radiographs the first is tested.
    """
    names = np.random.default_rng(seed).permutation(sorted(set(a.joints) | set(b.joints)))
    for k in range(count):
        held = set(names[k::count])
        yield tuple(
            Halves(
                np.flatnonzero([joint not in held for joint in sample.joints]),
                np.array([i for joint in sorted(held) for i in np.flatnonzero(sample.joints == joint)[:1]], np.int64),
            )
            for sample in (a, b)
        )


def answer(synthetic: Sample, real: Sample, *, turns: int = 3, seed: int) -> dict[str, Any]:
    """AUC, accuracy and p of all classifiers, and what they look at: "weights" of statistics, "saliency" of networks.

    "heat" is where, on average, the answer of the network that is shown the grain depends on the pixels (256, 256).
    """
    told: dict[str, Any] = by_statistics(synthetic, real, turns=turns, seed=seed)
    parts = list(folds(synthetic, real, turns, seed=seed))
    regions = torch.cat([torch.cat((synthetic.regions[a.test], real.regions[b.test])) for a, b in parts])
    for kind, view in VIEWS.items():
        seen = [frames_logits(synthetic, real, *part, seed=seed + k, view=view) for k, part in enumerate(parts)]
        gradients = torch.cat([one for _, one in seen])
        told[kind] = judged(parts, [one for one, _ in seen], synthetic, real, seed=seed)
        told[kind]["saliency"] = attention(gradients, regions)
    return told | {"heat": gradients.mean(dim=0)}


def by_statistics(synthetic: Sample, real: Sample, *, turns: int = 3, seed: int) -> dict[str, Any]:
    """The answer of the statistics alone, in seconds: {"statistics": AUC, accuracy, p and the largest weights}."""
    parts = list(folds(synthetic, real, turns, seed=seed))
    names = [name for name in synthetic.rows[0] if name not in KNOWN]
    logits, weights = zip(*(statistics_logits(synthetic, real, *part, names) for part in parts), strict=True)
    mean = torch.stack(weights).mean(dim=0)[:-1]
    largest = mean.abs().argsort(descending=True)[:8].tolist()
    told = {"weights": {names[i]: float(mean[i]) for i in largest}}
    return {"statistics": judged(parts, logits, synthetic, real, seed=seed) | told}


def with_null(synthetic: Sample, real: Sample, *, turns: int = 3, seed: int) -> dict[str, dict[str, Any]]:
    """The answer, and that of real against real."""
    names = np.random.default_rng((seed, 1)).permutation(np.unique(real.joints))
    half = np.isin(real.joints, names[: len(names) // 2])
    first, second = (real.take(np.flatnonzero(some)) for some in (half, ~half))
    return {
        "synthetic against real": answer(synthetic, real, turns=turns, seed=seed),
        "real against real": answer(first, second, turns=turns, seed=seed),
    }


def judged(
    parts: list[tuple[Halves, Halves]], logits: Sequence[Tensor], synthetic: Sample, real: Sample, *, seed: int
) -> dict[str, float | int]:
    """How well the tested radiographs are told apart. Each turn's answers are centred, for its offset is its own."""
    ranks = np.concatenate([(one - one.median()).numpy() for one in logits])
    is_synthetic = np.concatenate([np.arange(len(a.test) + len(b.test)) < len(a.test) for a, b in parts])
    joints = np.concatenate([np.concatenate((synthetic.joints[a.test], real.joints[b.test])) for a, b in parts])
    low, high = resampled(ranks, is_synthetic, joints, seed=seed)
    area = area_under_roc(ranks, is_synthetic)
    return {
        "auc": area,
        "low": low,
        "high": high,
        "p": exchanged(ranks, is_synthetic, seed=seed),
        "accuracy": float(((ranks > 0) == is_synthetic).mean()),
        "n": len(ranks),
        "joints": len(set(joints)),
    }


def area_under_roc(ranks: Numbers, positive: Flags) -> float:
    """Chance that a positive one ranks above a negative one; ties count half."""
    from scipy.stats import rankdata

    n = positive.sum()
    return float((rankdata(ranks)[positive].sum() - n * (n + 1) / 2) / (n * (len(ranks) - n)))


def resampled(ranks: Numbers, positive: Flags, joints: np.ndarray, *, seed: int) -> tuple[float, float]:
    """95 % interval of the AUC, resampling joints with all that is of them."""
    random, (names, index) = np.random.default_rng(seed), np.unique(joints, return_inverse=True)
    members = [np.flatnonzero(index == k) for k in range(len(names))]

    def draw() -> float:
        rows = np.concatenate([members[k] for k in random.integers(len(names), size=len(names))])
        return area_under_roc(ranks[rows], positive[rows]) if 0 < positive[rows].sum() < len(rows) else np.nan

    low, high = np.nanpercentile([draw() for _ in range(RESAMPLES)], [2.5, 97.5])
    return float(low), float(high)


def exchanged(ranks: Numbers, positive: Flags, *, seed: int) -> float:
    """One-sided p: how often the answers, exchanged at random, are ranked as well."""
    random, found = np.random.default_rng(seed), area_under_roc(ranks, positive)
    chance = [area_under_roc(ranks, random.permutation(positive)) for _ in range(EXCHANGES)]
    return float((1 + (np.array(chance) >= found - 1e-12).sum()) / (EXCHANGES + 1))


def report(answers: dict[str, dict[str, Any]]) -> str:
    """A table of AUCs, and what the classifiers of the first answer look at."""
    rows = [["AUC on unseen joints", *answers]]
    for kind in KINDS:
        rows.append([kind, *(_cell(one[kind]) for one in answers.values())])
    first = next(iter(answers.values()))
    weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in first["statistics"]["weights"].items())
    looks = ", ".join(f"{name} x{one['per_area']:.1f}" for name, one in first["grain"]["saliency"].items())
    return f"{table(rows)}\n{LEGEND}\nlargest weights, + for synthetic: {weights}\nof the grain it looks at: {looks}"


def _cell(one: dict[str, Any]) -> str:
    """An AUC with its interval and p."""
    return f"{one['auc']:.2f} [{one['low']:.2f}, {one['high']:.2f}] p {one['p']:.2g}"
