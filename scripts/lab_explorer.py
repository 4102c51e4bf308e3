"""Drive the live explorer in a real JupyterLab, both ways, and leave a picture of it.

python scripts/lab_explorer.py OUT.png

Starts JupyterLab on this machine in an empty folder, with no token and no network, runs a notebook that links the
explorer to a slider of ipywidgets, moves both in Chromium, reads the traits with cells, and sets them from Python.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
from playwright.sync_api import Page, sync_playwright

from lsn_core.movement import Movement, find_hinge
from lsn_core.phantom import Phantom
from lsn_core.synthesis import recompose

MAKE = """import ipywidgets
from lsn_core.explorer_widget import explorer_widget
from lsn_core.phantom import Phantom
widget = explorer_widget(Phantom(seed=7, finger="index", size=256).render(jsw_mm=1.5), label="A phantom joint")
slider = ipywidgets.FloatSlider(min=-3, max=3, step=0.05, description="delta_mm")
ipywidgets.link((slider, "value"), (widget, "delta_mm"))
mirror = ipywidgets.FloatSlider(min=-15, max=15, description="turned")
ipywidgets.jslink((mirror, "value"), (widget, "upper_degrees"))
ipywidgets.VBox([slider, mirror])"""
TELL = "print(widget.delta_mm, widget.jsw_mm, widget.svdh_like, slider.value, widget.shown)"
SET = "widget.delta_mm, widget.upper_degrees, widget.lower_slide_mm = -0.8, 6, 0.4"
LAB = (
    *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
    "--IdentityProvider.token=",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
)
LEVELS = "f => [...f.explorer.levels()]"


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[str]:
    """JupyterLab's address while it runs in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*LAB, f"--port={port}"], cwd=folder, **quiet)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        yield address
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str) -> None:
    """Until JupyterLab answers, at most a minute."""
    for _ in range(120):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api")
            return
        time.sleep(0.5)
    raise SystemExit(f"JupyterLab did not start at {address}")


def run_all(page: Page) -> None:
    """Run All Cells, from the menu."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def run_cell(page: Page, number: int) -> str:
    """Run one cell again, by the keyboard, and return what it printed last."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    before = cell.locator(".jp-InputPrompt").inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    changed = "([cell, before]) => { const now = cell.querySelector('.jp-InputPrompt').innerText;"
    changed += " return now !== before && !now.includes('*'); }"
    page.wait_for_function(changed, arg=[cell.element_handle(), before])
    page.wait_for_timeout(300)
    return cell.locator(".jp-OutputArea").inner_text().strip()


def truth(movement: Movement) -> np.ndarray:
    """What Python makes of the movement, in levels."""
    joint = Phantom(seed=7, finger="index", size=256).render(jsw_mm=1.5)
    hinge = find_hinge(joint.masks[None], spacing_mm=joint.spacing_mm)
    return 255 * recompose(joint.layers[None], joint.masks[None], movement, hinge).numpy().ravel()


def check(said: str, fact: bool) -> None:
    """Say what holds; end where it does not."""
    print(("yes: " if fact else "NO: ") + said)
    if not fact:
        raise SystemExit(1)


def drive(page: Page, out: Path) -> None:
    """Move things on both sides and look at the other."""
    run_all(page)
    page.wait_for_selector(".lsn-jsw[data-state=ready]", timeout=120_000)
    figure = page.locator(".lsn-jsw")
    page.wait_for_function("Math.abs(document.querySelector('.lsn-jsw').explorer.state.delta_mm + 0.8) < 1e-6")
    figure.get_by_label("Joint space width in millimetres").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    said = run_cell(page, 2)
    delta_mm, jsw_mm, grade, linked = (float(word) for word in said.split()[:4])
    moved = np.allclose((delta_mm, jsw_mm, grade, linked), (-0.3, 1.2, 2, -0.3))  # from -0.8 by ten steps of 0.05 mm
    check(f"the browser's slider sets the traits: {said}", moved)
    run_cell(page, 3)
    page.wait_for_function("Math.abs(document.querySelector('.lsn-jsw').explorer.state.delta_mm + 0.8) < 1e-6")
    differs = np.abs(np.array(figure.evaluate(LEVELS)) - truth(Movement(-0.8, 0.5, (0.4, 0.0), (0.0, 6.0)))).max()
    check(f"the traits set the picture, which differs from recompose by {differs:.2f} levels at most", differs <= 1)
    values = page.locator(".widget-readout").all_inner_texts()
    check(f"linked sliders follow: {values}", [float(v.replace("\u2212", "-")) for v in values] == [-0.8, 6.0])
    page.locator(".jp-Notebook").screenshot(path=str(out))


def main(out: Path) -> None:
    """Write the notebook, start everything, and end it."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (MAKE, "widget", TELL, SET)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, Path(name, "explorer.ipynb"))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with lab(Path(name)) as address:
            page = browser.new_page(viewport={"width": 1100, "height": 1500})
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.route("**/*", lambda route: route.continue_() if address in route.request.url else route.abort())
            page.goto(f"{address}/lab/tree/explorer.ipynb")
            page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
            page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)
            drive(page, out)
            check(f"no errors in the page: {errors}", not errors)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
