"""Read a few images in the notebook's rater in a real JupyterLab, stop, go on, and leave a picture of it.

python scripts/lab_rater.py OUT.png

Starts JupyterLab on this machine in an empty folder, with no token and no network, on a set of a hundred phantoms;
answers by keys and by clicks in Chromium, looks at the CSV file on the disk, runs the cell again, and reloads the page.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
from lab_explorer import check, lab, run_all, run_cell
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from lsn_core.phantom import Phantom
from lsn_core.readings import read_readings

MAKE = """from lsn_core.rater_widget import rater_widget
widget = rater_widget("set", "ann.csv", reader="ann")
widget"""
TELL = "print(len(widget.rows), widget.written, widget.trouble)"
SIZE, COUNT, TRAINING = 192, 100, 2


def write_set(folder: Path) -> None:
    """A set of phantoms in the form that raters read; no image of it is real."""
    known = {"format": "lsn-turing-1", "key_sha256": "ab" * 32, "positive": "synthetic", "size": SIZE}
    for kind, names in (
        ("images", [f"{k:03}" for k in range(COUNT)]),
        ("training", [f"t{k:02}" for k in range(TRAINING)]),
    ):
        (folder / kind).mkdir(parents=True)
        known[kind] = [{"name": name, "file": f"{kind}/{name}.png"} for name in names]
        for seed, entry in enumerate(known[kind]):
            image = Phantom(seed=seed, finger="index", size=SIZE).render().image[0]
            Image.fromarray((255 * image).round().numpy().astype(np.uint8)).save(folder / entry["file"])
    for entry in known["training"]:
        entry["answer"] = "synthetic"
    (folder / "set.json").write_text(json.dumps(known))


def answer(page: Page, *keys: str) -> None:
    """Press keys, each after the other."""
    for key in keys:
        page.keyboard.press(key)


def on_disk(page: Page, file: Path, n: int) -> list[tuple[str, str, int]]:
    """The answers in the file, once the rater says that they are saved."""
    page.get_by_text("Saved in ann.csv.").wait_for()
    readings = read_readings(file)
    check(f"the file holds {len(readings)} answers, {readings[-1].seconds:.2f} s for the last", len(readings) == n)
    return [(one.image, one.answer, one.confidence) for one in readings]


def begin(page: Page, button: str) -> None:
    """Click what begins, and wait for an image."""
    page.get_by_role("button", name=button).click()
    page.wait_for_function("() => document.querySelector('.lsn-rater img')?.complete")


def drive(page: Page, file: Path, out: Path) -> None:
    """Read, stop, and go on."""
    run_all(page)
    begin(page, "Start with the training examples")
    answer(page, *"s3", "Enter", *"r2", " ")
    check("the training is over and in no file", "The training is over" in page.inner_text(".lsn-view"))
    answer(page, "Enter", *"s4", "Enter", "ArrowLeft", "1", " ")
    page.get_by_role("button", name="Synthetic").click()
    page.get_by_label("5", exact=True).check()
    page.get_by_role("button", name="Next").click()
    answer(page, "b", "b", "r", "Enter")
    told = [("000", "synthetic", 4), ("001", "real", 1), ("002", "synthetic", 5)]
    check("keys and clicks, Back, and a changed answer are in the file", on_disk(page, file, 3) == told)
    check("no cell was added, cut or left by the keys", page.locator(".jp-Notebook .jp-CodeCell").count() == 2)
    said = run_cell(page, 1)
    check(f"Python knows the same: {said}", said.split()[0] == "3")
    run_cell(page, 0)
    page.get_by_text("3 of 100 answered by ann.").wait_for()
    begin(page, "Go on where you stopped")
    check("the cell that ran again goes on", page.inner_text(".lsn-count") == "4 of 100")
    answer(page, *"r2")
    check("and adds to the file", on_disk(page, file, 4) == [*told, ("003", "real", 2)])
    page.locator(".lsn-rater").screenshot(path=str(out.with_stem(f"{out.stem}_rater")))
    page.screenshot(path=str(out))


def reload(page: Page, file: Path) -> None:
    """Save the notebook, load the page again, and go on with the kernel that still runs."""
    page.locator(".jp-Toolbar [data-command='docmanager:save']").click()
    page.wait_for_timeout(1500)
    page.reload()
    page.get_by_text("4 of 100 answered by ann.").wait_for(timeout=60_000)
    begin(page, "Go on where you stopped")
    answer(page, *"s1")
    check("a page that was loaded again goes on", len(on_disk(page, file, 5)) == 5)


def main(out: Path) -> None:
    """Write the set and the notebook, start everything, and end it."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        write_set(Path(name, "set"))
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (MAKE, TELL)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, Path(name, "rater.ipynb"))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with lab(Path(name)) as address:
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.route("**/*", lambda route: route.continue_() if address in route.request.url else route.abort())
            page.goto(f"{address}/lab/tree/rater.ipynb")
            page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
            page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)
            drive(page, Path(name, "ann.csv"), out)
            reload(page, Path(name, "ann.csv"))
            check(f"no errors in the page: {errors}", not errors)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
