"""How well is joint space width measured? On phantoms, from three sources of layers; on radiographs, how repeatably.

python benchmarks/jsw.py DATA [OUT.json]

On phantoms the width is known. On radiographs it is not: what is printed there is an annotation, and its repeatability
says how far two annotations of one joint differ, not how far either is from the joint.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from tqdm import tqdm

from lsn_core.batch import resize
from lsn_core.data import open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.joint import FINGERS, Joint
from lsn_core.jsw import measure
from lsn_core.masks import grow
from lsn_core.networks import load_generator
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift, shift
from lsn_core.results import summarise, table, write_metrics

SEED, COUNT, SIZE = 20000, 200, 256
WIDTHS_MM = (0.2, 2.6)
BINS_MM = (0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6)
RESAMPLES = 1000
EVERY = 2  # of the radiographs' joints, how many share one that is perturbed
FAR_MM = 0.5  # two visits or perturbations that differ by more: one of them found another line

separator = load_generator("compact")


def network(joint: Joint) -> torch.Tensor:
    """Layers that the shipped generator finds."""
    return separator(joint.image[None], joint.masks[None])[0]


def unseparated(joint: Joint) -> torch.Tensor:
    """The radiograph given as all three layers: what can be measured without separating it."""
    return joint.image.expand(3, -1, -1)


SOURCES: dict[str, Callable[[Joint], torch.Tensor]] = {
    "true layers": lambda joint: joint.layers,
    "network": network,
    "image": unseparated,
}
REAL = {name: SOURCES[name] for name in ("network", "image")}


def width(joint: Joint, layers: torch.Tensor) -> float:
    """The measured joint space width in mm, NaN where there is none."""
    space = measure(layers.numpy(), joint.masks.numpy() > 0, spacing_mm=joint.spacing_mm)
    return space.jsw_mm if space else float("nan")


def exposed() -> Iterable[Joint]:
    """Phantoms no generator has seen, every other one diseased, widths spread evenly and out of step with fingers."""
    for k in range(COUNT):
        share, severity = k * 0.6180339887 % 1, (k * 0.7548776662 % 1) * (k % 2)
        phantom = Phantom(SEED + k, FINGERS[k % len(FINGERS)], SIZE, severity)
        joint = phantom.render(WIDTHS_MM[0] + share * (WIDTHS_MM[1] - WIDTHS_MM[0]))
        yield COMPUTED_RADIOGRAPHY.expose(joint, seed=SEED + k)


def interval(statistic: Callable[[np.ndarray], float], count: int) -> dict[str, float]:
    """A statistic of rows, with its 95 % interval over bootstrap samples of rows: each is one joint."""
    picks = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    low, high = np.percentile([statistic(pick) for pick in picks], [2.5, 97.5])
    return {"value": float(statistic(np.arange(count))), "low": float(low), "high": float(high)}


def agreement(measured: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, float] | int]:
    """Bias, SD, 95 % limits of agreement, error per mm of width (proportional bias) and mean absolute error, in mm."""
    found = np.isfinite(measured)
    error, truth = (measured - truth)[found], truth[found]
    statistics = {
        "bias": lambda k: error[k].mean(),
        "sd": lambda k: error[k].std(ddof=1),
        "lower_limit": lambda k: error[k].mean() - 1.96 * error[k].std(ddof=1),
        "upper_limit": lambda k: error[k].mean() + 1.96 * error[k].std(ddof=1),
        "slope": lambda k: np.polyfit(truth[k], error[k], 1)[0],
        "mae": lambda k: abs(error[k]).mean(),
    }
    rows = {name: interval(statistic, len(error)) for name, statistic in statistics.items()}
    return {**rows, "n": len(error), "not_measured": int((~found).sum())}


def on_phantoms() -> tuple[dict[str, dict], float]:
    """Agreement with the truth by source, finger and width; and milliseconds a measurement."""
    truth, fingers, measured, seconds = [], [], {name: [] for name in SOURCES}, 0.0
    for joint in tqdm(exposed(), total=COUNT, unit="phantom"):
        truth.append(joint.jsw_mm)
        fingers.append(joint.finger)
        for name, source in SOURCES.items():
            layers, begun = source(joint), perf_counter()
            measured[name].append(width(joint, layers))
            seconds += perf_counter() - begun
    truth, fingers = np.array(truth), np.array(fingers)
    found = {name: by_group(np.array(widths), truth, fingers) for name, widths in measured.items()}
    return found, 1000 * seconds / COUNT / len(SOURCES)


def by_group(measured: np.ndarray, truth: np.ndarray, fingers: np.ndarray) -> dict[str, dict]:
    """Agreement overall, and the mean error and its SD by finger and by width."""
    names = [str(k) for k in range(len(truth))]
    groups = {finger: fingers == finger for finger in FINGERS}
    bins = {f"{a} to {b}": (truth >= a) & (truth < b) for a, b in pairwise(BINS_MM)}

    def errors(some: np.ndarray) -> dict[str, float | int | None]:
        return summarise((measured - truth)[some], np.array(names)[some])

    return {
        "overall": agreement(measured, truth),
        "finger": {name: errors(some) for name, some in groups.items()},
        "jsw_mm": {name: errors(some) for name, some in bins.items()},
    }


def moved(joint: Joint, by: Shift) -> Joint:
    """The joint turned and shifted, image and masks alike."""
    image, masks = (shift(part[None], by)[0] for part in (joint.image, joint.masks))
    return replace(joint, image=image, masks=(masks >= 0.5).float())


def redrawn(joint: Joint, radius: int) -> Joint:
    """The joint with both bones' outlines drawn wider by `radius` px, or narrower if negative."""
    drawn = joint.masks[1:, None]
    bones = grow(drawn, radius) if radius > 0 else 1 - grow(1 - drawn, -radius)
    return replace(joint, masks=torch.cat((joint.masks[:1].maximum(bones[:, 0].amax(dim=0)), bones[:, 0])))


def noisy(joint: Joint, dice: np.random.Generator) -> Joint:
    """The joint with noise of SD 0.01 in every pixel."""
    noise = torch.from_numpy(dice.normal(0, 0.01, joint.image.shape).astype(np.float32))
    return replace(joint, image=(joint.image + noise).clamp(0, 1))


PERTURBATIONS: dict[str, Callable[[Joint, np.random.Generator], Joint]] = {
    "shift by up to 3 px": lambda joint, dice: moved(joint, Shift(*dice.uniform(-3, 3, 2))),
    "turn by up to 3 degrees": lambda joint, dice: moved(joint, Shift(degrees=dice.uniform(-3, 3))),
    "outline 1 or 2 px off": lambda joint, dice: redrawn(joint, int(dice.choice([-2, -1, 1, 2]))),
    "noise": noisy,
    "all four": lambda joint, dice: noisy(
        redrawn(moved(joint, Shift(*dice.uniform(-3, 3, 2), dice.uniform(-3, 3))), int(dice.choice([-2, -1, 1, 2]))),
        dice,
    ),
}


def repeatability(first: Sequence[float], second: Sequence[float]) -> dict[str, dict[str, float] | float | int]:
    """SEM (SD of the differences over root 2) and smallest detectable change of pairs, in mm.

    `sem_typical` is the same from the median difference, which the few pairs with two different lines do not move.
    """
    difference = np.array(first) - np.array(second)
    pairs = difference[np.isfinite(difference)]
    sem = interval(lambda k: pairs[k].std(ddof=1) / 2**0.5, len(pairs))
    return {
        "sem": sem,
        "sdc": {name: 1.96 * 2**0.5 * value for name, value in sem.items()},
        "sem_typical": float(1.4826 * np.median(abs(pairs)) / 2**0.5),
        "far_apart": float((abs(pairs) > FAR_MM).mean()),
        "n": len(pairs),
        "not_measured": int(len(difference) - len(pairs)),
    }


def on_radiographs(joints: list[Joint]) -> dict[str, dict]:
    """The annotation by finger, and its repeatability, for each source of layers."""
    measured = {name: [width(joint, source(joint)) for joint in tqdm(joints)] for name, source in REAL.items()}
    firsts = [next(visits) for _, visits in groupby(joints, lambda joint: joint.joint)][::EVERY]
    shaken = {name: {kind: ([], []) for kind in PERTURBATIONS} for name in REAL}
    for k, joint in enumerate(tqdm(firsts, unit="joint")):
        for kind, perturb in PERTURBATIONS.items():
            for side in range(2):
                other = perturb(joint, np.random.default_rng([SEED, k, side]))
                for name, source in REAL.items():
                    shaken[name][kind][side].append(width(other, source(other)))
    return {
        name: {
            "annotation_mm": annotation(joints, measured[name]),
            "perturbed": {kind: repeatability(*pairs) for kind, pairs in shaken[name].items()},
            "two_visits": repeatability(*first_two(joints, measured[name])),
        }
        for name in REAL
    }


def annotation(joints: list[Joint], widths: list[float]) -> dict[str, dict[str, float | int]]:
    """Median, quartiles and failures by finger. An annotation: nobody knows the width of these joints."""
    rows = {}
    for finger in (*FINGERS, "all"):
        some = np.array([w for j, w in zip(joints, widths, strict=True) if finger in ("all", j.finger)])
        quarter, median, three = np.nanpercentile(some, [25, 50, 75])
        rows[finger] = {"median": float(median), "quartiles": [float(quarter), float(three)], "n": len(some)}
        rows[finger] |= {"not_measured": float(np.isnan(some).mean()), "overlapping": float((some < 0).mean())}
    return rows


def first_two(joints: list[Joint], widths: list[float]) -> tuple[list[float], list[float]]:
    """The widths at the first and at the second visit, for joints with both: `joints` is in order of joint and name."""
    pairs = []
    for _, visits in groupby(zip(joints, widths, strict=True), lambda each: each[0].joint):
        found = [w for _, w in visits]
        pairs += [found[:2]] if len(found) > 1 else []
    return tuple(map(list, zip(*pairs, strict=True)))


def cell(of: dict[str, float]) -> str:
    """A value with its interval."""
    return f"{of['value']:+.3f} ({of['low']:+.3f} to {of['high']:+.3f})"


def small(of: dict[str, float | None]) -> str:
    """A mean error with its SD."""
    return f"{of['mean']:+.2f} ± {of['sd']:.2f}"


torch.set_num_threads(1)
phantoms, milliseconds = on_phantoms()
dataset = open_dataset(sys.argv[1], split="test")
real = on_radiographs([resize(joint, SIZE) for joint in sorted(dataset, key=lambda joint: (joint.joint, joint.name))])

rows = [["mm", *SOURCES]]
for statistic in ("bias", "sd", "lower_limit", "upper_limit", "slope", "mae"):
    rows.append([f"phantoms: {statistic}", *(cell(phantoms[name]["overall"][statistic]) for name in SOURCES)])
for group in ("finger", "jsw_mm"):
    for part in phantoms["image"][group]:
        rows.append([f"error, {part}", *(small(phantoms[name][group][part]) for name in SOURCES)])
for finger in (*FINGERS, "all"):
    found = [real[name]["annotation_mm"][finger] for name in REAL]
    cells = [f"{f['median']:.2f} ({f['quartiles'][0]:.2f} to {f['quartiles'][1]:.2f})" for f in found]
    rows.append([f"annotation, {finger}", "-", *cells])
rows.append(["share overlapping", "-", *(f"{real[name]['annotation_mm']['all']['overlapping']:.3f}" for name in REAL)])
for kind in (*PERTURBATIONS, "two visits"):
    pairs = [real[name]["two_visits"] if kind == "two visits" else real[name]["perturbed"][kind] for name in REAL]
    cells = [f"{p['sem']['value']:.3f}, {p['sem_typical']:.3f}, {p['far_apart']:.3f}" for p in pairs]
    rows.append([f"SEM, typical, share > {FAR_MM} mm: {kind}", "-", *cells])
print(f"{COUNT} phantoms, {len(dataset)} radiographs, {milliseconds:.0f} ms a measurement on one core")
print(table(rows))
if len(sys.argv) > 2:
    metrics = {"phantoms": phantoms, "radiographs": real, "ms_a_measurement": milliseconds}
    known = {"data": dataset.fingerprint(), "split": "test", "size": SIZE, "seed": SEED, "weights": "compact"}
    write_metrics(Path(sys.argv[2]), metrics, kind="benchmark", **known)
