"""Running notebooks with parameters: papermill, made strict.

An unknown parameter is an error, text takes the type of the default, and a file bears the name that was asked for
only if every cell of it ran. A run that did not end well is kept beside it as `<name>.failed.ipynb`.
"""

import contextlib
import functools
import json
import logging
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lsn_core.files import InputError, held, read_json
from lsn_core.parameters import fit_parameters
from lsn_core.profile import load_profile, profile_path

ENGINE = "lsn"  # our name in papermill's register of engines
PARTIAL, FAILED = ".partial.ipynb", ".failed.ipynb"


def run_notebook(
    source: Path,
    out: Path,
    *,
    parameters: dict[str, Any] | None = None,
    profile: str | None = None,
    progress: bool = True,
    timeout: int | None = None,
) -> Path:
    """Execute `source` in the current folder with this Python, write the executed copy to `out` and return `out`.

    `profile` names a profile or its file; `parameters` wins over it, and its texts are read by the type of the
    notebook's defaults (`false`, `1e-4`, `[1, 2]`). `progress` draws a bar on stderr; `timeout` is seconds per cell.
    Raises `InputError` where a parameter does not fit, and where a cell fails, runs too long or loses its kernel:
    then `out` is not written, and the message names the cell and the `.failed.ipynb` that shows how far it came.
    """
    source, out = Path(source), Path(out)
    values = parameter_values(source, parameters or {}, profile)
    partial, failed = _prepare(source, out)
    with _alone(out, progress):
        return _run(source, out, partial, failed, values=values, progress=progress, timeout=timeout)


def _run(source: Path, out: Path, partial: Path, failed: Path, **options: Any) -> Path:
    """Execute into `partial`, and give that its final name."""
    partial.unlink(missing_ok=True)  # of a run that was killed
    try:
        _execute(source, partial, **options)
        _check_finished(partial)
    except KeyboardInterrupt:
        _settle(source, partial, failed)
        raise
    except Exception as error:
        kept = _settle(source, partial, failed)
        raise InputError(_failure(source, error, kept)) from error
    failed.unlink(missing_ok=True)
    return _settle(source, partial, out) or out


def parameter_values(source: Path, parameters: dict[str, Any], profile: str | None) -> dict[str, Any]:
    """What a run of `source` injects: the profile's values for it, then `parameters`. Raises `InputError`."""
    if profile is None:
        return fit_parameters(source, parameters)
    section = load_profile(profile)["notebooks"].get(source.stem, {})
    values = fit_parameters(source, section, origin=str(profile_path(profile)))
    return values | fit_parameters(source, parameters)


def _prepare(source: Path, out: Path) -> tuple[Path, Path]:
    """The paths of a run that is going on and of one that failed; the folder is made."""
    if source.resolve() == out.resolve():
        raise InputError(f"{out}: the output would overwrite the notebook itself; choose another file")
    if out.suffix != ".ipynb" or out.is_dir():
        raise InputError(f"{out}: the output is not a notebook file; give a name that ends in .ipynb")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: its folder cannot be made ({error.strerror}); choose another file") from error
    return out.with_name(out.stem + PARTIAL), out.with_name(out.stem + FAILED)


@contextlib.contextmanager
def _alone(out: Path, progress: bool) -> Iterator[None]:
    """Wait until no other process is at `out`, such as one that outlived what had started it."""
    lock = out.with_name(f".{out.stem}.lock")
    with held(lock) as free:
        pass
    if progress and not free:
        sys.stderr.write(f"another process is writing {out}; waiting until it ends\n")
    with held(lock, wait=True):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _execute(source: Path, partial: Path, *, values: dict[str, Any], progress: bool, timeout: int | None) -> None:
    """Run papermill; it saves after every cell."""
    from papermill import execute_notebook

    _register_engine()
    execute_notebook(
        *(str(path).replace("{", "{{").replace("}", "}}") for path in (source, partial)),  # it formats its paths
        parameters=values,
        engine_name=ENGINE,
        kernel_name="python3",
        language="python",
        progress_bar={"desc": source.stem} if progress else False,
        execution_timeout=timeout,
    )


@functools.cache
def _register_engine() -> None:
    """Tell papermill of an engine whose kernels run this very Python and don't warn about their transport.

    A kernel spec elsewhere (JUPYTER_PATH, a user's folder) may be called python3 too and be another installation.
    """
    from jupyter_client.manager import AsyncKernelManager
    from papermill.engines import NBClientEngine, papermill_engines
    from traitlets import default

    class QuietKernelManager(AsyncKernelManager):
        @default("transport_encryption")
        def _encrypt(self) -> str:
            return "auto"  # from 7.3 ipykernel warns about plain TCP in every executed notebook

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", os.path.realpath(self.connection_file)]
            return [*command, "--log-level=CRITICAL", *(extra_arguments or [])]  # it logs how it was shut down

    class LsnEngine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            options["kernel_manager_class"] = QuietKernelManager
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register(ENGINE, LsnEngine)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it reports, we raise


def unfinished(notebook: dict[str, Any]) -> str | None:
    """Why an executed notebook is not a whole, successful run of papermill, or None where it is one."""
    run = notebook.get("metadata", {}).get("papermill", {})
    code = [cell for cell in notebook.get("cells", []) if cell["cell_type"] == "code"]
    if not run.get("start_time"):
        return "was not executed"
    if run.get("exception") or any(out["output_type"] == "error" for cell in code for out in cell["outputs"]):
        return "failed"
    if not run.get("end_time") or not all(_ran(cell) for cell in code):
        return "was interrupted"
    return None


def _ran(cell: dict[str, Any]) -> bool:
    """Whether a code cell was started and completed: after a kill, papermill calls cells completed that never ran."""
    run = cell["metadata"].get("papermill", {})
    counted = cell.get("execution_count") is not None or not "".join(cell["source"]).strip()
    return run.get("status") == "completed" and bool(run.get("start_time")) and counted


def _check_finished(partial: Path) -> None:
    """Refuse what papermill takes for success: a notebook that `sys.exit()` cut short."""
    if unfinished(read_json(partial)):
        raise RuntimeError("the run ended before the last cell")


def _settle(source: Path, partial: Path, path: Path) -> Path | None:
    """Give a run its final name, without absolute paths in its metadata; None where nothing had been saved."""
    with contextlib.suppress(InputError, KeyError):  # a half-written file is kept as it is
        notebook = read_json(partial)
        notebook["metadata"]["papermill"] |= {"input_path": _short(source), "output_path": _short(path)}
        notebook["metadata"]["lsn"] = {"megabytes": _megabytes()}
        partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    try:
        return partial.replace(path)
    except FileNotFoundError:
        return None


def _megabytes() -> float:
    """The most memory that this process and the largest kernel that it has started took, together."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    own, kernel = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    status = Path("/proc/self/status")
    if status.exists():  # on Linux `own` counts the process that started this one, too
        own = int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1])
    return round((own + kernel) / unit, 1)


def used(run: Path) -> float:
    """The memory in MB that an executed notebook had taken."""
    return read_json(run)["metadata"]["lsn"]["megabytes"]


def _short(path: Path) -> str:
    """The path from the current folder, or the bare name where it lies elsewhere."""
    path, here = path.absolute(), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def _failure(source: Path, error: Exception, kept: Path | None) -> str:
    """One sentence: which cell, what happened, and where to look."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    what = {"DeadKernelError": "the kernel died, killed or out of memory", "CellTimeoutError": "it ran too long"}
    told = what.get(name, " ".join(str(value).split())[:300])
    where = f"cell {_last_cell(kept)}" if kept and _last_cell(kept) else "the start of the kernel"
    look = f"see {kept}" if kept else "nothing was run"
    return f"{source}: {where} raised {name} ({told}); {look}"


def _last_cell(kept: Path) -> int | None:
    """Number of the last cell that was started, counted from 1 in the source, without the cells papermill adds."""
    try:
        cells = read_json(kept)["cells"]
    except InputError:
        return None
    added = {"injected-parameters", "papermill-error-cell-tag"}
    own = [cell for cell in cells if not added & set(cell["metadata"].get("tags", []))]
    started = [number for number, cell in enumerate(own, 1) if cell["metadata"].get("papermill", {}).get("start_time")]
    return started[-1] if started else None
