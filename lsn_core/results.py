"""Results that can be trusted later: summaries with intervals, `metrics.json` with provenance, and plain tables."""

import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lsn_core.files import InputError, read_bytes, read_json, write_json

LIBRARIES = ("lsn-core", "torch", "torchvision", "numpy", "scipy", "torchmetrics")
RESAMPLES = 1000
PACKAGE = Path(__file__).parent
PLACES = (PACKAGE.parent / "book" / "results", PACKAGE / "results_kept")  # in a checkout, and in a wheel
RECORDS = next((place for place in PLACES if place.is_dir()), PLACES[0])


def summarise(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> dict[str, float | int | None]:
    """Mean, SD, n and a 95 % interval of the mean, resampling whole groups (joints), since visits are not independent.

    NaN values (an empty band, no overlap) are left out and `n` says how many are left; all None without any.
    """
    kept = [(float(v), g) for v, g in zip(values, groups, strict=True) if math.isfinite(v)]
    if not kept:
        return {"mean": None, "sd": None, "n": 0, "groups": 0, "low": None, "high": None}
    x, names = np.array([v for v, _ in kept]), np.array([g for _, g in kept])
    low, high = clustered_interval(x, names, seed=seed)
    sd = float(x.std(ddof=1)) if len(x) > 1 else 0.0
    return {"mean": float(x.mean()), "sd": sd, "n": len(x), "groups": len(set(names)), "low": low, "high": high}


def clustered_interval(x: np.ndarray, names: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """2.5 and 97.5 percentile of the mean over bootstrap samples of whole groups."""
    _, index = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(index, weights=x), np.bincount(index)
    picks = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def provenance(**known: Any) -> dict[str, Any]:
    """Where numbers come from: commit, device, versions and date, beside what the caller knows (data, seed, ...)."""
    return {
        **known,
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "device": device_name(),
        "versions": {name: version(name) for name in LIBRARIES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit() -> str | None:
    """The commit of this checkout, with "+changes" where files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def device_name() -> str:
    """The accelerator torch would use, or the CPU with its number of threads and vector instructions."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def write_metrics(path: Path, metrics: dict[str, Any], **known: Any) -> Path:
    """Write `metrics.json`: the numbers, and the provenance that makes them quotable."""
    return write_json(path, {"metrics": metrics, "provenance": provenance(**known)})


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as aligned columns, the first row a header; the first column is left-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in (rows[0], rule, *rows[1:])]
    return "\n".join("  ".join(line) for line in lines)


def interval(summary: Mapping[str, Any], form: str) -> str:
    """Mean and 95 % interval of a summary in one cell, numbers as `form` ("{:.2f}") shows them; "-" without any."""
    if summary["mean"] is None:
        return "-"
    mean, low, high = (form.format(summary[key]) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def listing(summaries: Mapping[str, Mapping[str, Any]], headings: Mapping[str, str]) -> str:
    """One row for each number of `headings`, its name there, n, mean ± SD and the mean's interval."""
    rows = [["", "n", "mean ± SD", "95 % interval"]]
    for name, heading in headings.items():
        found = summaries[name]
        spread = "-" if found["mean"] is None else f"{found['mean']:.3g} ± {found['sd']:.2g}"
        ends = "-" if found["mean"] is None else f"[{found['low']:.3g}, {found['high']:.3g}]"
        rows.append([heading, str(found["n"]), spread, ends])
    return table(rows)


def limits_of_agreement(
    differences: Sequence[float], groups: Sequence[str], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Bland and Altman's bias and 95 % limits, mean ± 1.96 SD of the differences; each "value", "low" and "high".

    The intervals are 95 %, resampling whole groups (joints). NaN differences are left out.
    """
    kept = [(float(d), g) for d, g in zip(differences, groups, strict=True) if math.isfinite(d)]
    x, index = np.array([d for d, _ in kept]), np.unique([g for _, g in kept], return_inverse=True)[1]
    counts, sums, squares = (np.bincount(index, weights=part) for part in (np.ones_like(x), x, x**2))
    picks = np.random.default_rng(seed).integers(len(counts), size=(RESAMPLES, len(counts)))
    picks = np.concatenate((np.arange(len(counts))[None], picks))  # the sample itself comes first
    n, total, square = (part[picks].sum(axis=1) for part in (counts, sums, squares))
    mean = total / n
    spread = 1.96 * np.sqrt(np.maximum(square / n - mean**2, 0) * n / np.maximum(n - 1, 1))
    found = {"bias": mean, "lower_limit": mean - spread, "upper_limit": mean + spread}
    ends = {name: np.percentile(values[1:], [2.5, 97.5]) for name, values in found.items()}
    return {
        name: {"value": float(values[0]), "low": float(ends[name][0]), "high": float(ends[name][1])}
        for name, values in found.items()
    }


def side_by_side(runs: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> str:
    """A table of summaries, one row a metric and one column a run: mean ± SD, or "-" where there was nothing to sum."""
    rows = [["mean ± SD", *runs]]
    for metric in metrics:
        summaries = [run[metric] for run in runs.values()]
        cells = ["-" if s["mean"] is None else f"{s['mean']:.4g} ± {s['sd']:.2g}" for s in summaries]
        rows.append([metric, *cells])
    return table(rows)


def means(runs: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The means alone, of each run and metric."""
    return {name: {metric: run[metric]["mean"] for metric in metrics} for name, run in runs.items()}


def beside(paper: Mapping[str, float | None], ours: Mapping[str, Mapping[str, Any]], *, names: Sequence[str]) -> str:
    """A table of the paper's values, ours with its SD, and their ratio; "-" where the paper's is not known."""
    rows = [["", "paper", "ours ± SD", "ours / paper"]]
    for name in names:
        known, found = paper.get(name), ours[name]
        cells = ["-" if known is None else f"{known:.3g}", f"{found['mean']:.3g} ± {found['sd']:.2g}"]
        rows.append([name, *cells, "-" if known is None else f"{found['mean'] / known:.2f}"])
    return table(rows)


def counts(rows: Sequence[Any]) -> str:
    """How many radiographs and joints a data set's rows hold: one line a finger."""
    fingers = sorted({row.finger or "unknown" for row in rows})
    lines = [["finger", "radiographs", "joints"]]
    for finger in [*fingers, "all"]:
        some = [row for row in rows if finger in ("all", row.finger or "unknown")]
        lines.append([finger, str(len(some)), str(len({row.joint for row in some}))])
    return table(lines)


def recorded(name: str) -> dict[str, Any]:
    """Metrics and provenance of a full run that the project keeps in book/results; `InputError` without such a run."""
    return read_json(_record(f"{name}.json"))


def recorded_log(name: str) -> list[dict[str, float | int]]:
    """The log of a full run that the project keeps in book/results, one dict a step."""
    return [json.loads(line) for line in read_bytes(_record(f"{name}.jsonl")).splitlines()]


def _record(name: str) -> Path:
    """A file of book/results."""
    if not (RECORDS / name).is_file():
        known = ", ".join(sorted(path.name for path in RECORDS.glob("*.json*"))) or "none"
        raise InputError(f"{RECORDS / name}: no such recorded run; this checkout has {known}")
    return RECORDS / name
