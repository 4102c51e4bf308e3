"""`import lsn_core` loads torch and numpy, and nothing slower."""

import statistics
import subprocess
import sys

HEAVY = (
    "matplotlib",
    "torchvision",
    "torchmetrics",
    "papermill",
    "lightning_fabric",
    "scipy",
)
TIMES = """
import time
began = time.perf_counter()
import torch
middle = time.perf_counter()
import lsn_core
print((time.perf_counter() - began) / (middle - began))
"""


def python(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_heavy_libraries_wait_until_they_are_used():
    loaded = python("import sys, lsn_core, lsn_core.cli; print(*sys.modules)").split()
    assert "torch" in loaded and [name for name in HEAVY if name in loaded] == []


def test_the_import_takes_no_half_as_long_again_as_torch():
    """The median of three fresh interpreters; up to three tries, since other work may fall into either half."""
    medians = []
    for _ in range(3):
        medians.append(statistics.median(float(python(TIMES)) for _ in range(3)))
        if medians[-1] < 1.5:
            break
    print(f"import lsn_core takes {medians[-1]:.3f} of the time of import torch")
    assert medians[-1] < 1.5
