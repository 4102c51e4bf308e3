"""What a sweep found: one table of all runs, for machines, and one page of them, for people."""

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lsn_core.expectations import read_found
from lsn_core.files import read_json, write_text
from lsn_core.notebook import FAILED, PARTIAL
from lsn_core.sweep import DONE, LOG, METRICS, NOTEBOOK, Sweep, SweptRun

RUNS, TABLE, PAGE = "runs", "table.csv", "index.html"  # in a sweep's folder
SHOWN = 8  # metrics of a notebook in the page, where the sweep does not choose

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 75rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { border-bottom: 1px solid #8888; padding: .25rem .75rem; text-align: right; }
th { font-weight: 600; } th:first-child, td.said { text-align: left; }
"""


def state(folder: Path) -> str:
    """What has become of the run in a folder: "done", "running", "failed" or "waiting"."""
    stem = NOTEBOOK.removesuffix(".ipynb")
    if (folder / DONE).exists():
        return "done"
    if (folder / (stem + PARTIAL)).exists():
        return "running"
    return "failed" if (folder / (stem + FAILED)).exists() or complaint(folder) else "waiting"


def complaint(folder: Path) -> str:
    """The sentence in which a run said why it failed, or nothing."""
    log = folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1] if said else ""


def gather(sweep: Sweep, out: Path, *, title: str) -> Path:
    """Write a sweep's table and page in the folder `out`, and return the page; a failed run has no numbers."""
    records = [record(out / RUNS / name, run) for name, run in sweep.runs.items()]
    write_text(out / TABLE, as_csv(records))
    return write_text(out / PAGE, as_page(records, sweep.shown, title=title))


def record(folder: Path, run: SweptRun) -> dict[str, Any]:
    """What is known of one run, its parameters and metrics being mappings by name."""
    found = state(folder)
    known = {"run": run.name, "notebook": run.source.stem, "state": found, "parameters": run.parameters}
    if found != "done":
        return known | {"metrics": {}, "said": complaint(folder)}
    metadata = read_json(folder / NOTEBOOK)["metadata"]
    needed = {"seconds": round(metadata["papermill"]["duration"], 1), "megabytes": metadata["lsn"]["megabytes"]}
    return known | needed | {"metrics": read_found(folder) if (folder / METRICS).exists() else {}, "said": ""}


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """One line a run: state, seconds, MB, each parameter and each metric that is a single value."""
    known = ("run", "notebook", "state", "seconds", "megabytes")
    columns = {
        kind: list(dict.fromkeys(name for one in records for name in one[kind])) for kind in ("parameters", "metrics")
    }
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*known, *columns["parameters"], *columns["metrics"], "said"])
    for one in records:
        inner = [one[kind].get(name, "") for kind, names in columns.items() for name in names]
        lines.writerow([*(one.get(name, "") for name in known), *inner, one["said"]])
    return file.getvalue()


def as_page(records: Sequence[Mapping[str, Any]], shown: Sequence[str], *, title: str) -> str:
    """A page without scripts: for each notebook a table of its runs, with what varied and some metrics."""
    done = sum(one["state"] == "done" for one in records)
    stems = dict.fromkeys(one["notebook"] for one in records)
    tables = [_table(stem, [one for one in records if one["notebook"] == stem], shown) for stem in stems]
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>
<style>{STYLE}</style></head>
<body><main><h1>{escape(title)}</h1>
<p>{done} of {len(records)} runs are done. All metrics of all runs are in <a href="{TABLE}">{TABLE}</a>.</p>
{"".join(tables)}
</main></body>
</html>
"""


def _table(stem: str, records: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> str:
    """The runs of one notebook."""
    parameters = list(dict.fromkeys(name for one in records for name in one["parameters"]))
    known = list(dict.fromkeys(name for one in records for name, value in one["metrics"].items() if _plain(value)))
    metrics = [name for name in shown if name in known] if shown else known[:SHOWN]
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("run", *parameters, "seconds", *metrics))
    rows = "".join(_row(one, parameters, metrics) for one in records)
    return f"""<div tabindex="0" role="region" aria-label="{escape(stem)}"><table>
<caption>{escape(stem)}</caption>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}</tbody></table></div>
"""


def _row(one: Mapping[str, Any], parameters: Sequence[str], metrics: Sequence[str]) -> str:
    """One run, with a link to its notebook; where it is not done, why."""
    stem = NOTEBOOK.removesuffix(".ipynb")
    file = {"done": NOTEBOOK, "failed": stem + FAILED}.get(one["state"])
    name = f'<a href="{RUNS}/{one["run"]}/{file}">{escape(one["run"])}</a>' if file else escape(one["run"])
    cells = "".join(f"<td>{escape(_shown(one['parameters'].get(name, '')))}</td>" for name in parameters)
    if one["state"] == "done":
        cells += "".join(f"<td>{_shown(value)}</td>" for value in (one["seconds"], *map(one["metrics"].get, metrics)))
    else:
        said = escape(f"{one['state']}: {one['said']}" if one["said"] else one["state"])
        cells += f'<td class="said" colspan="{1 + len(metrics)}">{said}</td>'
    return f'<tr><th scope="row">{name}</th>{cells}</tr>\n'


def _plain(value: Any) -> bool:
    """Whether a metric fits into a cell."""
    return isinstance(value, int | float | bool)


def _shown(value: Any) -> str:
    """A value in a cell."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
