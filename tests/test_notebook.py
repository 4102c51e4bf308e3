"""The strict runner: what it injects, what it refuses, and what it leaves behind when a run goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lsn_core.files import InputError
from lsn_core.notebook import run_notebook, unfinished

OUT = Path("new/out.ipynb")
FAILED = Path("new/out.failed.ipynb")


def run(source: Path, **parameters) -> Path:
    """Run quietly."""
    return run_notebook(source, OUT, parameters=parameters, progress=False)


def told(path: Path) -> str:
    """All text that the cells of an executed notebook wrote, to stdout and to stderr."""
    cells = json.loads(path.read_text())["cells"]
    return "".join("".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", []))


def left() -> list[str]:
    """The files in the output's folder."""
    return sorted(path.name for path in OUT.parent.iterdir())


def test_a_good_run(notebook, capfd):
    source = notebook(
        "size = 1\nrate = 1.0\nwhere: str | None = 'a'", "import sys\nprint(size, rate, where, sys.executable)"
    )
    before = source.read_bytes()
    Path("mine.yaml").write_text("notebooks: {source: {size: 2, rate: 1e-4}}")
    options = {"parameters": {"size": "3", "where": "none"}, "profile": "mine.yaml"}
    assert run_notebook(source, OUT, progress=False, **options) == OUT
    assert told(OUT).split() == ["3", "0.0001", "None", sys.executable]  # -p wins over the profile; this very Python
    content = json.loads(OUT.read_text())
    assert unfinished(content) is None
    assert content["metadata"]["papermill"]["output_path"] == OUT.as_posix()
    assert content["metadata"]["papermill"]["parameters"] == {"size": 3, "rate": 1e-4, "where": None}
    assert source.read_bytes() == before and left() == ["out.ipynb"]
    assert not any(capfd.readouterr())  # nothing is printed, not even by papermill


def test_absolute_paths_and_odd_names_are_not_stored(notebook, tmp_path):
    source = notebook("a = 1").resolve().rename(tmp_path / "a {b}.ipynb")
    out = run_notebook(source, tmp_path / "my runs/{seed}.ipynb", progress=False)
    assert out.exists() and str(tmp_path) not in out.read_text()


def test_progress_goes_to_stderr(notebook, capfd):
    run_notebook(notebook("a = 1"), OUT)
    shown = capfd.readouterr()
    assert not shown.out and "source" in shown.err


def test_a_failing_cell(notebook):
    source = notebook("a = 1", "print('first')", "raise ValueError('two\\nlines')", "print('never')")
    OUT.parent.mkdir()
    OUT.write_text("an older run")
    with pytest.raises(InputError, match=r"source.ipynb: cell 3 raised ValueError \(two lines\); see new") as failure:
        run(source, a="2")
    assert str(FAILED) in str(failure.value) and "\n" not in str(failure.value)
    assert OUT.read_text() == "an older run" and left() == ["out.failed.ipynb", "out.ipynb"]
    assert "first" in told(FAILED) and unfinished(json.loads(FAILED.read_text())) == "failed"


def test_success_removes_what_an_earlier_failure_left(notebook):
    source = notebook("fail = True", "assert not fail")
    with pytest.raises(InputError, match="AssertionError"):
        run(source)
    run(source, fail="false")
    assert left() == ["out.ipynb"]


@pytest.mark.parametrize("cells", [["1 + 1"], []], ids=["in the middle", "in the last cell"])
def test_a_killed_kernel(notebook, cells):
    source = notebook("a = 1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", *cells)
    with pytest.raises(InputError, match=r"cell 2 raised DeadKernelError .*out of memory"):
        run(source)
    assert left() == ["out.failed.ipynb"]


def test_an_early_exit_is_no_success(notebook):
    with pytest.raises(InputError, match=r"cell 2 raised RuntimeError .*ended before the last cell"):
        run(notebook("a = 1", "import sys\nsys.exit()", "print('never')"))
    assert left() == ["out.failed.ipynb"]


def test_a_cell_that_takes_too_long(notebook):
    source = notebook("a = 1", "import time\ntime.sleep(60)")
    with pytest.raises(InputError, match="cell 2 raised CellTimeoutError"):
        run_notebook(source, OUT, progress=False, timeout=2)
    assert left() == ["out.failed.ipynb"]


def test_an_interrupt_keeps_what_there_is(notebook):
    source = notebook("a = 1", "open('started', 'w').close()\nimport time\ntime.sleep(60)")
    code = f"from lsn_core.notebook import run_notebook; run_notebook({str(source)!r}, {str(OUT)!r}, progress=False)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    for _ in range(300):
        if Path("started").exists():
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert left() == ["out.failed.ipynb"]


def test_refused_before_anything_runs(notebook):
    source = notebook("a = 1")
    with pytest.raises(InputError, match="overwrite the notebook itself"):
        run_notebook(source, Path("../") / Path.cwd().name / "source.ipynb", progress=False)
    with pytest.raises(InputError, match=r"ends in .ipynb"):
        run_notebook(source, Path("out.html"), progress=False)
    with pytest.raises(InputError, match="does not declare; it declares a"):
        run(source, typo="1")
    with pytest.raises(InputError, match="no such file"):
        run(Path("absent.ipynb"))
    Path("blocked").write_text("a file")
    with pytest.raises(InputError, match="folder cannot be made"):
        run_notebook(source, Path("blocked/out.ipynb"), progress=False)
    assert not OUT.parent.exists()


def test_a_profile_cannot_set_what_is_not_declared(notebook):
    Path("mine.yaml").write_text("notebooks: {source: {typo: 2}}")
    with pytest.raises(InputError, match=r"mine.yaml sets 'typo'"):
        run_notebook(notebook("a = 1"), OUT, profile="mine.yaml", progress=False)


def test_a_kernel_that_does_not_start(notebook, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(InputError, match=r"source.ipynb: .*FileNotFoundError"):
        run(notebook("a = 1"))
