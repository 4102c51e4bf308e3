"""Reruns: what they depend on, how many go at once, what they say on the way, and what an interrupt leaves."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_notebook

from lsn_core import reruns
from lsn_core.files import InputError, read_json
from lsn_core.notebook import parameter_values
from lsn_core.reruns import EXECUTED, RUNS, Chapter, duration, open_chapter, room, run_chapters, stamp

pytestmark = pytest.mark.slow

PROFILE = "mine.yaml"
WRITE = """from pathlib import Path
Path(out_dir).mkdir(parents=True, exist_ok=True)
Path(out_dir, 'seed').write_text(str(seed))"""
SLOW = "import time\nopen('started', 'w').close()\ntime.sleep(300)"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder with a profile, in which one works."""
    monkeypatch.chdir(tmp_path)
    Path(PROFILE).write_text("notebooks: {}\n")
    return tmp_path


def chapter(name: str, *cells: str, seconds: float = 1.0, megabytes: float = 100.0) -> Chapter:
    """A chapter of these cells."""
    source = write_notebook(Path(f"notebooks/{name}.ipynb"), "seed = 1\nout_dir = 'runs'", *cells)
    return open_chapter(source, PROFILE, {"seconds": seconds, "megabytes": megabytes})


def run(*chapters: Chapter, jobs: int = 2, memory_mb: float = 1000.0) -> list[str]:
    """What is told while chapters run."""
    told: list[str] = []
    run_chapters(chapters, jobs=jobs, memory_mb=memory_mb, tell=told.append)
    return told


def test_stamp_follows_every_input(folder, monkeypatch):
    source = write_notebook(Path("notebooks/01_a.ipynb"), "seed = 1")
    Path("data/downloads").mkdir(parents=True)
    Path("package").mkdir()
    monkeypatch.setattr(reruns, "PACKAGE", Path("package"))

    def now() -> str:
        return stamp(Path(), source, parameter_values(source, {}, PROFILE))

    seen = [now()]
    for path, text in {
        PROFILE: "notebooks: {01_a: {seed: 4}}",
        "package/a.py": "1",
        "package/a.js": "1",
        "constraints.txt": "numpy==2",
        "data/weights.txt": "1",
    }.items():
        Path(path).write_text(text)
        seen.append(now())
    write_notebook(source, "seed = 2")
    assert len({*seen, now()}) == len(seen) + 1
    before = now()
    Path(PROFILE).write_text("train: {steps: 1}\nnotebooks: {01_a: {seed: 4}}")
    Path("data/downloads/big.zip").write_text("1")
    Path("package/notes.txt").write_text("1")
    assert now() == before


def test_what_ran_is_fresh_until_something_changes(folder):
    run(chapter("01_a", WRITE))
    assert (RUNS / "01_a/seed").read_text() == "1" and sorted(p.name for p in EXECUTED.iterdir()) == [
        "01_a.ipynb",
        "01_a.stamp.json",
    ]
    seal = read_json(EXECUTED / "01_a.stamp.json")
    assert seal["profile"] == "mine" and seal["seconds"] > 0 and 50 < seal["megabytes"] < 1000
    again = open_chapter(Path("notebooks/01_a.ipynb"), PROFILE, {})
    assert again.fresh and (again.seconds, again.megabytes) == (seal["seconds"], seal["megabytes"])
    kept = Path("kept")
    shutil.copytree("build", kept)
    for spoil in (
        lambda: shutil.rmtree(RUNS / "01_a"),
        lambda: (EXECUTED / "01_a.ipynb").write_text("{"),
        lambda: (EXECUTED / "01_a.stamp.json").write_text("[]"),
        lambda: Path(PROFILE).write_text("notebooks: {01_a: {seed: 4}}"),
    ):
        spoil()
        assert not open_chapter(Path("notebooks/01_a.ipynb"), PROFILE, {}).fresh
        shutil.rmtree("build")
        shutil.copytree(kept, "build")
        Path(PROFILE).write_text("notebooks: {}\n")
        assert open_chapter(Path("notebooks/01_a.ipynb"), PROFILE, {}).fresh


class Fake(subprocess.Popen):
    """A process that ends after so many looks at it, and the processes that run beside it."""

    alive, most, started = 0, 0, []
    _child_created = False

    def __init__(self, command, **_) -> None:
        Fake.started.append(Path(command[4]).stem)
        Fake.alive += 1
        Fake.most = max(Fake.most, Fake.alive)
        self.looks, self.returncode = 3, None

    def poll(self):
        self.looks -= 1
        if self.looks == 0:
            Fake.alive -= 1
            self.returncode = 0
        return self.returncode


@pytest.fixture
def fake(folder, monkeypatch):
    """Chapters that only pretend to run."""
    Fake.alive, Fake.most, Fake.started = 0, 0, []
    monkeypatch.setattr(reruns.subprocess, "Popen", Fake)
    monkeypatch.setattr(reruns, "used", lambda path: 100.0)
    monkeypatch.setattr(reruns, "PAUSE", 0.0)
    return Fake


def test_as_many_run_at_once_as_cores_and_memory_allow(fake):
    many = [chapter(f"0{n}_a", seconds=n, megabytes=100.0 * n) for n in range(1, 7)]
    run(*many, jobs=3, memory_mb=10_000)
    assert fake.most == 3 and fake.started == [f"0{n}_a" for n in (6, 5, 4, 3, 2, 1)], "the longest first"
    Fake.most, Fake.started = 0, []
    run(*many, jobs=6, memory_mb=700)
    assert fake.started[:2] == ["06_a", "01_a"], "beside the one of 600 MB there is room for that of 100"
    Fake.most, Fake.started = 0, []
    run(*many, jobs=6, memory_mb=50)
    assert fake.most == 1 and len(fake.started) == 6, "what never fits runs alone"


def test_progress_tells_what_is_done_and_the_time_left(fake):
    told = run(*(chapter(f"0{n}_a", seconds=100.0) for n in range(1, 5)))
    assert told[0].startswith("04_a: running with profile mine, about") or told[0].startswith("01_a: running")
    assert "about 3 min left" in told[1], "four of 100 s, two at a time"
    assert "4 of 4" in told[-1] and "left" not in told[-1]


def test_time_left_follows_the_pace(folder):
    queue = reruns.Queue([chapter("01_a", seconds=100.0)], 1, 1000.0, print)
    assert "about 2 min left" in queue._time_left() and queue.at_once == 1
    queue.pace = 3.0
    assert "about 5 min left" in queue._time_left()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "about 1 s"), (59, "about 59 s"), (100, "about 2 min"), (7800, "about 2 h 10 min")]
)
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_one_failure_keeps_no_other_from_running(folder):
    stale = RUNS / "01_bad" / "metrics.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    killed = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(InputError) as failure:
        run(chapter("01_bad", "1 / 0", seconds=9), chapter("02_killed", killed), chapter("03_good", WRITE), jobs=1)
    assert "01_bad.ipynb: cell 2 raised ZeroDivisionError" in str(failure.value)
    assert "02_killed.ipynb: cell 2 raised DeadKernelError (the kernel died, killed or out of memory)" in str(
        failure.value
    )
    assert (EXECUTED / "03_good.ipynb").exists() and not (EXECUTED / "01_bad.ipynb").exists() and not stale.exists()
    assert (EXECUTED / "01_bad.failed.ipynb").exists() and not (EXECUTED / "01_bad.stamp.json").exists()


def test_a_runner_that_is_killed_is_named(folder, monkeypatch):
    monkeypatch.setattr(Chapter, "command", lambda self: ["sh", "-c", "kill -9 $$"])
    with pytest.raises(
        InputError, match=r"01_a.ipynb: was ended by signal 9, perhaps for lack of memory; see .*01_a.log"
    ):
        run(chapter("01_a"))


def test_an_interrupt_leaves_no_process_behind(folder):
    write_notebook(Path("notebooks/01_a.ipynb"), "seed = 1", SLOW)
    chapters = f"[open_chapter(Path('notebooks/01_a.ipynb'), '{PROFILE}', {{}})]"
    code = f"from lsn_core.reruns import *\nrun_chapters({chapters}, jobs=1, memory_mb=1, tell=print)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    for _ in range(300):
        if Path("started").exists():
            break
        time.sleep(0.1)
    assert Path("started").exists()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=30) != 0
    assert not (EXECUTED / "01_a.partial.ipynb").exists() and (EXECUTED / "01_a.failed.ipynb").exists()


def test_there_is_room_here():
    cores, free_mb = room()
    assert 1 <= cores <= (os.cpu_count() or 1) and free_mb > 0


def test_the_needs_of_a_notebook_are_those_of_its_last_run(fake):
    first = chapter("01_a", seconds=5, megabytes=700)
    assert (first.seconds, first.megabytes, first.fresh) == (5, 700, False)
    unknown = open_chapter(first.source, PROFILE, {})
    assert (unknown.seconds, unknown.megabytes) == (reruns.SECONDS, reruns.MEGABYTES)
    assert replace(first, seconds=1).source == first.source
