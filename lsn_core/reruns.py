"""Reruns of the book's chapters: what each depends on, and running those that changed side by side.

As many run at once as cores and memory allow. Each is `lsn run` in a process of its own, so that a chapter that takes
all memory takes no other with it.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsn_core.files import InputError, read_json, write_json
from lsn_core.notebook import parameter_values, unfinished, used
from lsn_core.parameters import declared_parameters

PACKAGE = Path(__file__).parent
EXECUTED, RUNS = Path("build/executed"), Path("build/runs")  # notebooks with outputs, and what they wrote
SECONDS, MEGABYTES = 30.0, 2200.0  # what a chapter is taken to need that has never run
SPARE_MB = 300.0  # left to the rest of the machine
PAUSE = 0.1  # s between looks at the processes

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Chapter:
    """A notebook to run with a profile: what it needs (s and MB, of an earlier run) and whether it must run."""

    source: Path
    profile: str
    inputs: str
    seconds: float
    megabytes: float
    fresh: bool

    @property
    def out(self) -> Path:
        """Where the executed copy goes."""
        return EXECUTED / self.source.name

    @property
    def seal(self) -> Path:
        """Where the inputs of the executed copy are written down."""
        return EXECUTED / f"{self.source.stem}.stamp.json"

    @property
    def runs(self) -> Path | None:
        """Where the notebook writes, where it can be told so."""
        return RUNS / self.source.stem if "out_dir" in declared_parameters(self.source) else None

    def command(self) -> list[str]:
        """The command that runs it."""
        given = ["-p", f"out_dir={self.runs.as_posix()}"] if self.runs else []
        asked = [str(self.source), "--out", str(self.out), "--profile", self.profile, *given]
        return [sys.executable, "-m", "lsn_core.cli", "run", *asked]


@dataclass
class Running:
    """A chapter that is running, since when, and the file that takes what its process says."""

    chapter: Chapter
    process: subprocess.Popen
    said: Path
    began: float = field(default_factory=time.monotonic)

    def left(self, pace: float) -> float:
        """Seconds until it will probably be done."""
        return max(self.chapter.seconds * pace - (time.monotonic() - self.began), 1.0)


def open_chapter(source: Path, profile: str, known: dict[str, float]) -> Chapter:
    """The chapter of a notebook in the current folder; `known` are seconds and megabytes of a run elsewhere."""
    inputs = stamp(Path(), source, parameter_values(source, {}, profile))
    seal = EXECUTED / f"{source.stem}.stamp.json"
    try:
        before = read_json(seal)
        needs = (float(before["seconds"]), float(before["megabytes"]))
        fresh = before["inputs"] == inputs and unfinished(read_json(EXECUTED / source.name)) is None
    except (InputError, KeyError, TypeError):
        needs, fresh = (known.get("seconds", SECONDS), known.get("megabytes", MEGABYTES)), False
    chapter = Chapter(source, profile, inputs, *needs, fresh)
    return chapter if not chapter.runs or chapter.runs.exists() else Chapter(source, profile, inputs, *needs, False)


def needs_of(executed: Path) -> dict[str, dict[str, float]]:
    """Seconds and MB of each notebook of a folder of executed ones."""
    metadata = {path.stem: read_json(path)["metadata"] for path in sorted(Path(executed).glob("[!.]*.ipynb"))}
    return {
        stem: {"seconds": round(one["papermill"]["duration"], 1), "megabytes": one["lsn"]["megabytes"]}
        for stem, one in metadata.items()
        if "lsn" in one and "." not in stem
    }


def stamp(root: Path, source: Path, values: dict[str, Any]) -> str:
    """A hash of all that a run of the notebook `source` with `values` depends on, paths and times apart."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in (source, *_package_files(), *_shared_files(Path(root))):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _package_files() -> list[Path]:
    """The sources of the package that will run."""
    return sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("*.js")])


def _shared_files(root: Path) -> list[Path]:
    """The files of a checkout that any notebook may read: pinned versions, data but for downloads, stored results."""
    data = [path for folder in ("data", "book/results") for path in sorted((root / folder).rglob("*"))]
    kept = [path for path in data if path.is_file() and "downloads" not in path.relative_to(root).parts]
    return [path for path in (root / "constraints.txt", *kept) if path.exists()]


def run_chapters(chapters: Sequence[Chapter], *, jobs: int, memory_mb: float, tell: Tell) -> None:
    """Run chapters, the longest first, at most `jobs` at once and no more than fit into `memory_mb` together.

    One that fails does not keep the others from running. Raises `InputError` with what each failed one said. Ctrl-C
    interrupts them all and keeps what is done.
    """
    waiting = sorted(chapters, key=lambda chapter: -chapter.seconds)
    queue, failures = Queue(waiting, jobs, memory_mb, tell), []
    with queue.interrupting():
        while queue.step():
            failures += queue.finished()
            time.sleep(PAUSE)
    if failures:
        raise InputError(" | ".join(failures))


class Queue:
    """Chapters that wait, chapters that run, and what is known of how fast they go."""

    def __init__(self, waiting: list[Chapter], jobs: int, memory_mb: float, tell: Tell) -> None:
        """`waiting` in the order in which they are to start where they fit."""
        self.waiting, self.jobs, self.memory_mb, self.tell = waiting, jobs, memory_mb, tell
        self.running: list[Running] = []
        smallest = min((one.megabytes for one in waiting), default=1.0)
        self.at_once = max(1, min(jobs, len(waiting), int(memory_mb // smallest)))
        threads = str(max(1, (os.cpu_count() or 1) // self.at_once))
        self.environment = {"OMP_NUM_THREADS": threads} | os.environ  # threads that outnumber cores wait for each other
        self.total, self.done, self.pace = len(waiting), 0, 1.0
        self.taken, self.foreseen = 0.0, 0.0

    def step(self) -> bool:
        """Start what fits; False once nothing waits or runs."""
        while self.waiting and len(self.running) < self.jobs:
            free = self.memory_mb - sum(one.chapter.megabytes for one in self.running)
            fitting = [one for one in self.waiting if one.megabytes <= free]
            if not fitting and self.running:
                break
            self._start(fitting[0] if fitting else self.waiting[0])
        return bool(self.running)

    def _start(self, chapter: Chapter) -> None:
        """Start one chapter; what it says goes to a file, since a pipe that nobody reads would stop it."""
        self.waiting.remove(chapter)
        for stale in (chapter.seal, *([chapter.runs / "metrics.json"] if chapter.runs else [])):
            stale.unlink(missing_ok=True)
        chapter.out.parent.mkdir(parents=True, exist_ok=True)
        said = chapter.out.with_suffix(".log")
        with said.open("wb") as log:
            apart = {"start_new_session": True, "env": self.environment}  # a Ctrl-C reaches it through us alone, once
            process = subprocess.Popen(chapter.command(), stdout=log, stderr=subprocess.STDOUT, **apart)
        self.running.append(Running(chapter, process, said))
        self.tell(f"{chapter.source.stem}: running with profile {Path(chapter.profile).stem}{self._time_left()}")

    def finished(self) -> Iterator[str]:
        """Take away what has ended; yield what the failed ones said."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            self.done += 1
            if one.process.returncode:
                failure = _complaint(one)
                self.tell(f"{one.chapter.source.stem}: failed; {self.done} of {self.total}{self._time_left()}")
                yield failure
            else:
                self._seal(one)

    def _seal(self, one: Running) -> None:
        """Write down what a good run was made from and needed."""
        seconds, chapter = round(time.monotonic() - one.began, 1), one.chapter
        needs = {"seconds": seconds, "megabytes": used(chapter.out)}
        write_json(chapter.seal, {"inputs": chapter.inputs, "profile": Path(chapter.profile).stem, **needs})
        one.said.unlink(missing_ok=True)
        self.taken, self.foreseen = self.taken + seconds, self.foreseen + chapter.seconds
        self.pace = self.taken / self.foreseen
        self.tell(f"{chapter.source.stem}: done in {seconds} s; {self.done} of {self.total}{self._time_left()}")

    def _time_left(self) -> str:
        """About how long all will take from now on, in words; nothing where nothing is left."""
        alone = [one.left(self.pace) for one in self.running]
        alone += [chapter.seconds * self.pace for chapter in self.waiting]
        if not alone:
            return ""
        return f", {duration(max(sum(alone) / self.at_once, *alone))} left"

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a SIGTERM end like a Ctrl-C, and no process outlive the block."""
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            for one in self.running:
                one.process.send_signal(signal.SIGINT)
            for one in self.running:
                _wait_or_kill(one.process)


def _interrupt(*_: Any) -> None:
    """What SIGTERM does while chapters run."""
    raise KeyboardInterrupt


def _wait_or_kill(process: subprocess.Popen) -> None:
    """Give a process time to keep what it has."""
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _complaint(one: Running) -> str:
    """The sentence in which a failed run says why, or its exit status where the system ended it."""
    told = one.said.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in told.splitlines() if line.startswith("error: ")]
    if lines:
        one.said.unlink()
        return lines[-1].removeprefix("error: ")
    code = one.process.returncode
    ended = f"was ended by signal {-code}, perhaps for lack of memory" if code < 0 else f"ended with exit code {code}"
    return f"{one.chapter.source}: {ended}; see {one.said}"


def duration(seconds: float) -> str:
    """A time span as people say it: "about 40 s", "about 3 min", "about 2 h 10 min"."""
    if seconds < 60:
        return f"about {max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min"


def room() -> tuple[int, float]:
    """How many cores this process may use, and how many MB are free for it."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, min(psutil.virtual_memory().available / 2**20, _container_mb()) - SPARE_MB


def _container_mb() -> float:
    """What a container's limit leaves, in MB, files that are only cached apart; infinite where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, kinds = (folder / "memory.max").read_text(), (folder / "memory.stat").read_text().split()
        return (int(limit) - int(kinds[kinds.index("anon") + 1])) / 2**20
    except (OSError, ValueError):
        return float("inf")
