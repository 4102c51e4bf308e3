"""The commands load no PyTorch before they need it, and the package's names load it and nothing slower."""

import statistics
import subprocess
import sys

import pytest

import lsn_core

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
from lsn_core import *
print((time.perf_counter() - began) / (middle - began))
"""


def python(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_heavy_libraries_wait_until_they_are_used():
    loaded = python("import sys; from lsn_core import *; import lsn_core.cli; print(*sys.modules)").split()
    assert "torch" in loaded and [name for name in HEAVY if name in loaded] == []


def test_what_starts_notebooks_needs_no_torch():
    """Each of several that run side by side would take half a GB more, and two seconds."""
    modules = ", ".join(f"lsn_core.{name}" for name in ("cli", "reruns", "sweep", "workflow", "sweep_results", "book"))
    assert "torch" not in python(f"import sys, {modules}; print(*sys.modules)").split()


def test_every_name_of_the_package_is_there():
    assert all(getattr(lsn_core, name) is not None and name in dir(lsn_core) for name in lsn_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'seperate'"):
        lsn_core.seperate  # noqa: B018


def test_the_import_takes_no_half_as_long_again_as_torch():
    """The median of three fresh interpreters; up to three tries, since other work may fall into either half."""
    medians = []
    for _ in range(3):
        medians.append(statistics.median(float(python(TIMES)) for _ in range(3)))
        if medians[-1] < 1.5:
            break
    print(f"import lsn_core takes {medians[-1]:.3f} of the time of import torch")
    assert medians[-1] < 1.5
