"""Numbers in pages: each comes from a record, and a page that states another one is found."""

import json
import re
import sys
from pathlib import Path

import pytest

from lsn_core import results
from lsn_core.files import InputError
from lsn_core.reader_study import table_scores

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book/_ext"))
from lsn_book_records import ROLE, look_up, show  # noqa: E402

PAGES = sorted((ROOT / "book/tables").glob("*.md"))
TABLE = re.compile(r"```\{record-table\}(.*?)\n(.*?)\n```", re.DOTALL)
DECIMAL = re.compile(r"(?<![\w./])\d+\.\d+(?!\d*/)(?![\w.]*\.json)")


@pytest.fixture
def records(tmp_path, monkeypatch) -> None:
    """Two small records."""
    summary = {"mean": 2.0, "low": 1.5, "high": 2.5}
    entries = [{"task": "a", "share": 1.0, "value": 3.0}, {"task": "b", "share": 1.0, "value": 4.0}]
    ours = {"x": {"psnr": summary, "sd": {"mean": 2.0, "sd": 0.5}}, "list": [7, 8], "entries": entries, "word": "yes"}
    for name, metrics in {"ours": ours, "paper": {"x": {"psnr": 2.5, "ssim": None}}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"metrics": metrics, "provenance": {}}))
    monkeypatch.setattr(results, "RECORDS", tmp_path)


@pytest.mark.parametrize(
    ("text", "shown", "used"),
    [
        ("paper:x/psnr:.2f", "2.50", {"paper"}),
        ("ours:x/psnr:.1f", "2.0 [1.5, 2.5]", {"ours"}),
        ("ours:x/sd:.1f", "2.0 ± 0.5", {"ours"}),
        ("ours:list/1", "8", {"ours"}),
        ("ours:entries/task=b,share=1.0/value:.0f", "4", {"ours"}),
        ("ours:word", "yes", {"ours"}),
        ("paper:x/ssim", "not stated", {"paper"}),
        ("ours:x/psnr:+.1f - paper:x/psnr", "−0.5", {"ours", "paper"}),
        ("ours:x/psnr:.0% / paper:x/psnr", "80 %", {"ours", "paper"}),
        ("ours:x/psnr - paper:x/ssim", "–", {"ours", "paper"}),
        ("a word", "a word", set()),
    ],
)
def test_terms_are_numbers(records, text, shown, used):
    said, names = show(text)
    assert (said.replace("\N{NO-BREAK SPACE}", " "), names) == (shown, used)


@pytest.mark.parametrize(
    ("term", "told"),
    [
        ("absent:x", "no such recorded run"),
        ("ours:y", "no 'y' on this path"),
        ("ours:list/5", "no '5'"),
        ("ours:entries/share=1.0", "no 'share=1.0'"),
    ],
)
def test_what_no_record_holds_is_refused(records, term, told):
    with pytest.raises(InputError, match=told):
        look_up(term)


def test_a_group_is_no_number(records):
    with pytest.raises(InputError, match="go on with the path"):
        show("ours:x")


def terms(text: str) -> list[str]:
    """All cells of a page's tables and all its roles."""
    cells = [cell for _, body in TABLE.findall(text) for cell in re.split(r"\||\n", body) if cell.strip()]
    return [*(cell.strip() for cell in cells), *ROLE.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_number_of_a_page_is_from_a_record(page):
    text = page.read_text()
    assert sum(bool(show(term)[1]) for term in terms(text)) > 4
    prose = ROLE.sub("", text)
    typed = [cell for _, body in TABLE.findall(prose) for cell in re.split(r"\||\n", body) if not show(cell)[1]]
    captions = [caption for caption, _ in TABLE.findall(prose)]
    lines = [line for line in TABLE.sub("", prose).splitlines() if not line.startswith("```")]
    read = [re.sub(r"\]\([^)]*\)", "", line) for line in (*typed, *captions, *lines)]
    assert [found for line in read for found in DECIMAL.findall(line)] == []


def test_a_typed_number_would_be_found():
    assert DECIMAL.findall("PSNR is 36.66 dB") == ["36.66"] and not DECIMAL.findall("table_1.json, v1.2, 1/2")


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "index"], ids=lambda page: page.stem)
def test_a_page_says_why_and_where_from(page):
    text = page.read_text()
    assert "## Why they differ" in text and "## What to believe" in text and "notebooks/" in text
    named = set(" ".join(re.findall(r"```\{provenance\} (.*)", text)).split())
    assert named == {name for term in terms(text) for name in show(term)[1]}


def test_what_the_page_says_of_the_papers_readers_is_what_their_counts_say():
    page = (ROOT / "book/tables/table_3.md").read_text()
    written = dict(re.findall(r"^(R\d) \|.*\| (\w+) \| none$", page, re.MULTILINE))
    known = table_scores(results.recorded("paper")["metrics"]["table_3"])["readers"]
    assert written == {name: one["verdict"] for name, one in known.items()}


def test_each_table_of_the_paper_has_a_page():
    assert [page.stem for page in PAGES] == ["index", "table_1", "table_2", "table_3", "table_4"]
