"""Kill a training at random moments, resume it each time, and compare its end with an undisturbed one's, bit by bit.

    python benchmarks/kill.py [--kills 20] [--seed 0]

Each kill is a kill -9 of the `lsn train` command: the k-th lands in the k-th part of the training, at a random moment
of a random step of it, be that in a step, a checkpoint or a drawing. Compared are all networks, their optimisers, the
random state, the chosen generator and its weights on disk, and the log.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from lsn_core.checkpoint import checkpoints, read_header
from lsn_core.journal import LOG
from lsn_core.keeper import CHECKPOINTS
from lsn_core.results import table

SETTINGS = (
    "size=64",
    "batch=4",
    "phantoms=16",
    "pseudo.phantoms=0.5",
    "pseudo.after.truth=1.0",
    "pseudo.epochs=8",
    "real.epochs=8",
    "precision=32-true",
    "validate_every=10",
    "checkpoint_every=0.01",
)
LSN = (sys.executable, "-m", "lsn_core.cli")


def start(folder: Path, data: Path, *, resume: bool) -> subprocess.Popen:
    """Start or resume the training."""
    given = ["--resume"] if resume else [word for pair in SETTINGS for word in ("--set", pair)]
    words = [*LSN, "train", str(folder), "--data", str(data), "--profile", "quick", *given]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen) -> None:
    """Wait for the end of a training that nobody disturbs."""
    _, told = process.communicate()
    if process.returncode:
        sys.exit(told.splitlines()[-1])


def lines(folder: Path) -> list[dict[str, float]]:
    """Of a run's log, without the clock and what was only half written."""
    path = folder / LOG
    whole = (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )
    return [{k: v for k, v in json.loads(line).items() if k != "minutes"} for line in whole]


def kill(process: subprocess.Popen, folder: Path, step: int, delay: float) -> tuple[int, int] | None:
    """Kill it `delay` s after `step` was logged; return the steps logged and saved by then. None if it was too late."""
    while process.poll() is None and len(lines(folder)) < step:
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.communicate()
    if process.returncode != -9:
        return None
    saved = checkpoints(folder / CHECKPOINTS)
    return len(lines(folder)), read_header(saved[-1])["step"] if saved else 0


def same(folder: Path, other: Path) -> dict[str, bool]:
    """What two finished runs have in common, bit by bit."""
    last = [load_file(checkpoints(run / CHECKPOINTS)[-1]) for run in (folder, other)]
    weights = [load_file(run / "generator.safetensors") for run in (folder, other)]
    found = {"log": lines(folder) == lines(other), "generator.safetensors": equal(*weights)}
    for part in ("module", "optimizer", "random"):
        found[part] = equal(*({k: v for k, v in state.items() if k.startswith(part)} for state in last))
    return found


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def main() -> None:
    """Print a line for each kill and whether the ends are equal; exit code 1 if they are not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as root:
        data, whole, folder = Path(root, "data"), Path(root, "whole"), Path(root, "killed")
        subprocess.run([*LSN, "phantom", str(data), "--count", "24", "--size", "64"], check=True, capture_output=True)
        finished(start(whole, data, resume=False))
        total, rows = len(lines(whole)), [["kill", "logged", "saved"]]
        length = 60 * read_header(checkpoints(whole / CHECKPOINTS)[-1])["minutes"] / total
        for k in range(options.kills):
            resume = bool(checkpoints(folder / CHECKPOINTS))
            step = moments.randrange(k * total // options.kills, max(1, (k + 1) * total // options.kills))
            hit = kill(start(folder, data, resume=resume), folder, step, moments.uniform(0, 2 * length))
            rows.append([str(k + 1), *(map(str, hit) if hit else ("complete", "-"))])
        finished(start(folder, data, resume=True))
        found = same(folder, whole)
    print(table(rows))
    print(f"\n{total} steps of {length:.2f} s; {sum(row[1].isdigit() for row in rows)} kills")
    print("bit-identical: " + ", ".join(f"{name} {'yes' if equal_ else 'NO'}" for name, equal_ in found.items()))
    sys.exit(0 if all(found.values()) else 1)


if __name__ == "__main__":
    main()
