"""What needs no training: no change, edges of separated layers, phase correlation, intensities; kept as runs are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lsn_core.answers import Rows, pairs_to_test, progression_rows, radiograph_rows, write_answers
from lsn_core.coaching import ANSWERS, METRICS
from lsn_core.cohort import TEST, Cohort
from lsn_core.files import InputError, read_json
from lsn_core.registration import Transforms
from lsn_core.registration_baselines import by_intensity, by_phase_correlation
from lsn_core.results import write_metrics
from lsn_core.shapes import Bones, Image
from lsn_core.tasks import classes

Answerer = Callable[[Cohort], Rows]


def edge_widths(cohort: Cohort) -> Rows:
    """Each test radiograph's width as `jsw_mm` measures it in the separated layers."""
    index = cohort.of(TEST)
    return radiograph_rows(cohort, index, true=cohort.jsw_mm[index].tolist(), found=cohort.measured_mm[index].tolist())


def edge_grades(cohort: Cohort) -> Rows:
    """The class of that width."""
    index = cohort.of(TEST)
    true, found = (classes(widths[index]).tolist() for widths in (cohort.jsw_mm, cohort.measured_mm))
    return radiograph_rows(cohort, index, true=true, found=found)


def edge_narrowings(cohort: Cohort) -> Rows:
    """Each test pair's narrowing by these widths, measured once: nothing is moved, so nothing scatters."""
    pairs = pairs_to_test(cohort)
    true, found = (widths[pairs[:, 0]] - widths[pairs[:, 1]] for widths in (cohort.jsw_mm, cohort.measured_mm))
    fixed = [cohort.rows[k].name for k in pairs[:, 1].tolist()]
    columns = {"fixed": fixed, "true": true.tolist(), "found": found.tolist()}
    return radiograph_rows(cohort, pairs[:, 0], **columns, sd=[torch.nan] * len(pairs), error=[torch.nan] * len(pairs))


def phase_narrowings(cohort: Cohort) -> Rows:
    """Each test pair's narrowing by phase correlation of each bone, asked ten times."""
    return _registered(cohort, by_phase_correlation)


def intensity_narrowings(cohort: Cohort) -> Rows:
    """Each test pair's narrowing by rigid intensity registration of each bone, asked ten times."""
    return _registered(cohort, by_intensity)


def still_narrowings(cohort: Cohort) -> Rows:
    """No change for each test pair: what any registration has to beat, and how unlike its images are unmoved."""
    return [row | {"found": 0.0, "sd": 0.0} for row in _registered(cohort, as_they_are)]


def as_they_are(moving: Image, fixed: Image, bones: Bones) -> Transforms:
    """Nothing is moved."""
    return fixed.new_tensor([1, 0, 0, 0]).repeat(len(fixed), 2, 1)


def _registered(cohort: Cohort, registering: Callable) -> Rows:
    """The narrowings of a registration on the CPU."""
    parts = tqdm(pairs_to_test(cohort).split(16), desc=registering.__name__, unit="16 pairs")
    random = torch.Generator().manual_seed(0)
    return [row for some in parts for row in progression_rows(cohort, some, registering, torch.device("cpu"), random)]


COMPARATORS: dict[str, Answerer] = {  # by the run's name: task and what stands for a network
    "jsw-edge": edge_widths,
    "svdh-edge": edge_grades,
    "jsn-still": still_narrowings,
    "jsn-edge": edge_narrowings,
    "jsn-phase_correlation": phase_narrowings,
    "jsn-intensity": intensity_narrowings,
}


def write_comparators(runs: Path, cohort: Cohort, origin: dict[str, Any]) -> None:
    """Write the answers of those that are not there yet, each as a run of the arm "untrained"."""
    for name, answer in COMPARATORS.items():
        folder = runs / f"{name}-untrained-100-0"
        if (folder / METRICS).exists():
            if read_json(folder / METRICS)["provenance"].get("cohort") != origin:
                raise InputError(
                    f"{folder}: was measured on another cohort; give --cohort as before, or another folder"
                )
        else:
            write_answers(folder / ANSWERS, answer(cohort))
            write_metrics(folder / METRICS, {}, cohort=origin)
