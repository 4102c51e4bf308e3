"""Ranking: the runs of an ablation side by side, their differences with intervals, and which numbers mislead."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsn_core.ablation import MEASURED, TRAINED, Plan, Variant
from lsn_core.cases import KNOWN
from lsn_core.files import InputError, read_bytes, read_json
from lsn_core.results import RESAMPLES, interval, table

LAYER_ERRORS = ("soft_mask_mae", "lower_mask_mae", "upper_mask_mae")  # their mean is the layer error
PREFIXES = {"data": "", "film": "film_", "clean": "clean_"}

REPORTED = {  # metric: heading and format of the printed table
    "psnr_hand_db": ("PSNR hand dB", "{:.1f}"),
    "shadow": ("shadow", "{:.3f}"),
    "grain_db": ("grain dB", "{:.1f}"),
    "shade_auc": ("shade AUC", "{:.3f}"),
    "film_layer_error": ("layer error", "{:.4f}"),
    "film_soft_mask_psnr_db": ("soft dB", "{:.1f}"),
    "film_lower_mask_psnr_db": ("lower dB", "{:.1f}"),
    "film_upper_mask_psnr_db": ("upper dB", "{:.1f}"),
}
LEGEND = """mean ± SD over seeds. PSNR, shadow, grain and shade: on the data's test split; layers: on phantoms as film,
each bone in its mask, soft tissue under both; layer error: mean absolute error of the three."""

Numbers = dict[str, np.ndarray]  # each metric of each image, (n,)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file. Raises `InputError` where it is missing."""
    return list(csv.DictReader(io.StringIO(read_bytes(path).decode())))


def numbers_of(folder: Path) -> tuple[Numbers, dict[str, np.ndarray]]:
    """Each number of a measured run, image by image, and the joints of the images of "data", "film" and "clean"."""
    known = {"data": read_rows(folder / f"{Path(MEASURED).stem}.csv")}
    phantoms = read_rows(folder / f"{Path(MEASURED).stem}_phantoms.csv")
    known |= {kind: [row for row in phantoms if row["image"] == kind] for kind in ("film", "clean")}
    found = {
        f"{PREFIXES[kind]}{name}": np.array([float(row[name] or "nan") for row in rows])
        for kind, rows in known.items()
        for name in rows[0].keys() - {*KNOWN, "image"}
    }
    for kind in ("film", "clean"):
        found[f"{kind}_layer_error"] = np.mean([found[f"{kind}_{name}"] for name in LAYER_ERRORS], axis=0)
    return found, {kind: np.array([row["joint"] for row in rows]) for kind, rows in known.items()}


def kind_of(metric: str) -> str:
    """Whose images a number is of: "data", "film" or "clean"."""
    return next((kind for kind in ("film", "clean") if metric.startswith(PREFIXES[kind])), "data")


class Board:
    """All measured runs of a plan: each number of each image with each seed."""

    def __init__(self, runs: Path, plan: Plan) -> None:
        """Read every run that is measured. Raises `InputError` where none is."""
        self.variants = {variant.name: variant for variant in plan.variants}
        self.runs: dict[tuple[str, int], Numbers] = {}
        for seed in plan.seeds:
            for variant in plan.variants:
                folder = variant.folder(runs, seed)
                if (folder / MEASURED).exists():
                    self.runs[variant.name, seed], self.joints = numbers_of(folder)
        if not self.runs:
            raise InputError(f"{runs}: no run of this plan is measured; run 'lsn ablate' on it to its end")

    def seeds(self, *variants: str) -> list[int]:
        """Seeds with which all of the variants were run."""
        return [seed for seed in sorted({s for _, s in self.runs}) if all((v, seed) in self.runs for v in variants)]

    def contrast(self, weights: Mapping[str, float], metric: str) -> dict[str, Any]:
        """A weighted sum of variants' means, paired by seed and image, with a 95 % interval.

        Joints and seeds are resampled, each as a whole; three seeds are few, and the part of the interval that comes
        from them too narrow. "seeds" holds the value with each.
        """
        seeds = self.seeds(*weights)
        values = np.array([sum(w * self.runs[v, s][metric] for v, w in weights.items()) for s in seeds])
        kept = np.isfinite(values).all(axis=0) if seeds else np.zeros(0)
        if not kept.any():
            return {"mean": None, "seeds": [], "sd": None, "n": 0, "low": None, "high": None}
        values, joints = values[:, kept], self.joints[kind_of(metric)][kept]
        low, high = crossed_interval(values, joints)
        each = values.mean(axis=1)
        sd = float(each.std(ddof=1)) if len(each) > 1 else None
        return {"mean": float(values.mean()), "seeds": each.tolist(), "sd": sd, "n": int(kept.sum())} | {
            "low": low,
            "high": high,
        }

    def table(self, metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Every variant's mean of every metric, with intervals."""
        return {name: {m: self.contrast({name: 1.0}, m) for m in metrics} for name in self.variants if self.seeds(name)}


def crossed_interval(values: np.ndarray, joints: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """2.5 and 97.5 percentile of the mean of values (seeds, images) when seeds and whole joints are drawn again."""
    _, index = np.unique(joints, return_inverse=True)
    sums = np.array([np.bincount(index, weights=row) for row in values])
    counts = np.bincount(index)
    dice = np.random.default_rng(seed)
    rows = dice.integers(len(values), size=(RESAMPLES, len(values)))
    picks = dice.integers(len(counts), size=(RESAMPLES, len(counts)))
    means = [sums[row][:, pick].sum() / (len(row) * counts[pick].sum()) for row, pick in zip(rows, picks, strict=True)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def agreement_with(board: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], judge: str) -> dict[str, float]:
    """Spearman's correlation of each metric with the `judge` over the variants: 1 where it ranks them alike.

    Without metrics that some variant lacks, or that are the same for all.
    """
    from scipy.stats import spearmanr

    columns = {metric: [row[metric]["mean"] for row in board.values()] for metric in (*metrics, judge)}
    ranking = {metric: column for metric, column in columns.items() if None not in column and len(set(column)) > 1}
    if judge not in ranking:
        return {}
    return {metric: float(spearmanr(column, ranking[judge]).statistic) for metric, column in ranking.items()}


def gather_board(runs: Path, plan: Plan) -> dict[str, Any]:
    """All that the measured runs of a plan say: each variant's numbers, the plan's contrasts, and what ranks alike."""
    board = Board(runs, plan)
    metrics = sorted(next(iter(board.runs.values())))
    numbers = board.table(metrics)
    variants = {
        name: {
            "tells": board.variants[name].tells,
            "table_2": board.variants[name].table_2,
            "training": _trained(runs, board.variants[name], board.seeds(name)),
            "numbers": found,
        }
        for name, found in numbers.items()
    }
    contrasts = {
        name: {"tells": one.tells} | {m: board.contrast(one.weights, m) for m in metrics}
        for name, one in plan.contrasts.items()
        if board.seeds(*one.weights)
    }
    alike = agreement_with(numbers, metrics, "film_layer_error")
    return {"variants": variants, "contrasts": contrasts, "agreement_with_layer_error": alike}


def _trained(runs: Path, variant: Variant, seeds: Sequence[int]) -> dict[str, Any]:
    """What its trainings took: steps and minutes of each seed, the commits of their code, and settings."""
    records = [read_json(variant.folder(runs, seed) / TRAINED) for seed in seeds]
    return {
        "steps": [record["metrics"]["steps"] for record in records],
        "minutes": [round(record["metrics"]["minutes"], 2) for record in records],
        "commits": sorted({record["provenance"]["commit"] for record in records}),
    }


def origin(runs: Path, plan: Plan) -> dict[str, Any]:
    """On which data the runs were measured, and by which commits."""
    found = [variant.folder(runs, seed) / MEASURED for seed in plan.seeds for variant in plan.variants]
    records = [read_json(path)["provenance"] for path in found if path.exists()]
    data = sorted({record["data"] for record in records})
    return {"data": data, "split": "test", "measured_by": sorted({str(record["commit"]) for record in records})}


def report(results: Mapping[str, Any]) -> str:
    """The variants side by side, the best by layer error first, and the contrasts."""
    numbers = {name: one["numbers"] for name, one in results["variants"].items()}
    ordered = dict(sorted(numbers.items(), key=lambda item: item[1]["film_layer_error"]["mean"]))
    titles = {name: one["tells"] for name, one in results["variants"].items()}
    rows = [["difference", *(heading for heading, _ in REPORTED.values())]]
    for one in results["contrasts"].values():
        rows.append([one["tells"], *(interval(one[metric], form) for metric, (_, form) in REPORTED.items())])
    return "\n\n".join((board_table(ordered, titles, REPORTED), table(rows), LEGEND))


def board_table(
    board: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], columns: Mapping[str, tuple[str, str]]
) -> str:
    """One row a variant, by its title: mean ± SD over seeds of each column's metric, as its format shows it."""
    rows = [["", *(heading for heading, _ in columns.values())]]
    for name, found in board.items():
        cells = [_cell(found[metric], form) for metric, (_, form) in columns.items()]
        rows.append([titles[name], *cells])
    return table(rows)


def _cell(summary: Mapping[str, Any], form: str) -> str:
    """A mean, and the SD of the seeds' means."""
    if summary["mean"] is None:
        return "-"
    spread = "" if summary["sd"] is None else f" ± {form.format(summary['sd'])}"
    return f"{form.format(summary['mean'])}{spread}"
