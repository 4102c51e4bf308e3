"""What a rerun of the book must find: stored numbers, each with its tolerance, and how a run departs from them.

One YAML file a profile, `notebooks/expected/PROFILE.yaml`: for each notebook the seconds and megabytes that it took,
and its metrics by path (`truth/bias`), `[value, tolerance]` where a number may vary, a bare value where it may not, and
null where it is not compared, such as a speed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lsn_core.files import InputError, read_json, read_yaml, write_text
from lsn_core.results import table

RELATIVE, ABSOLUTE = 0.05, 1e-6  # the least tolerance: of the value, and of what is zero but for rounding
SPREADS, LOOSEST = 4.0, 0.5  # tolerance in half-ranges of the runs that were kept, and the most for a whole group
TIMES = ("second", "minutes")  # in the path of what depends on the machine
HEAD = """# What `lsn metrics compare` expects of a run with this profile; written by `lsn metrics keep` from {n} runs.
# A number is [value, tolerance], anything else must be the same, and null is not compared.
"""

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Departure:
    """One metric that is not as expected; `found` or `expected` is None where there is none."""

    metric: str
    expected: Any
    found: Any


def expected_path(notebooks: Path, profile: str) -> Path:
    """The file of a profile's expectations, beside the notebooks."""
    return Path(notebooks) / "expected" / f"{Path(profile).stem}.yaml"


def expected_needs(notebooks: Path, profile: str) -> dict[str, dict[str, float]]:
    """The seconds and megabytes that each notebook took when its expectations were kept; empty where none are."""
    path = expected_path(notebooks, profile)
    kept = read_yaml(path) if path.exists() else {}
    return {stem: {name: one[name] for name in ("seconds", "megabytes")} for stem, one in kept.items()}


def flat(value: Any, *, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested metrics, by their paths; an empty list or mapping is a leaf."""
    if isinstance(value, Mapping | list) and value:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in pairs:
            yield from flat(inner, path=f"{path}/{key}" if path else str(key))
    else:
        yield path, value


def read_found(run: Path) -> Metrics:
    """The metrics that a notebook's run left in its folder, by path. Raises `InputError` where there are none."""
    path = Path(run) / "metrics.json"
    content = read_json(path)
    if not isinstance(content, dict) or not content.get("metrics"):
        raise InputError(f"{path}: holds no metrics; run the notebook again")
    return dict(flat(content["metrics"]))


def departures(found: Metrics, expected: Metrics) -> list[Departure]:
    """The metrics that are missing, that nobody expected, or that lie beyond their tolerance."""
    names = [*expected, *(name for name in found if name not in expected)]
    odd = (name for name in names if not _as_expected(name, found, expected))
    return [Departure(name, expected.get(name), found.get(name)) for name in odd]


def _as_expected(name: str, found: Metrics, expected: Metrics) -> bool:
    """Whether one metric is there and as it should be."""
    if name not in found or name not in expected:
        return False
    wanted, value = expected[name], found[name]
    if wanted is None:
        return True
    if not _is_range(wanted):
        return type(wanted) is type(value) and wanted == value
    return _is_number(value) and abs(value - wanted[0]) <= wanted[1] * (1 + 1e-9)


def _is_range(expected: Any) -> bool:
    """Whether it is a number with its tolerance; an empty list is only itself."""
    return isinstance(expected, list) and len(expected) == 2


def _is_number(value: Any) -> bool:
    """Whether it can be compared within a tolerance."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def compare_runs(runs: Path, expected: Path, *, some: bool = False) -> dict[str, list[Departure]]:
    """The departures of each notebook's run in the folder `runs` from a file of expectations.

    A notebook without a run is an error, except where `some` allows it. Raises `InputError` for it, and where nothing
    is left to compare.
    """
    kept = read_yaml(expected)
    if not Path(runs).is_dir():
        raise InputError(f"{runs}: no such folder; run 'lsn book' first, or name the folder of its runs")
    known = {stem: one["metrics"] for stem, one in kept.items() if not some or (Path(runs) / stem).exists()}
    extra = [path.name for path in sorted(Path(runs).iterdir()) if path.is_dir() and path.name not in kept]
    if extra:
        raise InputError(f"{expected}: says nothing of {extra[0]}; add it with 'lsn metrics keep'")
    if not known:
        raise InputError(f"{runs}: no notebook of {expected} was run there; nothing was compared")
    return {stem: departures(read_found(Path(runs) / stem), metrics) for stem, metrics in known.items()}


def report(compared: Mapping[str, Sequence[Departure]]) -> str:
    """A table of all departures, or a line where there are none."""
    rows = [["metric", "expected", "tolerance", "found", "off by"]]
    rows += [[f"{stem}: {one.metric}", *_cells(one)] for stem, some in compared.items() for one in some]
    if len(rows) == 1:
        return f"{len(compared)} notebooks: all metrics are as expected"
    return f"{table(rows)}\n{len(rows) - 1} metrics are not as expected"


def _cells(one: Departure) -> list[str]:
    """What a table says of a departure."""
    value, tolerance = one.expected if _is_range(one.expected) else (one.expected, None)
    off = "" if tolerance is None or not _is_number(one.found) else f"{one.found - value:+.3g}"
    return [_shown(value), "" if tolerance is None else f"{tolerance:.2g}", _shown(one.found), off]


def _shown(value: Any) -> str:
    """A value in a table's cell."""
    return "-" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def keep_runs(folders: Sequence[Path], needs: Mapping[str, Mapping[str, float]], out: Path) -> Path:
    """Write expectations from what several reruns of the same notebooks found; tolerances follow from their spread.

    `needs` are the seconds and megabytes of each notebook. Raises `InputError` where the reruns measured different
    things.
    """
    stems = [path.name for path in sorted(Path(folders[0]).iterdir()) if (path / "metrics.json").exists()]
    kept = {stem: {**needs[stem], "metrics": _kept(stem, folders)} for stem in stems}
    text = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return write_text(out, HEAD.format(n=len(folders)) + text)


def _kept(stem: str, folders: Sequence[Path]) -> Metrics:
    """The expectations of one notebook."""
    found = [read_found(Path(folder) / stem) for folder in folders]
    if any(one.keys() != found[0].keys() for one in found):
        raise InputError(f"{folders[-1]}/{stem}: measured other things than {folders[0]}/{stem}; run both again")
    values = {name: [one[name] for one in found] for name in found[0]}
    loose = _looseness(values)
    return {name: _expectation(name, some, loose.get(_group(name), RELATIVE)) for name, some in values.items()}


def _group(name: str) -> str:
    """What a metric belongs to: the first name in its path."""
    return name.partition("/")[0]


def _looseness(values: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """The least relative tolerance of each group: trainings of seconds differ between machines in all their numbers.

    The reruns may agree in one of them by chance, so that its own spread would be too strict.
    """
    spreads: dict[str, list[float]] = {}
    for name, some in values.items():
        if all(map(_is_number, some)) and any(some):
            spreads.setdefault(_group(name), []).append((max(some) - min(some)) / 2 / max(map(abs, some)))
    return {group: min(max(RELATIVE, SPREADS * max(all_)), LOOSEST) for group, all_ in spreads.items()}


def _expectation(name: str, values: Sequence[Any], loose: float) -> Any:
    """What is expected of one metric, given what several runs found."""
    if any(time in name for time in TIMES):
        return None
    if not all(_is_number(value) for value in values) or (type(values[0]) is int and len(set(values)) == 1):
        return values[0] if len({str(value) for value in values}) == 1 else None
    low, high = min(values), max(values)
    middle = (low + high) / 2
    tolerance = max(SPREADS * (high - low) / 2, loose * abs(middle), ABSOLUTE)
    return [_rounded(middle, 6), _rounded(tolerance, 2)]


def _rounded(value: float, digits: int) -> float:
    """A number with so many significant digits."""
    return 0.0 if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))
