"""The book: execute its notebooks where their inputs changed, stage the results, and build the site.

Everything lands in `build/`: `executed/` (notebooks with outputs, and a stamp of their inputs), `runs/` (what they
wrote), `src/` (what the site is built from), `book.log` and the site itself, `_build/html/`.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lsn_core.files import InputError, read_json, read_yaml, write_json, write_text
from lsn_core.notebook import parameter_values, run_notebook, unfinished
from lsn_core.parameters import declared_parameters
from lsn_core.profile import load_profile

PACKAGE = Path(__file__).parent
JUPYTER_BOOK = (sys.executable, "-c", "from jupyter_book.cli.main import main; main()")  # it has no `python -m`
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
BUILD_OPTIONS = ("build", "build/src", "--path-output", "build", "-W", "-n", "--keep-going")


def build_book(root: Path, *, profile: str, force: bool = False, progress: bool = True) -> Path:
    """Build the book whose _toc.yml lies in `root`, and return the path of the site's index.html.

    Notebooks run with `profile` in `root`, and only where they, the profile's values for them, the package or its
    data changed since; `force` runs them all. `progress` tells on stderr what is going on. Raises `InputError` where
    a notebook fails, and where the build gives a warning, since a warning means a broken page.
    """
    profile = str(Path(profile).resolve()) if profile.endswith((".yaml", ".yml")) else profile
    with contextlib.chdir(root):
        notebooks = toc_notebooks(Path())
        _check_profile(profile, Path())
        for source in notebooks:
            _refresh(source, profile, force, progress)
        stage(Path(), Path("build/executed"), Path("build/src"))
        _tell(progress, "building the site")
        _build_site()
    return Path(root) / "build/_build/html/index.html"


def toc_files(root: Path) -> list[str]:
    """Every page that _toc.yml lists, in its order, as written there."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from [value] if key in ("root", "file") else walk(value)
        elif isinstance(node, list):
            for one in node:
                yield from walk(one)

    return list(walk(read_yaml(Path(root) / "_toc.yml")))


def toc_notebooks(root: Path) -> list[Path]:
    """The notebooks among the pages of _toc.yml. Raises `InputError` where one does not exist."""
    names = [name.removesuffix(".ipynb") for name in toc_files(root) if name.startswith("notebooks/")]
    sources = [Path(root) / f"{name}.ipynb" for name in names]
    for source in sources:
        if not source.exists():
            raise InputError(f"{Path(root) / '_toc.yml'}: lists {source}, which does not exist; write it or unlist it")
    return sources


def stage(root: Path, executed: Path, out: Path) -> Path:
    """Copy the book's configuration, pages and executed notebooks into `out`, which is emptied first; return `out`.

    Raises `InputError` for a notebook in _toc.yml whose copy in `executed` is missing, failed or was interrupted.
    """
    root, executed, out = Path(root), Path(executed), Path(out)
    runs = [(source.relative_to(root), executed / source.name) for source in toc_notebooks(root)]
    for _, run in runs:
        reason = unfinished(read_json(run)) if run.exists() else "was not executed"
        if reason:
            raise InputError(f"{run}: this run {reason} and can't be published; run the notebook again")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(root / "book", out / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy2(root / name, out / name)
    for name, run in runs:
        _publish(run, out / name)
    return out


def _publish(run: Path, page: Path) -> None:
    """Copy an executed notebook, with the values that papermill injected folded away, and no state of live widgets.

    Pages have no kernel that could serve widgets, and the state alone is as large as what they show instead.
    """
    notebook = read_json(run)
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "injected-parameters" in tags:
            cell["metadata"]["tags"] = [*tags, "hide-input"]
    write_json(page, notebook)


def stamp(root: Path, source: Path, profile: str) -> str:
    """A hash of all that a run of the notebook `source` depends on, paths and times apart."""
    digest = hashlib.sha256()
    digest.update(json.dumps(parameter_values(source, {}, profile), sort_keys=True).encode())
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


def _check_profile(profile: str, root: Path) -> None:
    """Refuse a profile that sets parameters of a notebook that does not exist."""
    for stem in load_profile(profile)["notebooks"]:
        if not (root / "notebooks" / f"{stem}.ipynb").exists():
            raise InputError(f"profile {profile}: notebooks/{stem}.ipynb does not exist; correct or remove its section")


def _refresh(source: Path, profile: str, force: bool, progress: bool) -> None:
    """Run a notebook unless its executed copy is whole and of the same inputs."""
    out, seal = Path("build/executed", source.name), Path("build/executed", f"{source.stem}.stamp.json")
    inputs = stamp(Path(), source, profile)
    runs = Path("build/runs", source.stem) if "out_dir" in declared_parameters(source) else None
    if not force and _fresh(out, seal, inputs) and (runs is None or runs.exists()):
        return _tell(progress, f"{source.stem}: unchanged")
    _tell(progress, f"{source.stem}: running with profile {Path(profile).stem}")
    seal.unlink(missing_ok=True)
    start = time.monotonic()
    given = {"out_dir": runs.as_posix()} if runs else {}
    run_notebook(source, out, parameters=given, profile=profile, progress=progress and sys.stderr.isatty())
    seconds = round(time.monotonic() - start, 1)
    write_json(seal, {"inputs": inputs, "profile": Path(profile).stem, "seconds": seconds})
    _tell(progress, f"{source.stem}: done in {seconds} s")


def _fresh(out: Path, seal: Path, inputs: str) -> bool:
    """Whether the executed copy is whole and was made from these inputs."""
    try:
        return read_json(seal)["inputs"] == inputs and unfinished(read_json(out)) is None
    except (InputError, KeyError, TypeError):
        return False


def _build_site() -> None:
    """Run Jupyter Book on the staged source, from nothing: it would keep stale pages and numbers."""
    shutil.rmtree("build/_build", ignore_errors=True)
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run([*JUPYTER_BOOK, *BUILD_OPTIONS], env=environment, check=False, **pipe)
    told = COLOUR.sub("", done.stdout.decode("utf-8", "replace")).replace(f"{Path.cwd()}{os.sep}", "")
    log = write_text(Path("build/book.log"), told)
    if done.returncode:
        lines = [line.strip() for line in told.splitlines() if line.strip()]
        warned = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines
        raise InputError(f"{log}: the book was not built ({' | '.join(warned[-3:])}); correct what is named there")
    _check_site(Path("build/_build/html"))


def _check_site(site: Path) -> None:
    """Trust no exit status: the front page must be there and bear the book's title."""
    title, front = read_yaml(Path("_config.yml"))["title"], f"{toc_files(Path())[0]}.html"
    pages = [site / "index.html", site / front]
    if not all(page.exists() for page in pages) or title not in pages[1].read_text(encoding="utf-8"):
        raise InputError(f"{site}: the site has no front page with the title {title!r}; see build/book.log")


def _tell(progress: bool, line: str) -> None:
    """A line of progress on stderr."""
    if progress:
        sys.stderr.write(f"lsn book: {line}\n")
        sys.stderr.flush()
