"""Downstream results: what each arm reaches, what pre-training changes, and what it is worth in annotated joints.

Everything is computed from the answers that runs leave behind. Intervals draw seeds and whole joints again.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lsn_core.agreement import bland_altman, icc_2_1, regression_scores, smallest_detectable_change
from lsn_core.answers import Rows, read_answers
from lsn_core.coaching import ANSWERS, METRICS
from lsn_core.files import InputError, read_json
from lsn_core.grading import confusion, holm, ordinal_scores, paper_scores
from lsn_core.jsw import svdh_like
from lsn_core.masks import FRAME
from lsn_core.phantom import FIELD_MM
from lsn_core.progression import error_scores, mean_of_known, phase_sigmas, rows_as_pairs
from lsn_core.ranking import crossed_interval
from lsn_core.results import RESAMPLES

PX_MM = FIELD_MM / FRAME  # of a 256 px frame, in whose px the paper's errors are
FLIPS = 10_000  # exchanges of the two arms, for a p-value
CONTROL, PRETRAINED = "control", "pretrained"
RIVALS = (  # what else a pre-trained arm is compared with: a control that is as bare, and one that learns faster
    ("bare_pretrained", "bare_control"),
    ("pretrained", "fastest"),
    ("pretrained_faster", "fastest"),
)

Numbers = dict[str, float]
PerRow = Float[np.ndarray, "seeds rows"]


@dataclass(frozen=True)
class Setting:
    """What runs of several seeds have in common."""

    task: str
    network: str
    arm: str
    share: float


Runs = dict[Setting, dict[int, Rows]]


def read_runs(folder: Path) -> Runs:
    """The answers of all runs of a folder that are done, by setting and seed. Raises `InputError` without any."""
    found: Runs = {}
    for path in sorted(folder.glob(f"*/{METRICS}")):
        task, network, arm, percent, seed = path.parent.name.split("-")
        setting = Setting(task, network, arm, float(percent) / 100)
        found.setdefault(setting, {})[int(seed)] = read_answers(path.parent / ANSWERS)
    if not found:
        raise InputError(f"{folder}: no run in it is done; run 'lsn downstream train' first")
    return found


def column(rows: Rows, name: str) -> np.ndarray:
    """One column of answers."""
    return np.array([row[name] for row in rows])


def width_scores(rows: Rows) -> Numbers:
    """Errors in mm and px, limits of agreement for repeated measures, ICC(2,1) and smallest detectable change."""
    found, true, joints = (column(rows, name) for name in ("found", "true", "joint"))
    errors = regression_scores(found, true)
    limits = {name: one["value"] for name, one in bland_altman(found, true, joints).items() if isinstance(one, dict)}
    kept = {f"{name}_mm": limits[name] for name in ("bias", "lower_limit", "upper_limit")}
    lengths = {f"{name}_mm": errors[name] for name in ("mae", "rmse")}
    px = {"mae_px": errors["mae"] / PX_MM, "mse_px2": errors["mse"] / PX_MM**2}
    alike = {"icc_2_1": icc_2_1(np.stack((found, true), axis=1))["value"], "slope": limits["slope"]}
    sdc = smallest_detectable_change(found, true)["sdc"]
    return px | lengths | {"evs": errors["evs"], "r2": errors["r2"]} | kept | alike | {"sdc_mm": sdc}


def grade_scores(rows: Rows) -> Numbers:
    """The paper's numbers, and those that an ordinal grading should be told by."""
    found, true = (column(rows, name).astype(int) for name in ("found", "true"))
    return paper_scores(found, true) | ordinal_scores(found, true)


def narrowing_scores(rows: Rows) -> Numbers:
    """Scatter, closure, image error and mismatches; errors against the true change, over pairs that are no mismatch."""
    found, true, sd, error = (column(rows, name) for name in ("found", "true", "sd", "error"))
    closure = np.array(list(phase_sigmas(rows_as_pairs(rows), found).values()))
    scores = {"mse": mean_of_known(error), "sigma_mm": mean_of_known(sd), "phase_sigma_mm": mean_of_known(closure)}
    scores |= {"mismatch": float(np.isnan(found).mean())} | error_scores(found - true)
    both_mm = mean_of_known(np.abs(both_ways(rows) - true))
    return scores | {"mae_both_ways_mm": both_mm} | correlations(found, true)


def both_ways(rows: Rows) -> np.ndarray:
    """Each pair's narrowing as the mean of it and of the widening that is found the other way round."""
    found = {(row["name"], row["fixed"]): row["found"] for row in rows}
    there, back = (np.array([found.get(pair, math.nan) for pair in pairs]) for pairs in (found, map(_reversed, found)))
    return (there - back) / 2


def _reversed(pair: tuple[str, str]) -> tuple[str, str]:
    """A pair the other way round."""
    return pair[1], pair[0]


def correlations(found: np.ndarray, true: np.ndarray) -> Numbers:
    """Pearson's "r" and Spearman's "rank_r" over what is known; NaN where one of them is the same everywhere.

    A few large values can make the former alone.
    """
    from scipy.stats import pearsonr, spearmanr

    known = np.isfinite(found) & np.isfinite(true)
    if known.sum() < 2 or min(np.ptp(found[known]), np.ptp(true[known])) == 0:
        return {"r": math.nan, "rank_r": math.nan}
    judges = {"r": pearsonr, "rank_r": spearmanr}
    return {name: float(judge(found[known], true[known]).statistic) for name, judge in judges.items()}


SCORES: dict[str, Callable[[Rows], Numbers]] = {"jsn": narrowing_scores, "jsw": width_scores, "svdh": grade_scores}


def absolute(rows: Rows) -> np.ndarray:
    """Of each row the absolute error."""
    return np.abs(column(rows, "found") - column(rows, "true"))


def wrong(rows: Rows) -> np.ndarray:
    """Of each row 1 where the grade is not the true one."""
    return (column(rows, "found") != column(rows, "true")).astype(float)


ERRORS: dict[str, dict[str, Callable[[Rows], np.ndarray]]] = {  # what arms are compared by, lower is better
    "jsn": {"mae_mm": absolute, "sigma_mm": lambda rows: column(rows, "sd")},
    "jsw": {"mae_mm": absolute},
    "svdh": {"wrong": wrong, "steps": absolute},
}


def gather_downstream(folder: Path) -> dict[str, Any]:
    """What the runs of a folder say: scores of each setting, differences of arms, and what pre-training is worth."""
    if len(origin(folder)["cohorts"]) > 1:
        raise InputError(f"{folder}: its runs are of several cohorts; keep those of one, the others in another folder")
    runs = read_runs(folder)
    settings = [_described(folder, setting, seeds) for setting, seeds in runs.items()]
    asked = {"contrasts": contrasts, "rivals": rivals, "worth": worths, "read_off": read_off}
    return {"settings": settings, **{name: ask(runs) for name, ask in asked.items()}}


def _described(folder: Path, setting: Setting, seeds: Mapping[int, Rows]) -> dict[str, Any]:
    """One setting: scores over seeds, mean errors with intervals, the confusion of grades, and speeds."""
    scores = [SCORES[setting.task](rows) for rows in seeds.values()]
    records = [read_json(_folder(folder, setting, seed) / METRICS) for seed in seeds]
    measured = [record["metrics"]["images_a_second"] for record in records if record["metrics"]]
    found = {
        **vars(setting),
        "seeds": list(seeds),
        "rows": len(next(iter(seeds.values()))),
        "scores": {name: over_seeds([one[name] for one in scores]) for name in scores[0]},
        "errors": {name: mean_error(seeds, of) for name, of in ERRORS[setting.task].items()},
        "devices": sorted({record["provenance"]["device"] for record in records}),
        "images_a_second": {name: float(np.median([one[name] for one in measured])) for name in (measured or [{}])[0]},
    }
    return found | ({"confusion": confusions(seeds)} if setting.task == "svdh" else {})


def _folder(folder: Path, setting: Setting, seed: int) -> Path:
    """The folder of one run."""
    return folder / f"{setting.task}-{setting.network}-{setting.arm}-{100 * setting.share:g}-{seed}"


def confusions(seeds: Mapping[int, Rows]) -> list[list[int]]:
    """Confusion matrices of all seeds, summed; rows are the true classes."""
    tables = [confusion(*(column(rows, name).astype(int) for name in ("found", "true"))) for rows in seeds.values()]
    return np.sum(tables, axis=0).tolist()


def over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and SD of a score over seeds; None where it is not known."""
    known = [value for value in values if math.isfinite(value)]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)) if known else None, "sd": sd}


def origin(folder: Path) -> dict[str, Any]:
    """On what cohort, with what code and on which devices the runs of a folder were made."""
    records = [read_json(path)["provenance"] for path in sorted(folder.glob(f"*/{METRICS}"))]
    cohorts = {json.dumps(record.get("cohort"), sort_keys=True) for record in records}
    told = {name: sorted({str(record[name]) for record in records}) for name in ("device", "commit")}
    return {"cohorts": [json.loads(one) for one in sorted(cohorts)], "runs": len(records), "made": told}


def errors_of(seeds: Mapping[int, Rows], of: Callable[[Rows], np.ndarray]) -> tuple[PerRow, np.ndarray]:
    """Each row's error with each seed, and the rows' joints; rows that are NaN with any seed are left out."""
    values = np.array([of(rows) for rows in seeds.values()])
    kept = np.isfinite(values).all(axis=0)
    return values[:, kept], column(next(iter(seeds.values())), "joint")[kept]


def mean_error(seeds: Mapping[int, Rows], of: Callable[[Rows], np.ndarray]) -> dict[str, float | None]:
    """Mean error with a 95 % interval."""
    return _summed(*errors_of(seeds, of))


def _summed(values: PerRow, joints: np.ndarray) -> dict[str, float | None]:
    """Mean and 95 % interval of values, seeds and whole joints drawn again; None without any."""
    if not values.size:
        return {"mean": None, "low": None, "high": None}
    low, high = crossed_interval(values, joints)
    return {"mean": float(values.mean()), "low": low, "high": high}


def as_grades(rows: Rows) -> Rows:
    """Answers to the width as answers to the class: each width's own."""
    return [row | {name: svdh_like(row[name]) for name in ("true", "found")} for row in rows]


def read_off(runs: Runs) -> list[dict[str, Any]]:
    """Of each setting that grades: top-1 beside that of classes read off the widths of the same network, arm and share.

    "mean", "low", "high" and "p" are of its share of wrong classes less that of those read off.
    """
    found = []
    for setting, graded in runs.items():
        widths = runs.get(replace(setting, task="jsw"), {})
        seeds = sorted(graded.keys() & widths.keys())
        if setting.task == "svdh" and seeds:
            own, read = {s: graded[s] for s in seeds}, {s: as_grades(widths[s]) for s in seeds}
            tops = [over_seeds([grade_scores(rows)["top1"] for rows in some.values()]) for some in (own, read)]
            both = dict(zip(("graded", "read"), tops, strict=True))
            found.append({**vars(setting), "seeds": seeds, **both, **difference(own, read, wrong)})
    return found


def contrasts(runs: Runs) -> list[dict[str, Any]]:
    """Each arm less the control of the same task, network and share, with the seeds that both have.

    "holm" is the p-value corrected for the tasks (pre-trained arms of one network, share and error), and for the arms
    (all others of one task).
    """
    arms = dict.fromkeys(setting.arm for setting in runs if setting.arm != CONTROL)
    return _corrected([one for arm in arms for one in _against(runs, arm, CONTROL)])


def rivals(runs: Runs) -> list[dict[str, Any]]:
    """Pre-trained arms less other controls than the first; p-values as they are."""
    return [one | {"against": other} for arm, other in RIVALS for one in _against(runs, arm, other)]


def _against(runs: Runs, arm: str, other: str) -> Iterator[dict[str, Any]]:
    """One arm less another, at each task, network and share."""
    for setting, seeds in runs.items():
        against = runs.get(replace(setting, arm=other), {}) if setting.arm == arm else {}
        shared = sorted(seeds.keys() & against.keys())
        for name, of in ERRORS[setting.task].items() if shared else ():
            pair = [{seed: some[seed] for seed in shared} for some in (seeds, against)]
            yield {**vars(setting), "error": name, "seeds": shared, **difference(*pair, of)}


def difference(
    one: Mapping[int, Rows], other: Mapping[int, Rows], of: Callable[[Rows], np.ndarray]
) -> dict[str, float | None]:
    """Mean of one arm's errors less another's, paired by row and seed, with a 95 % interval and a p-value."""
    values = np.array([of(one[seed]) - of(other[seed]) for seed in one])
    kept = np.isfinite(values).all(axis=0)
    values, joints = values[:, kept], column(next(iter(one.values())), "joint")[kept]
    return _summed(values, joints) | {"p": exchange_p(values.mean(axis=0), joints)}


def exchange_p(differences: Float[np.ndarray, " rows"], joints: np.ndarray, *, seed: int = 0) -> float:
    """Two-sided p-value of no difference: how often as large a mean comes when arms are exchanged joint by joint."""
    _, index = np.unique(joints, return_inverse=True)
    sums = np.bincount(index, weights=differences)
    signs = np.random.default_rng(seed).integers(2, size=(FLIPS, len(sums))) * 2 - 1
    return float((1 + (abs(signs @ sums) >= abs(sums.sum()) - 1e-12).sum()) / (FLIPS + 1))


def _corrected(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with p-values corrected within their family."""
    first = {task: next(iter(errors)) for task, errors in ERRORS.items()}
    families: dict[tuple[Any, ...], dict[str, float]] = {}
    for k, one in enumerate(found):
        if one["error"] == first[one["task"]]:
            family = (one["network"], one["share"], "tasks" if one["arm"] == PRETRAINED else one["task"])
            families.setdefault(family, {})[str(k)] = one["p"]
    adjusted = {k: p for family in families.values() for k, p in holm(family).items()}
    return [one | {"holm": adjusted.get(str(k))} for k, one in enumerate(found)]


def worths(runs: Runs) -> list[dict[str, Any]]:
    """For each task and network: the share of joints at which the pre-trained arm equals the control with all."""
    found = []
    for task, network in sorted({(s.task, s.network) for s in runs}):
        shares = sorted(s.share for s in runs if (s.task, s.network, s.arm) == (task, network, PRETRAINED))
        full = runs.get(Setting(task, network, CONTROL, 1.0))
        if full and len(shares) > 1:
            curve = [runs[Setting(task, network, PRETRAINED, share)] for share in shares]
            for name, of in ERRORS[task].items():
                found.append({"task": task, "network": network, "error": name, **worth(shares, curve, full, of)})
    return found


def worth(
    shares: Sequence[float],
    curve: Sequence[Mapping[int, Rows]],
    full: Mapping[int, Rows],
    of: Callable[[Rows], np.ndarray],
) -> dict[str, float | None]:
    """The smallest share at which the curve falls to the mean of `full`, and a 95 % interval; None where it does not.

    "reached" is how many of the samples reach it; the interval is that of those which do, the others count as above 1.
    """
    parts = [_by_joint(*errors_of(seeds, of)) for seeds in (*curve, full)]
    dice = np.random.default_rng(0)
    samples = [[part.mean(axis=0).sum() for part in parts]]
    for _ in range(RESAMPLES):
        pick = dice.integers(parts[0].shape[1], size=parts[0].shape[1])
        samples.append([part[dice.integers(len(part), size=len(part))].mean(axis=0)[pick].sum() for part in parts])
    crossings = np.array([crossing(shares, sample[:-1], sample[-1]) for sample in samples])
    low, high = np.quantile(crossings[1:], [0.025, 0.975], method="inverted_cdf")
    ends = {"share": crossings[0], "low": low, "high": high}
    return {name: float(v) if math.isfinite(v) else None for name, v in ends.items()} | {
        "reached": float(np.isfinite(crossings[1:]).mean())
    }


def _by_joint(values: PerRow, joints: np.ndarray) -> Float[np.ndarray, "seeds joints"]:
    """Sums of errors of each joint."""
    _, index = np.unique(joints, return_inverse=True)
    return np.array([np.bincount(index, weights=row) for row in values])


def crossing(shares: Sequence[float], errors: Sequence[float], level: float) -> float:
    """Where a falling curve over shares first reaches a level, straight between points in the logarithm; inf: never."""
    if errors[0] <= level:
        return shares[0]
    for k in range(1, len(shares)):
        if errors[k] <= level:
            part = (errors[k - 1] - level) / (errors[k - 1] - errors[k])
            return float(shares[k - 1] * (shares[k] / shares[k - 1]) ** part)
    return math.inf
