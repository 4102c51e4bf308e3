"""Mend what the theme's pages lack for readers who hear or type them, once they are written, and lighten the downloads.

Judged by axe-core in tests/test_site.py: a name for the buttons that unfold the table of contents, no header cells
without text, and lists of references that are lists.
"""

import json
import re
from pathlib import Path

MENDED = (
    (re.compile(r'<summary>(?=\s*<span class="toctree-toggle")'), '<summary aria-label="Show or hide pages below">'),
    (
        re.compile(r'<div class="sidebar-primary-item">(?=\s*<a class="navbar-brand)'),
        '<div class="sidebar-primary-item" role="navigation" aria-label="Front page">',
    ),
    (re.compile(r"<th class=\"(head[^\"]*)\">\s*<p></p>\s*</th>"), r'<td class="\1"></td>'),
    (re.compile(r' role="(?:list|doc-biblioentry)"(?= class="citation-list"| *>)'), ""),
    (re.compile(r'(<div class="citation" id="[^"]*") role="doc-biblioentry"'), r"\1"),
)


def mend(html: str) -> str:
    """A page as it should be."""
    for pattern, better in MENDED:
        html = pattern.sub(better, html)
    return html


def lighten(notebook: str) -> str:
    """A notebook for download: without outputs, which the page shows and a run makes."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _finish(app, error) -> None:
    """Rewrite the pages and the downloads of a site that was built."""
    if error or app.builder.name != "html":
        return
    for pattern, change in (("*.html", mend), ("_sources/**/*.ipynb", lighten)):
        for path in Path(app.outdir).rglob(pattern):
            path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app) -> dict:
    """Register with Sphinx."""
    app.connect("build-finished", _finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
