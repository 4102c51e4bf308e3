"""Fixtures for every test file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("few", max_examples=20, derandomize=True, deadline=None, database=None)
settings.load_profile("few")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """The system's Chromium, driven by playwright; skipped where there is none, except in CI."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not executable:
        missing = f"none of {', '.join(BROWSERS)} is on the PATH; install the distribution's chromium"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(BROWSER_ARGS))
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser) -> Iterator:
    """A blank page that reaches only this machine; `page.blocked` and `page.complaints` record what went wrong."""
    context = browser.new_context()
    page = context.new_page()
    page.blocked, page.complaints = [], []

    def guard(route) -> None:
        if route.request.url.startswith("http://127.0.0.1:"):
            return route.continue_()
        page.blocked.append(route.request.url)
        return route.abort()

    page.route("http*://**", guard)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda told: page.complaints.append(told.text) if told.type == "error" else None)
    yield page
    context.close()


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a notebook of code cells, the first one tagged `parameters`; a cell that begins with # Title is prose."""
    import nbformat

    made = nbformat.v4
    notebook = made.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [made.new_markdown_cell(c) if c.startswith("# Title") else made.new_code_cell(c) for c in cells]
    next(cell for cell in notebook.cells if cell.cell_type == "code").metadata.tags = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def notebook(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Make `source.ipynb` in an empty current folder from code cells."""
    monkeypatch.chdir(tmp_path)
    return lambda *cells: write_notebook(Path("source.ipynb"), *cells)


@pytest.fixture(scope="session")
def bls_gan() -> Path:
    """The BLS-GAN radiographs, which are never part of the project; skipped where they are not."""
    places = [os.environ.get("LSN_DATA"), Path(__file__).parents[2] / "shared" / "data" / "bls_gan"]
    found = [Path(place) for place in places if place and Path(place).is_dir()]
    return found[0] if found else pytest.skip("no BLS-GAN radiographs at $LSN_DATA or ../shared/data/bls_gan")


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory) -> Path:
    """Ten phantoms of 64 px in the layout of one's own radiographs: eight to train on, two to test."""
    from lsn_core.export import write_phantoms

    return write_phantoms(tmp_path_factory.mktemp("phantoms"), count=10, size=64, seed=0).parent


@pytest.fixture(scope="session")
def trained(tmp_path_factory, phantom_folder) -> Path:
    """The folder of a complete run of three steps at 64 px, partition head."""
    from lsn_core.config import Config
    from lsn_core.run import train_run
    from lsn_core.stage import Stage, Weights

    folder = tmp_path_factory.mktemp("runs") / "trained"
    stages = (Stage("real", epochs=1, after=Weights(supervision=0.3, softness=0.1)),)
    config = Config(networks="compact", head="partition", size=64, batch=2, stages=stages, precision="32-true")
    assert train_run(folder, str(phantom_folder), config, profile="test")
    return folder


@pytest.fixture(scope="session")
def book() -> Path:
    """The book of the quick profile, built as a reader would; at once where nothing changed."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "lsn_core.cli", "book", "--profile", "quick"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return root / "build"


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def lsn(capsys, monkeypatch) -> Callable[..., Told]:
    """Run an `lsn` command in this process, as its entry point does."""
    from lsn_core.cli import main

    def call(*words: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["lsn", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        said, code = capsys.readouterr(), end.value.code
        if isinstance(code, str):  # what sys.exit does with a text
            return Told(1, said.out, f"{said.err}{code}\n")
        return Told(code or 0, said.out, said.err)

    return call


def pytest_collection_modifyitems(items) -> None:
    """Mark every test that opens a page, and every test on real radiographs."""
    for item in items:
        for fixture, marker in (("browser", "browser"), ("bls_gan", "real")):
            if fixture in item.fixturenames:
                item.add_marker(marker)
