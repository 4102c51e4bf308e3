"""A sweep: many runs of notebooks, written down as data, expanded and checked before the first of them starts.

::

    profile: quick                       # of all runs; without it, the notebooks' own defaults
    retries: 1                           # of each run that fails
    shown: [adjusted_psnr_db]            # metrics in the page; without it, the first eight of each notebook
    runs:
      - notebook: notebooks/01_imaging_principles.ipynb
        parameters: {size: 128}          # the same in all runs
        grid: {seed: [0, 1, 2], finger: [index, ring]}    # every combination
        megabytes: 2000                  # what a run needs: memory,
        minutes: 30                      # time,
        cores: 1
        gpus: 0
"""

import itertools
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsn_core.files import InputError, read_yaml
from lsn_core.notebook import parameter_values
from lsn_core.parameters import declared_parameters
from lsn_core.reruns import stamp

KEYS = {"profile": str, "retries": int, "shown": list, "runs": list}
NEEDS = {"megabytes": 2500, "minutes": 60, "cores": 1, "gpus": 0}
RUN_KEYS = {"notebook": str, "parameters": dict, "grid": dict, **dict.fromkeys(NEEDS, int)}
NOTEBOOK, DONE, LOG, METRICS = "notebook.ipynb", "done", "log.txt", "metrics.json"  # in a run's folder


@dataclass(frozen=True)
class SweptRun:
    """One run of a sweep: a notebook with the parameters of its own, and what it needs (MB, minutes, cores, GPUs)."""

    name: str
    source: Path
    profile: str | None
    parameters: dict[str, Any]
    needs: dict[str, int]

    def command(self, folder: Path) -> list[str]:
        """The command that runs it in the current folder and leaves everything in `folder`."""
        given = {**self.parameters, **self._own_folder(folder)}
        words = [sys.executable, "-m", "lsn_core.cli", "run", str(self.source), "--out", str(folder / NOTEBOOK)]
        words += ["--profile", self.profile] if self.profile else []
        return words + [word for name, value in given.items() for word in ("-p", f"{name}={value}")]

    def _own_folder(self, folder: Path) -> dict[str, str]:
        """Where the notebook is told to write, where it can be told."""
        return {"out_dir": str(folder)} if "out_dir" in declared_parameters(self.source) else {}

    def inputs(self) -> str:
        """A hash of all that the run depends on."""
        return stamp(Path(), self.source, parameter_values(self.source, self.parameters, self.profile))


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep by name, how often a failed one is tried again, and the metrics its page shows."""

    runs: dict[str, SweptRun]
    retries: int
    shown: tuple[str, ...]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep, with notebooks relative to the current folder.

    Raises `InputError` where a key, a notebook, a parameter or a value is unknown or does not fit, and where two runs
    are the same.
    """
    content = _checked(read_yaml(path), KEYS, str(path))
    blocks = content.get("runs") or []
    if not blocks:
        raise InputError(f"{path}: has no runs; list notebooks under 'runs'")
    runs: dict[str, SweptRun] = {}
    for number, block in enumerate(blocks, 1):
        for run in _expand(block, content.get("profile"), f"{path}, run {number}"):
            if run.name in runs:
                raise InputError(f"{path}, run {number}: {run.name} is listed twice; remove one of them")
            runs[run.name] = run
    return Sweep(runs, content.get("retries", 1), tuple(content.get("shown", [])))


def _checked(value: Any, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    """A mapping whose keys are known and whose values are of these kinds."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: is not a mapping; write `name: value` lines with {', '.join(kinds)}")
    for key, inner in value.items():
        if key not in kinds:
            raise InputError(f"{where}: {key!r} is unknown; the keys are {', '.join(kinds)}")
        if type(inner) is not kinds[key]:
            raise InputError(f"{where}: {key} is {inner!r}, which is not of the type {kinds[key].__name__}; correct it")
    return value


def _expand(block: Any, profile: str | None, where: str) -> Iterator[SweptRun]:
    """Every combination of a block's grid, checked against its notebook."""
    block = _checked(block, RUN_KEYS, where)
    if "notebook" not in block:
        raise InputError(f"{where}: names no notebook; add `notebook: notebooks/NAME.ipynb`")
    source, fixed, grid = Path(block["notebook"]), block.get("parameters", {}), block.get("grid", {})
    needs = {name: block.get(name, usual) for name, usual in NEEDS.items()}
    for name, values in grid.items():
        if not isinstance(values, list) or not values or name in fixed:
            told = f"the grid's {name} is {values!r}; give a list, of what 'parameters' does not set"
            raise InputError(f"{where}: {told}")
    for values in itertools.product(*grid.values()):
        varied = dict(zip(grid, values, strict=True))
        run = SweptRun(_name(source, varied), source, profile, {**fixed, **varied}, needs)
        try:
            parameter_values(source, run.parameters, profile)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        yield run


def _name(source: Path, varied: Mapping[str, Any]) -> str:
    """What a run's folder is called: the notebook, and what sets it apart from its neighbours."""
    words = [source.stem, *(f"{name}-{value}" for name, value in varied.items())]
    return "_".join(re.sub(r"[^\w.=-]+", "-", word).strip("-") for word in words)
