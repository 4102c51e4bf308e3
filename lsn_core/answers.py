"""Answers: what a trained network says of the test joints of a cohort, one row each, and the file that keeps them."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lsn_core.cohort import TEST, Cohort
from lsn_core.files import InputError, read_bytes, write_text
from lsn_core.predictors import Predictor
from lsn_core.progression import REPEATS, Register, all_pairs, measured, repeated
from lsn_core.tasks import classes, numbers_of, prepared, register, width_of

CHUNK = 256  # images or pairs at a time
WORDS = ("name", "fixed", "joint")  # columns that are no numbers

Rows = list[dict[str, Any]]


def _widths(cohort: Cohort, network: Predictor, device: torch.device) -> tuple[Rows, int]:
    """Each test radiograph's width."""
    index = cohort.of(TEST)
    found = width_of(_numbers(cohort, network, device, index)).tolist()
    return radiograph_rows(cohort, index, true=cohort.jsw_mm[index].tolist(), found=found), len(index)


def _grades(cohort: Cohort, network: Predictor, device: torch.device) -> tuple[Rows, int]:
    """Each test radiograph's class."""
    index = cohort.of(TEST)
    found = _numbers(cohort, network, device, index).argmax(dim=1).tolist()
    true = classes(cohort.jsw_mm[index]).tolist()
    return radiograph_rows(cohort, index, true=true, found=found), len(index)


def _numbers(cohort: Cohort, network: Predictor, device: torch.device, index: torch.Tensor) -> torch.Tensor:
    """A network's numbers of radiographs."""
    images = (prepared(some.to(device)) for some in cohort.image[index].split(CHUNK))
    return torch.cat([numbers_of(network, some).cpu() for some in images])


def radiograph_rows(cohort: Cohort, index: torch.Tensor, **columns: Sequence[Any]) -> Rows:
    """One row a radiograph."""
    known = [{"name": cohort.rows[k].name, "joint": cohort.rows[k].joint} for k in index.tolist()]
    values = ({name: column[n] for name, column in columns.items()} for n in range(len(known)))
    return [row | more for row, more in zip(known, values, strict=True)]


def _narrowings(cohort: Cohort, network: Predictor, device: torch.device) -> tuple[Rows, int]:
    """Each ordered pair's narrowing in mm, asked ten times."""
    pairs, random = pairs_to_test(cohort), torch.Generator().manual_seed(0)
    asked = {"registering": register(network), "device": device, "random": random}
    rows = [row for some in pairs.split(CHUNK) for row in progression_rows(cohort, some, **asked)]
    return rows, 2 * (REPEATS + 1) * len(pairs)


def pairs_to_test(cohort: Cohort) -> torch.Tensor:
    """All ordered pairs of test radiographs of one joint, moving and fixed, as places in the cohort.

    Raises `InputError` where no test joint has two.
    """
    index = cohort.of(TEST)
    pairs = all_pairs(cohort.joints[index.numpy()].tolist())
    if not pairs:
        raise InputError("no joint to test on has two radiographs, so nothing can narrow; prepare two visits or more")
    return index[torch.tensor(pairs)]


def progression_rows(
    cohort: Cohort, pairs: torch.Tensor, registering: Register, device: torch.device, random: torch.Generator
) -> Rows:
    """Pairs of a cohort as some registration measures them.

    "found" is NaN where the ten answers do not agree; "sd" is that of the answers kept, "error" the mean image error.
    """
    shown = [prepared(cohort.image[pairs[:, k]].to(device)) for k in (0, 1)]
    bones, spacing_mm = (part[pairs[:, 1]].float().to(device) for part in (cohort.bones, cohort.spacing_mm))
    answers, errors = repeated(registering, *shown, bones, spacing_mm=spacing_mm, random=random)
    found, sd = measured(answers)
    true = cohort.jsw_mm[pairs[:, 0]] - cohort.jsw_mm[pairs[:, 1]]
    fixed = [cohort.rows[k].name for k in pairs[:, 1].tolist()]
    columns = {"found": found.tolist(), "sd": sd.tolist(), "error": errors.mean(axis=1).tolist()}
    return radiograph_rows(cohort, pairs[:, 0], fixed=fixed, true=true.tolist(), **columns)


ANSWERERS: dict[str, Callable[[Cohort, Predictor, torch.device], tuple[Rows, int]]] = {
    "jsn": _narrowings,
    "jsw": _widths,
    "svdh": _grades,
}


@torch.no_grad()
def answers_of(task: str, cohort: Cohort, network: Predictor, device: torch.device) -> tuple[Rows, int]:
    """What a trained network says of the test joints, a row each, and how many images it was shown."""
    network.eval()
    return ANSWERERS[task](cohort, network, device)


def write_answers(path: Path, rows: Rows) -> Path:
    """Rows as a table; NaN is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=tuple(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _told(value) for name, value in row.items()} for row in rows)
    return write_text(path, text.getvalue())


def _told(value: Any) -> Any:
    """A number in six digits, nothing for NaN."""
    return ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value


def read_answers(path: Path) -> Rows:
    """The rows of a table; NaN where a number is missing."""
    rows = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8")))
    return [{k: v if k in WORDS else float(v or "nan") for k, v in row.items()} for row in rows]
