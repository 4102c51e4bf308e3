"""Two data sets compared, statistic by statistic: how far one's radiographs are from looking like the other's."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lsn_core.appearance import frame_regions, joint_statistics
from lsn_core.batch import resize
from lsn_core.data import open_dataset
from lsn_core.dataset import JointDataset
from lsn_core.files import InputError
from lsn_core.joint import FINGERS, Joint
from lsn_core.masks import FRAME
from lsn_core.radiograph import centroid
from lsn_core.results import RESAMPLES, summarise, table

APART_PX = 32.0  # between the bones' centres; closer, both masks are drawn on one bone
BAND = (5.0, 95.0)  # percent
FEW = 8  # joints below which a difference has no interval
LEGEND = """mean ± SD over radiographs; "B 5-95 %": the band that holds nine in ten of B; n: radiographs that have it.
difference: of the means in SDs of B; A inside: share of A within B's band, 0.90 where the two are alike.
[ ]: 95 % interval, resampling joints. Lengths are mm or px of a 256 px frame, brightness is 0 to 1.
_mean, _sd: of brightness in air, in soft tissue 6 px off the bones, in each bone 4 px inside, where bones overlap.
edge_px: 10-90 % width at the bones' sides. _texture: SD in 40 px (soft) and 48 px (bone) windows less their plane.
_fine: share of their power above 3 cycles per mm. _slope_low, _high: of log power over 0.37-1.5 and 0.5-2.4 per mm.
_grain: power of waves across the finger over along it. blockiness: step at 8 px blocks over others; 1: no JPEG.
subchondral: brightest line behind the joint surface over the shaft. head_centre: over the head's margins.
cortex: the shaft's margins over its middle. gap_mm: between the masks, which is not the joint space width.
contact: share of radiographs whose masks overlap; of it only the mean speaks."""


@dataclass(frozen=True)
class Sample:
    """Measured radiographs of one data set: a row of statistics each, and the frames a network may look at."""

    rows: list[dict[str, Any]]  # name, joint, finger and the statistics
    frames: Tensor  # (n, 1, 256, 256) float16
    regions: Tensor  # (n, 256, 256) uint8, an index into appearance.FRAME_REGIONS
    left_out: list[str]  # names of radiographs whose masks are both drawn on one bone

    @property
    def joints(self) -> np.ndarray:
        """The joint of each row."""
        return np.array([row["joint"] for row in self.rows])

    def take(self, index: np.ndarray) -> "Sample":
        """The radiographs at `index`."""
        rows, places = [self.rows[i] for i in index], torch.from_numpy(np.asarray(index, dtype=np.int64))
        return Sample(rows, self.frames[places], self.regions[places], [])

    def of(self, finger: str) -> "Sample":
        """The radiographs of one finger."""
        return self.take(np.array([i for i, row in enumerate(self.rows) if row["finger"] == finger], dtype=np.int64))

    def values(self, statistic: str) -> np.ndarray:
        """One statistic of every radiograph; NaN where it has none."""
        return np.array([row[statistic] for row in self.rows])


def measure_data(path: Path, *, split: str, limit: int | None, seed: int, name: str) -> tuple[Sample, dict[str, Any]]:
    """Measure a split of a data set, or `limit` radiographs of it drawn from `seed`; also says what was measured.

    Raises `InputError` for what cannot be opened or read.
    """
    dataset = open_dataset(path, split=split)
    if limit is not None and limit < len(dataset):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:limit])
        dataset = JointDataset([dataset.rows[i] for i in chosen], dataset.store)
    known = {"data": dataset.fingerprint(), "split": split, "radiographs": len(dataset)}
    return measure(tqdm(dataset, desc=f"measuring {name}", unit="image")), known


def measure(joints: Iterable[Joint]) -> Sample:
    """Measure every joint, leaving out those whose two masks are drawn on the same bone.

    Raises `InputError` where nothing is left, or a file cannot be used.
    """
    rows, frames, regions, left_out = [], [], [], []
    for joint in joints:
        at_256 = resize(joint, FRAME)
        if not _two_bones(at_256):
            left_out.append(joint.name)
            continue
        known = {"name": joint.name, "joint": joint.joint, "finger": joint.finger}
        rows.append(known | joint_statistics(at_256))
        frames.append(at_256.image.half())
        regions.append(torch.from_numpy(frame_regions(at_256)))
    if not rows:
        raise InputError(f"no radiograph with two bones among {len(left_out)}; see what 'lsn data check' says")
    return Sample(rows, torch.stack(frames), torch.stack(regions), left_out)


def _two_bones(joint: Joint) -> bool:
    """Whether the upper mask lies clearly above the lower one."""
    lower, upper = (float(centroid(joint.masks[None, k : k + 1])[1]) for k in (1, 2))
    return lower - upper >= APART_PX


def compare(a: Sample, b: Sample) -> dict[str, Any]:
    """Compare two samples: {"overall": {statistic: comparison}, "by_finger": {finger: the same}, "left_out": names}."""
    shared = {row["finger"] for row in a.rows} & {row["finger"] for row in b.rows}
    by_finger = {finger: _comparisons(a.of(finger), b.of(finger)) for finger in FINGERS if finger in shared}
    left_out = {"a": a.left_out, "b": b.left_out}
    return {"overall": _comparisons(a, b), "by_finger": by_finger, "left_out": left_out}


def _comparisons(a: Sample, b: Sample) -> dict[str, Any]:
    """The comparison of every statistic."""
    names = [name for name in a.rows[0] if name not in ("name", "joint", "finger")]
    return {name: compare_values(a.values(name), a.joints, b.values(name), b.joints) for name in names}


def compare_values(a: np.ndarray, a_joints: np.ndarray, b: np.ndarray, b_joints: np.ndarray) -> dict[str, Any]:
    """Compare one statistic of two sets whose visits belong to joints; NaN are left out.

    "a", "b": summary and 5-95 % band; "difference": of means in SDs of b; "inside": share of a inside b's band; both
    with a 95 % interval that resamples joints. None where there is nothing to compare.
    """
    (a, a_joints), (b, b_joints) = (
        (x[np.isfinite(x)], joints[np.isfinite(x)]) for x, joints in ((a, a_joints), (b, b_joints))
    )
    low, high = _band(b)
    inside = (a >= low) & (a <= high) if len(b) else np.full(len(a), np.nan)
    return {
        "a": _described(a, a_joints),
        "b": _described(b, b_joints),
        "difference": _difference(a, a_joints, b, b_joints),
        "inside": summarise(inside.tolist(), a_joints.tolist()),
    }


def _band(x: np.ndarray) -> tuple[float, float]:
    """5 and 95 percentile; NaN of nothing."""
    low, high = np.percentile(x, BAND) if len(x) else (np.nan, np.nan)
    return float(low), float(high)


def _described(x: np.ndarray, joints: np.ndarray) -> dict[str, Any]:
    """Summary of one set, with its band."""
    band = dict(zip(("p5", "p95"), _band(x) if len(x) else (None, None), strict=True))
    return summarise(x.tolist(), joints.tolist()) | band


def _difference(a: np.ndarray, a_joints: np.ndarray, b: np.ndarray, b_joints: np.ndarray) -> dict[str, float | None]:
    """Difference of the means in SDs of b, and its interval; None where b does not vary or a set is empty."""
    if not len(a) or len(b) < 2 or b.std() == 0:
        return {"value": None, "low": None, "high": None}
    random = np.random.default_rng(0)
    (a_mean, _), (b_mean, b_sd) = _resampled(a, a_joints, random), _resampled(b, b_joints, random)
    value = float((a.mean() - b.mean()) / b.std(ddof=1))
    if len(np.unique(b_joints)) < FEW:  # some resamples hardly vary, and their quotients mean nothing
        return {"value": value, "low": None, "high": None}
    low, high = np.percentile((a_mean - b_mean) / b_sd.clip(1e-12), [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def _resampled(x: np.ndarray, joints: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Means and SDs of bootstrap samples of whole joints."""
    _, index = np.unique(joints, return_inverse=True)
    centred = x - x.mean()
    sums = np.stack([np.bincount(index, weights=w) for w in (np.ones_like(x), centred, centred**2)])
    count, first, second = sums[:, random.integers(sums.shape[1], size=(RESAMPLES, sums.shape[1]))].sum(axis=-1)
    variance = second / count - (first / count) ** 2
    return x.mean() + first / count, np.sqrt(variance.clip(0) * len(x) / max(len(x) - 1, 1))


def report(results: dict[str, Any], *, by_finger: bool) -> str:
    """The tables of a comparison, what their columns mean, and what was left out."""
    parts = {"all": results["overall"]} | (results["by_finger"] if by_finger else {})
    tables = [f"{name}\n{comparison_table(part)}" for name, part in parts.items()]
    left_out = " and ".join(f"{len(names)} of {name.upper()}" for name, names in results["left_out"].items())
    return "\n\n".join([*tables, f"{LEGEND}\nleft out, both masks drawn on one bone: {left_out}"])


def comparison_table(comparisons: dict[str, Any]) -> str:
    """Comparisons as a table, one row a statistic."""
    rows = [["", "A", "B", "B 5-95 %", "n A", "n B", "difference", "A inside"]]
    for name, one in comparisons.items():
        a, b = one["a"], one["b"]
        cells = [_mean_sd(a), _mean_sd(b), _numbers(b["p5"], b["p95"]), str(a["n"]), str(b["n"])]
        rows.append([name, *cells, _interval(one["difference"], "value"), _interval(one["inside"], "mean")])
    return table(rows)


def _mean_sd(summary: dict[str, Any]) -> str:
    """Mean and SD in one cell."""
    return "-" if summary["mean"] is None else f"{summary['mean']:.3g} ± {summary['sd']:.2g}"


def _numbers(low: float | None, high: float | None) -> str:
    """Two ends of a range in one cell."""
    return "-" if low is None else f"{low:.3g} to {high:.3g}"


def _interval(one: dict[str, Any], key: str) -> str:
    """A value and its interval in one cell, where it has one."""
    if one[key] is None:
        return "-"
    return f"{one[key]:.2f}" if one["low"] is None else f"{one[key]:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
