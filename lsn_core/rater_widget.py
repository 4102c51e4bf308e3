"""The rater of the visual Turing test in a notebook: `rater.js` again, and a CSV file that Python writes.

An anywidget, not a box of ipywidgets' buttons: those have no keys, and one script for the page and the notebook asks
both kinds of readers in the same way. The keys act while the rater has the focus.
"""

import base64
import csv
import io
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from lsn_core.files import InputError, write_text
from lsn_core.rater import SCRIPT, STYLE, TITLE, rater_data, read_set
from lsn_core.readings import COLUMNS, Reading, is_simulated, read_readings

try:
    import anywidget
except ImportError as missing:
    raise InputError("the notebook's rater needs anywidget; install it with: pip install 'lsn-core[book]'") from missing

NOTICE = "A rater of {count} radiographs: it needs a running notebook, as in JupyterLab."


class Rater(anywidget.AnyWidget):
    """The images of a set and one reader's answers to them; the file at `path` follows every answer."""

    _esm = SCRIPT.read_text(encoding="utf-8")
    _css = STYLE
    content = traitlets.Dict().tag(sync=True)  # of `rater_data`, with PNGs as bytes; it does not change
    reader = traitlets.Unicode().tag(sync=True)
    path = traitlets.Unicode().tag(sync=True)
    rows = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)  # of the file, below its header
    serial = traitlets.Int(0).tag(sync=True)  # the script counts its changes of `rows`
    written = traitlets.Int(0).tag(sync=True)  # the last of them that is in the file
    trouble = traitlets.Unicode("").tag(sync=True)  # why it is not

    @traitlets.observe("serial")
    def _save(self, change: Any) -> None:
        """Write the file, and let the script say that it is written or why it is not."""
        try:
            write_text(Path(self.path), csv_of(self.rows))
        except InputError as error:
            self.trouble = f"Not saved: {error}"
        else:
            self.trouble, self.written = "", change["new"]

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        """The live view, and beside it what a page or a viewer without a kernel shows: a notice and one image."""
        live, metadata = super()._repr_mimebundle_(**options)
        return live | mime_bundle(self.content), metadata


def rater_widget(folder: Path, out: Path, *, reader: str, title: str = TITLE) -> Rater:
    """The rater of the set in `folder` for `reader`, to be shown as the last line of a cell.

    Every answer is written to the CSV file `out` at once; where that exists, the reader goes on where it stops. Raises
    `InputError` for a set that cannot be read, and where `out` holds another set or another reader.
    """
    rated, reader = read_set(folder), " ".join(reader.split())
    if not reader or is_simulated(reader):
        raise InputError(f"reader is {reader!r}; give a name or code that does not begin with “simulated”")
    content = rater_data(rated, title=title, encode=lambda png: png)
    path = Path(out)
    return Rater(content=content, reader=reader, path=str(path), rows=saved_rows(path, content, reader))


def saved_rows(path: Path, content: dict[str, Any], reader: str) -> list[list[str]]:
    """What `path` holds of this set by this reader, as texts; nothing where there is no file. Raises `InputError`."""
    if not path.exists():
        return []
    names = [image["name"] for image in content["images"]]
    readings = read_readings(path)
    for one in readings:
        if one.set != content["key"]:
            raise InputError(f"{path}: holds answers to another set, {one.set[:8]}; choose another file for this set")
        if one.reader != reader:
            raise InputError(f"{path}: holds the answers of {one.reader}; choose another file for {reader}")
        if names[one.position : one.position + 1] != [one.image]:
            raise InputError(f"{path}: image {one.image} is not at position {one.position}; restore the file")
    return [_texts(one) for one in sorted(readings, key=lambda one: one.position)]


def _texts(one: Reading) -> list[str]:
    """A reading as a row of the file."""
    answer = (one.image, one.answer, str(one.confidence), f"{one.seconds:.2f}", one.when)
    return [one.set, one.reader, str(one.position), *answer]


def csv_of(rows: list[list[str]]) -> str:
    """Rows as the text of the file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue()


def mime_bundle(content: dict[str, Any]) -> dict[str, str]:
    """What a notebook stores of a rater for those who have no kernel."""
    notice = NOTICE.format(count=len(content["images"]))
    png = base64.b64encode(content["images"][0]["png"]).decode("ascii")
    alt = f"radiograph 1 of {len(content['images'])}"
    picture = f'<img src="data:image/png;base64,{png}" alt="{alt}" width="{2 * content["size"]}">'
    return {"text/html": f"<p>{escape(notice)}</p>{picture}", "text/plain": notice}
