"""Sweeps that run: side by side, stopped and resumed, with failures that are told and gathered but have no numbers."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import write_notebook

from lsn_core import workflow
from lsn_core.files import InputError
from lsn_core.sweep import DONE, read_sweep
from lsn_core.sweep_results import RUNS, gather, state
from lsn_core.workflow import run_sweep

pytestmark = pytest.mark.slow

pytest.importorskip("snakemake")

LSN = [sys.executable, "-c", "from lsn_core.cli import main; main()"]
OUT = Path("out")
WRITE = """import json, os
from pathlib import Path
with open("ran", "a") as log: log.write(f"{kind}{seed} ")
if kind == "bad": raise ValueError("no such luck")
if kind == "killed": os.kill(os.getpid(), 9)
if kind == "slow":
    import time; time.sleep(2 if seed else 0)
if kind == "once" and not Path("tried").exists():
    Path("tried").write_text(""); raise RuntimeError("only the first time")
Path(out_dir, "metrics.json").write_text(json.dumps({"metrics": {"twice": 2 * seed, "deep": {"x": 0.5}}}))"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch) -> None:
    """A folder with one notebook, in which one works."""
    monkeypatch.chdir(tmp_path)
    write_notebook(Path("notebooks/01_a.ipynb"), "seed: int = 1\nkind: str = 'good'\nout_dir: str = 'runs'", WRITE)


def plan(retries: int = 0, megabytes: int = 10, **grid) -> Path:
    """A sweep of the notebook over a grid."""
    block = {"notebook": "notebooks/01_a.ipynb", "grid": grid, "megabytes": megabytes}
    Path("s.yaml").write_text(yaml.safe_dump({"retries": retries, "runs": [block]}))
    return Path("s.yaml")


def ran() -> list[str]:
    """Which runs have been started so far."""
    return Path("ran").read_text().split()


def swept(*words: str) -> subprocess.CompletedProcess:
    """`lsn sweep` in a process."""
    return subprocess.run([*LSN, "sweep", "s.yaml", "--out", str(OUT), *words], capture_output=True, text=True)


def rows() -> list[dict[str, str]]:
    """The lines of the sweep's table."""
    return list(csv.DictReader((OUT / "table.csv").read_text().splitlines()))


def test_a_sweep_runs_once_and_again_only_what_changed():
    told: list[str] = []
    page = run_sweep(plan(seed=[0, 1]), OUT, cores=2, tell=told.append)
    assert sorted(ran()) == ["good0", "good1"] and told[-1].startswith("2 of 2 done")
    assert [(row["run"], row["state"], row["seed"], row["twice"], row["deep/x"]) for row in rows()] == [
        ("01_a_seed-0", "done", "0", "0", "0.5"),
        ("01_a_seed-1", "done", "1", "2", "0.5"),
    ]
    assert all(float(row["seconds"]) > 0 and float(row["megabytes"]) > 10 for row in rows())
    html = page.read_text()
    assert 'href="runs/01_a_seed-1/notebook.ipynb"' in html and "2 of 2 runs are done" in html
    run_sweep(plan(seed=[0, 1, 2]), OUT, tell=told.append)
    assert sorted(ran()) == ["good0", "good1", "good2"], "only the new one"
    write_notebook(
        Path("notebooks/01_a.ipynb"), "seed: int = 1\nout_dir: str = 'runs'", "open('ran', 'a').write('new ')"
    )
    run_sweep(plan(seed=[0, 1, 2]), OUT, tell=told.append)
    assert sum(one == "new" for one in ran()) == 3, "a changed notebook runs again"
    assert all("twice" not in row for row in rows()), "and numbers of the old one are gone"


def test_failures_are_told_kept_and_have_no_numbers():
    plan(kind=["good", "bad", "killed"])
    done = swept()
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(errors) == 1 and "Traceback" not in done.stderr
    assert "2 of 3 runs failed" in errors[0] and "raised ValueError (no such luck)" in errors[0]
    assert "raised DeadKernelError (the kernel died, killed or out of memory)" in errors[0]
    for kind, words in (("bad", "no such luck"), ("killed", "kernel died")):
        kept = OUT / RUNS / f"01_a_kind-{kind}"
        assert (kept / "notebook.failed.ipynb").exists() and not (kept / DONE).exists()
        assert words in (OUT / "index.html").read_text() and words in (OUT / "table.csv").read_text()
    bad = json.loads((OUT / RUNS / "01_a_kind-bad/notebook.failed.ipynb").read_text())
    assert any(
        out["output_type"] == "error" and out["traceback"] for cell in bad["cells"] for out in cell.get("outputs", [])
    )
    assert [row["twice"] for row in rows()] == ["2", "", ""] and rows()[0]["state"] == "done"


def test_a_wrong_parameter_runs_nothing():
    plan(sede=[1])
    done = swept()
    assert done.returncode == 1 and "sets 'sede'" in done.stderr and not OUT.exists() and not Path("ran").exists()


def test_a_failed_run_is_tried_again():
    run_sweep(plan(retries=1, kind=["once"]), OUT, tell=lambda line: None)
    assert ran() == ["once1", "once1"] and state(OUT / RUNS / "01_a_kind-once") == "done"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_killed_sweep_goes_on(number):
    plan(kind=["slow"], seed=[0, 1, 2, 3])
    process = subprocess.Popen([*LSN, "sweep", "s.yaml", "--out", str(OUT), "--cores", "1"], stderr=subprocess.DEVNULL)
    done = lambda: list(OUT.glob(f"{RUNS}/*/{DONE}"))  # noqa: E731
    for _ in range(600):
        if len(done()) >= 1 and len(ran()) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(number)
    process.wait(timeout=60)
    assert 1 <= len(done()) < 4
    finished = {path.parent.name for path in done()}
    before = len(ran())
    again = swept("--cores", "2")
    assert again.returncode == 0, again.stderr
    assert len(done()) == 4 and len(ran()) - before == 4 - len(finished), "what was done is not run again"
    assert {row["state"] for row in rows()} == {"done"}


def test_an_engine_that_cannot_start_says_where_to_read(monkeypatch, tmp_path):
    monkeypatch.setattr(workflow, "_engine", lambda *_: [sys.executable, "-c", "raise SystemExit('no plan')"])
    with pytest.raises(InputError, match=r"1 of 1 runs are not done; the same line goes on \(out/snakemake.log\)"):
        run_sweep(plan(seed=[0]), OUT, tell=lambda line: None)
    assert "no plan" in (OUT / "snakemake.log").read_text()


def test_places_to_run_are_profiles():
    with pytest.raises(InputError, match=r"moon: is no profile .* kubernetes, local, slurm"):
        run_sweep(plan(seed=[0]), OUT, where="moon", tell=lambda line: None)
    for name in ("slurm", "kubernetes"):
        command = workflow._engine(name, 7, 1)
        profile = Path(command[command.index("--workflow-profile") + 1])
        assert yaml.safe_load((profile / "config.yaml").read_text())["executor"] == name
        assert command[-4:] == ["--retries", "1", "--jobs", "7"] and "--cores" not in command


def test_the_engine_knows_its_executors():
    """Their plug-ins are installed, and take the settings of the profiles."""
    run_sweep(plan(seed=[0]), OUT, tell=lambda line: None)
    for name in ("slurm", "kubernetes"):
        settings = [f"sweep={Path('s.yaml').resolve()}", f"root={Path.cwd()}"]
        command = [*workflow._engine(name, 1, 0), "--dry-run", "--forceall", "--config", *settings]
        done = subprocess.run(command, cwd=OUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "rule notebook" in done.stdout + done.stderr


def test_gathering_needs_no_engine():
    sweep = read_sweep(plan(seed=[0, 1]))
    page = gather(sweep, OUT, title="<mine>")
    assert "0 of 2 runs are done" in page.read_text() and "&lt;mine&gt;" in page.read_text()
    assert [row["state"] for row in rows()] == ["waiting", "waiting"]


@pytest.mark.browser
def test_the_page_is_accessible(page):
    from axe_playwright_python.sync_playwright import Axe

    gather(read_sweep(plan(seed=[0, 1])), OUT, title="mine")
    page.goto((OUT / "index.html").resolve().as_uri())
    assert Axe().run(page).response["violations"] == [] and not page.blocked and not page.complaints


def test_orphans_end(tmp_path):
    """A process that watches its parent is interrupted once that is gone."""
    code = "import os, time; from lsn_core.workflow import end_with; end_with(os.getppid()); time.sleep(60)"
    inner = [sys.executable, "-c", code]
    start = f"subprocess.Popen({inner!r}, start_new_session=True)"
    outer = f"import subprocess, time; print({start}.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True)
    with parent.stdout as said:
        child = int(said.readline())
    time.sleep(3)
    assert Path(f"/proc/{child}").exists() or os.name != "posix" or sys.platform == "darwin"
    parent.kill()
    parent.wait()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it went on")
