"""Leaks: by what a set of radiographs could tell its answers without being looked at.

Each number is compared between the halves by exchanging the answers at random; what differs more than chance gives the
set away to a program, or to a reader who sorts a folder by size.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lsn_core.files import read_bytes
from lsn_core.results import table

GRIDS = (6, 8)  # px between the edges of JPEG blocks: of 256 px shown at 192, and as they were
RESAMPLES = 4000
LEVEL = 0.05  # of the corrected p below which a number is called a leak
LEGEND = """p: share of random exchanges of the answers with as large a difference of means; corrected for how many
numbers there are (Benjamini and Yekutieli). bytes, chunks: of the file; seconds: when it was changed; levels: greys
that occur; grid: step across lines that far apart over others; fine: SD of what a 3 px mean leaves, over SD."""


def traces(path: Path) -> dict[str, float]:
    """What one file tells beside what it shows."""
    with Image.open(path) as image:
        pixels, extras, depth = np.asarray(image), len(image.info), len(image.mode)
    values = pixels.astype(np.float64)
    file = {"bytes": path.stat().st_size, "chunks": extras, "seconds": path.stat().st_mtime, "bands": depth}
    shown = {"mean": values.mean(), "sd": values.std(), "lowest": values.min(), "highest": values.max()}
    grids = {f"grid {period} px": grid(values, period) for period in GRIDS}
    found = file | shown | {"levels": len(np.unique(pixels)), "fine": fine(values)} | grids
    return {name: float(value) for name, value in found.items()}


def grid(values: np.ndarray, period: int) -> float:
    """Mean step between neighbouring columns at multiples of `period`, over that at the others."""
    steps = np.abs(np.diff(values, axis=1)).mean(axis=0)
    at = np.arange(1, len(steps) + 1) % period == 0
    return float(steps[at].mean() / max(steps[~at].mean(), 1e-9))


def fine(values: np.ndarray) -> float:
    """Share of an image's variation that is finer than a mean over 3 px."""
    from scipy.ndimage import uniform_filter

    return float((values - uniform_filter(values, 3)).std() / max(values.std(), 1e-9))


def leaks(folder: Path, truth: Mapping[str, str], *, seed: int) -> dict[str, dict[str, Any]]:
    """Each number's mean in both halves of a set, and its p, corrected for how many there are.

    `truth` gives the answer of each image. Raises `InputError` where an image is missing.
    """
    from scipy.stats import false_discovery_control

    found = {name: traces(_there(folder / "images" / f"{name}.png")) for name in truth}
    synthetic = np.array([truth[name] == "synthetic" for name in found])
    columns = {name: np.array([one[name] for one in found.values()]) for name in next(iter(found.values()))}
    values = {name: exchanged(column, synthetic, seed=seed) for name, column in columns.items()}
    corrected = false_discovery_control(list(values.values()), method="by")
    return {
        name: {
            "real": float(x[~synthetic].mean()),
            "synthetic": float(x[synthetic].mean()),
            "p": p,
            "corrected": float(q),
        }
        for (name, x), p, q in zip(columns.items(), values.values(), corrected, strict=True)
    }


def _there(path: Path) -> Path:
    """A file that exists."""
    read_bytes(path)
    return path


def exchanged(values: np.ndarray, which: np.ndarray, *, seed: int) -> float:
    """Two-sided p of a difference of means: how often random exchanges make as large a one. 1 for constants."""
    if np.ptp(values) == 0:
        return 1.0
    random = np.random.default_rng(seed)
    orders = np.argsort(random.random((RESAMPLES, len(values))), axis=1)
    means = values[orders][:, : which.sum()].mean(axis=1)
    offset = abs(values[which].mean() - values.mean())
    return float((1 + (np.abs(means - values.mean()) >= offset - 1e-12).sum()) / (RESAMPLES + 1))


def leaking(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The numbers that tell the halves apart."""
    return [name for name, one in found.items() if one["corrected"] < LEVEL]


def report(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A table, and which numbers leak."""
    rows = [["number", "real", "synthetic", "p", "corrected"]]
    rows += [[n, *(f"{one[k]:.4g}" for k in ("real", "synthetic", "p", "corrected"))] for n, one in found.items()]
    told = ", ".join(leaking(found)) or "none"
    return f"{table(rows)}\n{LEGEND}\nnumbers that tell the halves apart: {told}"
