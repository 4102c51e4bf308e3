"""Gather several evaluations into one record of book/results, each with where it comes from.

python scripts/gather.py OUT.json NAME=METRICS.json [NAME=METRICS.json ...]

NAME is how chapters call it; METRICS.json is what `lsn evaluate` wrote. Recorded runs are read by their names, too.
"""

import sys
from pathlib import Path

from lsn_core.files import read_json
from lsn_core.results import write_metrics

out, *pairs = sys.argv[1:]
records = {name: read_json(Path(path)) for name, _, path in (pair.partition("=") for pair in pairs)}
metrics = {name: record["metrics"] for name, record in records.items()}
sources = {name: record["provenance"] for name, record in records.items()}
print(write_metrics(Path(out), metrics, kind="gathered", sources=sources))
