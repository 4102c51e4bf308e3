"""Fixtures for every test file."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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


def pytest_collection_modifyitems(items) -> None:
    """Mark every test that opens a page."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("browser")
