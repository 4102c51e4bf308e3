"""The book: execute its notebooks where their inputs changed, stage the results, and build the site.

Everything lands in `build/`: `executed/` (notebooks with outputs, and a stamp of their inputs), `runs/` (what they
wrote), `src/` (what the site is built from), `book.log` and the site itself, `_build/html/`.
"""

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from lsn_core.expectations import expected_needs
from lsn_core.files import InputError, read_json, read_yaml, write_json, write_text
from lsn_core.notebook import unfinished
from lsn_core.profile import load_profile
from lsn_core.reruns import EXECUTED, open_chapter, room, run_chapters
from lsn_core.results import commit

JUPYTER_BOOK = (sys.executable, "-c", "from jupyter_book.cli.main import main; main()")  # it has no `python -m`
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
BUTTONS = {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"}
CARDS = ("data/README.md", "data/weights/README.md", "data/weights/outlines/README.md")  # which pages include
BUILD_OPTIONS = ("build", "build/src", "--path-output", "build", "-W", "-n", "--keep-going")


def build_book(
    root: Path,
    *,
    profile: str,
    force: bool = False,
    jobs: int | None = None,
    memory_mb: float | None = None,
    repository: str | None = None,
    progress: bool = True,
) -> Path:
    """Build the book whose _toc.yml lies in `root`, and return the path of the site's index.html.

    Notebooks run with `profile` in `root`, and only where they, the profile's values for them, the package or its
    data changed since; `force` runs them all. `jobs` run at once, as far as `memory_mb` goes; by default what the
    machine has. `repository` is the address of a public copy, to which launch buttons lead. `progress` tells on stderr
    what is going on. Raises `InputError` where a notebook fails, and where the build gives a warning, since a warning
    means a broken page.
    """
    profile = str(Path(profile).resolve()) if profile.endswith((".yaml", ".yml")) else profile
    tell = _tell if progress else _silent
    with contextlib.chdir(root):
        _check_profile(profile, Path())
        known = expected_needs(Path("notebooks"), profile)
        chapters = [open_chapter(source, profile, known.get(source.stem, {})) for source in toc_notebooks(Path())]
        changed = [chapter for chapter in chapters if force or not chapter.fresh]
        tell(f"{len(changed)} of {len(chapters)} chapters to run")
        cores, free_mb = room()
        run_chapters(changed, jobs=jobs or cores, memory_mb=memory_mb or free_mb, tell=tell)
        stage(Path(), EXECUTED, Path("build/src"))
        configure(Path("build/src"), profile=profile, repository=repository)
        tell("building the site")
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
    for name in filter(lambda name: (root / name).exists(), CARDS):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, out / name)
    for name, run in runs:
        _publish(run, out / name)
    return out


def configure(out: Path, *, profile: str, repository: str | None) -> None:
    """In the staged book, put versions into the footer, launch buttons on the pages, and write the list of commands."""
    config = read_yaml(out / "_config.yml")
    config["html"]["extra_footer"] = f"{config['html'].get('extra_footer', '')} {_made_by(profile)}"
    if repository:
        config["repository"] = {"url": repository.rstrip("/"), "branch": "main"}
        config["launch_buttons"] = {"notebook_interface": "jupyterlab", **BUTTONS}
        config["html"] |= {"use_repository_button": True, "use_issues_button": True}
    write_text(out / "_config.yml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def _made_by(profile: str) -> str:
    """With which versions, profile and commit a site was built, and when."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("lsn-core", "torch", "numpy"))
    made = f"Python {platform.python_version()}; commit {(commit() or 'unknown')[:10]}"
    return f"Built on {date.today().isoformat()} with the profile {Path(profile).stem}: {versions}, {made}."


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


def _check_profile(profile: str, root: Path) -> None:
    """Refuse a profile that sets parameters of a notebook that does not exist."""
    for stem in load_profile(profile)["notebooks"]:
        if not (root / "notebooks" / f"{stem}.ipynb").exists():
            raise InputError(f"profile {profile}: notebooks/{stem}.ipynb does not exist; correct or remove its section")


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
        warned = list(dict.fromkeys(line for line in lines if "WARNING" in line or "ERROR" in line)) or lines
        raise InputError(f"{log}: the book was not built ({' | '.join(warned[-3:])}); correct what is named there")
    _check_site(Path("build/_build/html"))


def _check_site(site: Path) -> None:
    """Trust no exit status: all pages must be there, and the front page bear the book's title."""
    title, files = read_yaml(Path("_config.yml"))["title"], toc_files(Path())
    pages = [site / "index.html", *(site / f"{name.removesuffix('.ipynb')}.html" for name in files)]
    missing = [page for page in pages if not page.exists()]
    if missing or title not in pages[1].read_text(encoding="utf-8"):
        told = f"{missing[0]} is missing" if missing else f"the front page does not bear the title {title!r}"
        raise InputError(f"{site}: the site is not whole ({told}); see build/book.log")


def _tell(line: str) -> None:
    """A line of progress on stderr."""
    sys.stderr.write(f"lsn book: {line}\n")
    sys.stderr.flush()


def _silent(line: str) -> None:
    """Nothing."""
