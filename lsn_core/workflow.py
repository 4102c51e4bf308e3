"""Running a sweep by a workflow engine, Snakemake: on this machine, a SLURM cluster or Kubernetes, by its profiles.

The rules are in `workflow/Snakefile`: each run leaves its notebook, log and metrics in a folder of its own, and is run
again only where something that it depends on has changed.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from lsn_core.files import InputError, held
from lsn_core.reruns import duration, room
from lsn_core.sweep import Sweep, read_sweep
from lsn_core.sweep_results import RUNS, complaint, gather, state

PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "workflow_files", PACKAGE.parent / "workflow")  # in a wheel, and in a checkout
LOCK, ENGINE_LOG = ".lock", "snakemake.log"
PAUSE = 1.0  # s between looks at what is done
GRACE = 30.0  # s that the engine has to end

Tell = Callable[[str], None]


def run_sweep(path: Path, out: Path, *, where: str = "local", cores: int | None = None, tell: Tell) -> Path:
    """Run a sweep into the folder `out`, gather its results, and return the page that shows them.

    `where` is a profile of the workflow: local, slurm, kubernetes, or the folder of one's own; `cores` are those of
    this machine, or the jobs at once elsewhere. The same call goes on after any kind of stop; it waits where another
    process is at it. Raises `InputError`, once the others are done, where a run has failed.
    """
    sweep, out = read_sweep(path), Path(out)
    with held(out / LOCK) as free:
        pass
    if not free:
        tell(f"another process is at {out}; waiting until it ends")
    with held(out / LOCK, wait=True, shared=True):
        settings = {"sweep": Path(path).resolve(), "root": Path.cwd(), "parent": os.getpid()}
        given = [f"{key}={value}" for key, value in settings.items()]
        code = _watch([*_engine(where, cores, sweep.retries), "--config", *given], sweep, out, tell)
    page = gather(sweep, out, title=Path(path).stem)
    _refuse_unfinished(sweep, out, page, code)
    return page


def _refuse_unfinished(sweep: Sweep, out: Path, page: Path, code: int) -> None:
    """Raise `InputError` where a run failed, was not done, or the engine itself complains."""
    states = {name: state(out / RUNS / name) for name in sweep.runs}
    failed = [f"{name}: {complaint(out / RUNS / name)}" for name, found in states.items() if found == "failed"]
    if failed:
        raise InputError(f"{len(failed)} of {len(states)} runs failed: {' | '.join(failed)}; all are in {page}")
    undone = sum(found != "done" for found in states.values())
    if undone or code:
        raise InputError(f"{undone} of {len(states)} runs are not done; the same line goes on ({out / ENGINE_LOG})")


def _engine(where: str, cores: int | None, retries: int) -> list[str]:
    """The command of the workflow engine, which must be installed.

    It counts the retries: were they a directive of the rule, the job on a cluster's node would count its own, too.
    """
    folder = next(folder for folder in FOLDERS if folder.is_dir())
    profile = Path(where) if os.sep in where else folder / "profiles" / where
    if not (profile / "config.yaml").exists():
        known = ", ".join(sorted(path.name for path in (folder / "profiles").iterdir()))
        raise InputError(f"{where}: is no profile of the workflow; choose {known}, or the folder of a config.yaml")
    if not find_spec("snakemake"):
        raise InputError("a sweep needs Snakemake; install it with: pip install 'lsn-core[sweep]'")
    own, free_mb = room()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Snakefile"), "--directory", "."]
    command += ["--workflow-profile", str(profile.resolve()), "--nolock", "--rerun-incomplete", "--keep-going"]
    command += ["--retries", str(retries)]
    if profile.name == "local":
        return [*command, "--cores", str(cores or own), "--resources", f"mem_mb={max(int(free_mb), 1)}"]
    return [*command, *(["--jobs", str(cores)] if cores else [])]


def _watch(command: Sequence[str], sweep: Sweep, out: Path, tell: Tell) -> int:
    """Start the engine in `out`, tell how far it is, and return its exit code; an interrupt is passed on to it."""
    with (out / ENGINE_LOG).open("wb") as log:
        apart = {"cwd": out, "start_new_session": True, "close_fds": False}
        engine = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **apart)
    began, first, told = time.monotonic(), None, None
    try:
        while engine.poll() is None:
            states = [state(out / RUNS / name) for name in sweep.runs]
            first = first or states
            ended = states.count("done"), states.count("failed")
            if ended != told:
                tell(_progress(states, first) + _time_left(states, first, time.monotonic() - began))
            told = ended
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        tell("stopping; the same line goes on")
        end(engine)
    return engine.returncode


def _progress(states: Sequence[str], first: Sequence[str]) -> str:
    """How many runs are done, going on and failed; those that were done before are told apart."""
    before = first.count("done")
    words = [f"{states.count('done')} of {len(states)} done" + (f" ({before} before)" if before else "")]
    return ", ".join(words + [f"{states.count(name)} {name}" for name in ("running", "failed") if name in states])


def _time_left(states: Sequence[str], first: Sequence[str], seconds: float) -> str:
    """About how long the others will take, where some have been done to judge by; what failed may be tried again."""
    new = states.count("done") - first.count("done")
    left = len(states) - states.count("done") - states.count("failed")
    return f", {duration(seconds / new * left)} left" if new > 0 and left else ""


def end(engine: subprocess.Popen) -> None:
    """Interrupt an engine and all that it has started; what does not end within half a minute is killed."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(engine.pid, number)
        with suppress(subprocess.TimeoutExpired):
            engine.wait(timeout=GRACE)


def end_with(parent: int) -> None:
    """In the engine: interrupt it and its runs once the process that started it has gone, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PAUSE)
        os.killpg(os.getpgrp(), signal.SIGINT)

    if os.getppid() == parent:
        threading.Thread(target=watch, daemon=True).start()
