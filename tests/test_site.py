"""The published site: crawled from disk and from a server, heard, printed, searched, and read on a telephone."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from test_book import crawl, served

from lsn_core.book import toc_files

ROOT = Path(__file__).parents[1]
RULES = {"resultTypes": ["violations"], "preload": False}  # a page from disk may not read its own style sheets
ALIKE = ("book/reference/", "book/guides/")  # folders of pages that are made alike: one of each is heard
ASLEEP = "document.querySelectorAll('.lsn-jsw:not([data-state=ready])').length"

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(book) -> Path:
    """The folder of the site that was built with the quick profile."""
    return book / "_build/html"


def pages(site: Path) -> list[str]:
    """All pages below a site, and its tools."""
    files = (path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html")))
    return [name for name in files if not name.startswith(("_static/", "index.html"))]


def heard(site: Path) -> list[str]:
    """All pages but those that are made as one of the others."""
    names = pages(site)
    firsts = {next(name for name in names if name.startswith(folder)) for folder in ALIKE}
    return [name for name in names if not name.startswith(ALIKE) or name in firsts]


@pytest.mark.parametrize("way", ["from disk", "over http"])
def test_every_page_and_link(site, page, way):
    if way == "from disk":
        return crawl(page, site, site.as_uri())
    with served(site) as server:
        crawl(page, site, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_the_site_has_all_pages_and_is_light(site):
    listed = {name.removesuffix(".ipynb") + ".html" for name in toc_files(ROOT)}
    assert listed <= set(pages(site)) and len(listed) > 40
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert 10e6 < size < 40e6


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_no_serious_barrier(site, page, mode):
    page.add_init_script(f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}')")
    barriers = []
    for name in heard(site):
        page.goto((site / name).as_uri())
        page.wait_for_function(f"!{ASLEEP}")
        assert page.evaluate("document.documentElement.dataset.theme") == mode
        found = Axe().run(page, options=RULES).response["violations"]
        barriers += [(name, one["id"], one["nodes"][0]["html"][:120]) for one in found if one["impact"] != "minor"]
    assert barriers == []


def test_a_telephone_needs_no_sideways_scrolling(site, page):
    page.set_viewport_size({"width": 390, "height": 800})
    wide = []
    for name in pages(site):
        page.goto((site / name).as_uri())
        wide += [name] if page.evaluate("document.documentElement.scrollWidth > innerWidth") else []
    assert wide == []


def test_search_finds_a_chapter(site, page):
    page.goto((site / "search.html").as_uri() + "?q=subchondral")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").evaluate_all("all => all.map(one => one.href)")
    assert any("notebooks/02_joints_and_data" in link for link in found) and not page.complaints


def test_the_front_page_moves_bones(site, page):
    page.goto((site / "book/index.html").as_uri())
    page.wait_for_function(f"!{ASLEEP}")
    page.get_by_label("Joint space width in millimetres").press("End")
    assert "(+3.00 mm)" in page.locator(".lsn-jsw output").inner_text() and not page.blocked


def test_a_chapter_prints_with_its_answers_open(site, page):
    page.goto((site / "notebooks/01_imaging_principles.html").as_uri())
    assert page.locator("main details:not([open])").count() > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("main details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert not page.locator(".bd-sidebar-primary").is_visible() and page.pdf()[:5] == b"%PDF-"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("main details:not([open])").count() > 0


def test_the_foot_says_what_the_site_was_built_with(site):
    foot = (site / "book/index.html").read_text(encoding="utf-8").partition("<footer")[2]
    assert "lsn-core 0." in foot and "torch 2." in foot and "profile quick" in foot and "commit" in foot


def test_downloads_are_notebooks_without_outputs(site):
    text = (site / "_sources/notebooks/01_imaging_principles.ipynb").read_text(encoding="utf-8")
    assert '"outputs": []' in text and "image/png" not in text


def test_modules_are_documented_once():
    texts = [page.read_text(encoding="utf-8") for page in (ROOT / "book/reference").glob("*.md")]
    named = [module for text in texts for module in re.findall(r"lsn_core\.(\w+)$", text, re.MULTILINE)]
    shipped = sorted(path.stem for path in (ROOT / "lsn_core").glob("*.py") if path.stem != "__init__")
    assert sorted(named) == shipped
