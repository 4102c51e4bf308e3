"""The book: what is published, what is run again, and in a browser what a reader sees."""

import functools
import json
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag

import pytest
import yaml
from conftest import write_notebook

from lsn_core.book import build_book, configure, stage, toc_files, toc_notebooks
from lsn_core.files import InputError

ROOT = Path(__file__).parents[1]
TOC = "format: jb-book\nroot: book/index\nparts:\n  - caption: One\n    chapters:\n      - file: notebooks/01_a\n"
PAGE = "# The book\n\nA formula, $a^2$, and [a chapter](../notebooks/01_a.ipynb).\n"
PLOT = """from lsn_core.explorer import show_explorer
from lsn_core.phantom import Phantom
show_explorer(Phantom(seed=seed, size=64).render(), label="a joint")"""
WIDGET = """from lsn_core.explorer_widget import explorer_widget
explorer_widget(Phantom(seed=seed, size=64).render(), label="a joint that is live in JupyterLab")"""
PROFILE = "notebooks: {01_a: {seed: 3}}\n"


def small_book(root: Path, *cells: str) -> Path:
    """A book of one page and one notebook, with the real book's settings."""
    for name in ("_ext", "static", "vendor"):
        shutil.copytree(ROOT / "book" / name, root / "book" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "book/favicon.svg", "book/references.bib"):
        shutil.copy(ROOT / name, root / name)
    (root / "_toc.yml").write_text(TOC)
    (root / "book/index.md").write_text(PAGE)
    (root / "mine.yaml").write_text(PROFILE)
    write_notebook(root / "notebooks/01_a.ipynb", "seed = 1\nout_dir = 'runs'", "# Title\n\n$$x = 1$$", *cells)
    return root


def built(root: Path, **options) -> Path:
    """Build quietly with the book's own profile."""
    return build_book(root, profile=str(root / "mine.yaml"), progress=False, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A small book built in a folder whose name has a space."""
    write = "from pathlib import Path\nPath(out_dir).mkdir(parents=True)\nPath(out_dir, 'seed').write_text(str(seed))"
    return built(small_book(tmp_path_factory.mktemp("a book"), write, PLOT, WIDGET)).parent


def test_toc_is_read_in_order():
    files = toc_files(ROOT)
    assert files[0] == "book/index" and "notebooks/01_imaging_principles" in files
    assert [path.stem for path in toc_notebooks(ROOT)] == [Path(f).name for f in files if f.startswith("notebooks/")]


def test_every_shipped_notebook_is_in_the_toc():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {p.stem for p in toc_notebooks(ROOT)}


def test_a_listed_notebook_must_exist(tmp_path):
    (tmp_path / "_toc.yml").write_text(TOC)
    with pytest.raises(InputError, match=r"01_a.ipynb, which does not exist"):
        toc_notebooks(tmp_path)


def executed(**changes) -> dict:
    """A notebook as papermill leaves it after a good run, with changes to its one cell or to the run."""
    run = {"start_time": "t", "end_time": "t", "exception": None} | changes.get("run", {})
    cell_run = {"status": "completed", "start_time": "t"} | changes.get("cell_run", {})
    cell = {"cell_type": "code", "source": "1", "outputs": [], "execution_count": 1, "metadata": {}}
    cell |= {"metadata": {"papermill": cell_run}} | changes.get("cell", {})
    return {"cells": [cell], "metadata": {"papermill": run}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize(
    ("notebook", "told"),
    [
        (None, "was not executed"),
        (executed() | {"metadata": {}}, "was not executed"),
        (executed(run={"exception": True}), "failed"),
        (executed(cell={"outputs": [{"output_type": "error"}]}), "failed"),
        (executed(run={"end_time": None}), "was interrupted"),
        (executed(cell_run={"status": "running"}), "was interrupted"),
        (executed(cell_run={"start_time": None}), "was interrupted"),
        (executed(cell={"execution_count": None}), "was interrupted"),
    ],
)
def test_stage_refuses_what_did_not_end_well(tmp_path, notebook, told):
    small_book(tmp_path)
    (tmp_path / "done").mkdir()
    if notebook:
        (tmp_path / "done/01_a.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(InputError, match=told):
        stage(tmp_path, tmp_path / "done", tmp_path / "src")
    assert not (tmp_path / "src").exists()


def test_stage_publishes_the_executed_copy_and_nothing_else(tmp_path):
    small_book(tmp_path)
    for path in ("done/01_a.ipynb", "done/02_unlisted.ipynb", "src/stale.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(json.dumps(executed()))
    out = stage(tmp_path, tmp_path / "done", tmp_path / "src")
    assert json.loads((out / "notebooks/01_a.ipynb").read_text()) == executed()
    assert sorted(path.name for path in out.iterdir()) == ["_config.yml", "_toc.yml", "book", "notebooks"]
    assert [path.name for path in (out / "notebooks").iterdir()] == ["01_a.ipynb"]


def test_injected_parameters_are_folded_away(site):
    cells = json.loads((site.parents[1] / "src/notebooks/01_a.ipynb").read_text())["cells"]
    injected = [cell["metadata"]["tags"] for cell in cells if "seed = 3" in "".join(cell["source"])]
    assert injected == [["injected-parameters", "hide-input"]]


def test_a_profile_for_a_notebook_that_does_not_exist_is_refused(tmp_path):
    (small_book(tmp_path) / "mine.yaml").write_text("notebooks: {01_b: {seed: 3}}")
    with pytest.raises(InputError, match=r"01_b.ipynb does not exist"):
        built(tmp_path)


def test_a_failing_notebook_stops_the_build(tmp_path):
    with pytest.raises(InputError, match=r"01_a.ipynb: cell 3 raised ZeroDivisionError"):
        built(small_book(tmp_path, "1 / 0"))


def test_a_warning_stops_the_build(tmp_path):
    root = small_book(tmp_path, "import sys\nsys.stderr.write('careful')")
    (root / "book/index.md").write_text(PAGE + "\n[nowhere](absent.md)\n")
    with pytest.raises(InputError, match=r"book.log: the book was not built") as failure:
        built(root)
    assert "absent.md" in str(failure.value) and "stderr" in str(failure.value)
    assert str(tmp_path) not in str(failure.value)


def test_launch_buttons_lead_to_the_templates(tmp_path):
    (tmp_path / "_config.yml").write_text((ROOT / "_config.yml").read_text())
    configure(tmp_path, profile="quick", repository=None)
    assert "launch_buttons" not in (tmp_path / "_config.yml").read_text(), "no dead buttons without a public copy"
    configure(tmp_path, profile="quick", repository="https://forge.example/lab/lsn/")
    config = yaml.safe_load((tmp_path / "_config.yml").read_text())
    assert config["repository"] == {"url": "https://forge.example/lab/lsn", "branch": "main"}
    assert {"colab_url", "binderhub_url"} < config["launch_buttons"].keys()


def test_the_site_is_whole(site):
    root = site.parents[2]
    assert (root / "build/runs/01_a/seed").read_text() == "3"  # the profile's
    assert (site / "index.html").exists() and (site / "_static/mathjax/tex-chtml.js").exists()
    assert not list(root.rglob("*.failed.ipynb"))
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".ipynb", ".js")]
    assert not [path for path in pages if str(root) in path.read_text(encoding="utf-8")]


def test_a_live_widget_is_published_as_its_figure(page, site):
    """Its state is not, nor any script that would look for a kernel or for the rest of itself elsewhere."""
    for folder, kept in (("executed", True), ("src/notebooks", False)):
        assert ("widgets" in json.loads((site.parents[1] / folder / "01_a.ipynb").read_text())["metadata"]) is kept
    html = (site / "notebooks/01_a.html").read_text(encoding="utf-8")
    assert "jupyter.widget" not in html and "require" not in html.lower().replace("required", "")
    read_page(page, (site / "notebooks/01_a.html").as_uri())
    widget = page.locator(".lsn-jsw", has=page.get_by_role("img", name="a joint that is live in JupyterLab"))
    widget.get_by_label("Joint space width in millimetres").press("End")
    assert "(+3.00 mm)" in widget.locator("output").inner_text()
    assert page.locator(".lsn-jsw[data-state=ready]").count() == 2 and not page.complaints and not page.blocked


def served(folder: Path):
    """A web server on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


READ = """() => ({
    links: [...document.querySelectorAll('a[href]')].map(a => a.href),
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
    bare: [...document.images].filter(i => !i.alt).map(i => i.src.slice(0, 80)),
    broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80)),
    math: document.querySelectorAll('.math').length,
    typeset: document.querySelectorAll('.math mjx-container').length,
    errors: document.querySelectorAll('mjx-merror').length,
})"""


def read_page(page, address: str) -> dict:
    """What a page holds once its formulas are typeset and its explorers are ready."""
    page.goto(address, wait_until="load")
    page.wait_for_function("!document.querySelector('.math') || window.MathJax?.startup?.promise")
    page.evaluate("window.MathJax?.startup?.promise")
    page.wait_for_function("!document.querySelector('.lsn-jsw:not([data-state=ready])')")
    return page.evaluate(READ)


def crawl(page, site: Path, base: str) -> None:
    """Open every page below `base`, the address of `site`, and check what a reader would notice."""
    files = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    pages = [f"{base}/{quote(path)}" for path in files if not path.startswith(("_static/", "index.html"))]
    found = dict.fromkeys(pages)
    for address in pages:
        found[address] = seen = read_page(page, address)
        assert not page.complaints and not page.blocked, address
        assert not seen["bare"] and not seen["broken"] and not seen["errors"], address
        assert seen["typeset"] == seen["math"], address
    checked = 0
    for address, seen in found.items():
        for link in filter(lambda link: link.startswith(base), seen["links"]):
            target, anchor = urldefrag(link)
            assert (site / unquote(target.removeprefix(base).strip("/"))).exists(), f"{address} links to {link}"
            ids = found[target]["ids"] if target in found else []
            assert not anchor or not ids or unquote(anchor) in ids, f"{address} links to {link}"
            checked += 1
    assert checked > len(pages) and sum(seen["math"] for seen in found.values()) > 0


def test_small_book_from_disk(page, site):
    crawl(page, site, site.as_uri())


def test_front_page_leads_to_the_book(page, site):
    page.goto((site / "index.html").as_uri())
    page.wait_for_url("**/book/index.html")
    assert "The book" in page.inner_text("h1")
