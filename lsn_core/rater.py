"""The rater of the visual Turing test, as one HTML file that works by double-click, with no network.

`read_set` reads the folder of a set; the truth is elsewhere. `rater.js` shows the images and keeps the answers; the
notebook's `rater_widget` is the same script.
"""

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from lsn_core.files import InputError, read_bytes, read_json, write_text
from lsn_core.readings import REAL, SYNTHETIC

SCRIPT = Path(__file__).with_name("rater.js")
FORMAT = "lsn-turing-1"
TITLE = "Real or synthetic? Radiographs of finger joints"
NEUTRAL = re.compile("[a-z]?[0-9]{1,9}")  # a name that cannot tell what the image is
REMEDY = "assemble the set again, or restore it from its source"

STYLE = """
.lsn-rater { box-sizing: border-box; padding: 12px; background: #000; color: #ddd; font: 16px/1.4 system-ui, sans-serif;
 text-align: left; }
.lsn-rater * { box-sizing: border-box; }
.lsn-rater[data-phase=start], .lsn-rater[data-phase=done] { max-width: 44rem; margin: 0 auto; }
.lsn-rater h1 { margin: .5rem 0; font-size: 1.4rem; line-height: 1.25; color: #eee; }
.lsn-rater h1:focus { outline: none; }
.lsn-rater p { margin: .6rem 0; }
.lsn-rater label { color: inherit; }
.lsn-rater input[type=text], .lsn-rater input[type=file] { display: block; width: 100%; max-width: 22rem;
 margin-top: .25rem; font: inherit; color: inherit; }
.lsn-rater input[type=text] { padding: .5rem; color: #eee; background: #1c1c1c; border: 1px solid #888;
 border-radius: 4px; }
.lsn-rater .lsn-load { color: #bbb; font-size: .9rem; }
.lsn-rater ::file-selector-button { min-height: 36px; padding: 0 .75rem; font: inherit; color: #eee;
 background: #242424; border: 1px solid #777; border-radius: 4px; cursor: pointer; }
.lsn-rater .lsn-view { position: relative; flex: none; outline: none; }
.lsn-rater .lsn-view img { display: block; max-width: none; margin: 0 auto; background: #000;
 image-rendering: pixelated; }
.lsn-rater .lsn-paused { display: none; position: absolute; inset: 0; margin: 0; padding: 1rem; place-content: center;
 text-align: center; background: #000; border: 1px solid #333; }
.lsn-rater.lsn-is-paused .lsn-view img { visibility: hidden; }
.lsn-rater.lsn-is-paused .lsn-paused { display: grid; }
.lsn-rater .lsn-controls { max-width: 320px; margin: 0 auto; }
.lsn-rater .lsn-count { margin: .4rem 0 .2rem; color: #eee; font-variant-numeric: tabular-nums; }
.lsn-rater progress { display: block; width: 100%; height: 6px; border: 0; border-radius: 3px; appearance: none;
 background: #333; }
.lsn-rater progress::-webkit-progress-bar { background: #333; border-radius: 3px; }
.lsn-rater progress::-webkit-progress-value { background: #aaa; border-radius: 3px; }
.lsn-rater progress::-moz-progress-bar { background: #aaa; border-radius: 3px; }
.lsn-rater .lsn-row { display: flex; flex-wrap: wrap; gap: 8px; margin: .6rem 0; }
.lsn-rater .lsn-controls .lsn-row > * { flex: 1; }
.lsn-rater button, .lsn-rater fieldset label > span { min-height: 44px; padding: 0 .75rem; font: inherit; color: #eee;
 background: #242424; border: 1px solid #777; border-radius: 4px; cursor: pointer; }
.lsn-rater button:disabled, .lsn-rater fieldset input:disabled + span { color: #858585; border-color: #3a3a3a;
 cursor: default; }
.lsn-rater button[aria-pressed=true], .lsn-rater fieldset input:checked + span { color: #000; background: #ddd;
 border-color: #ddd; }
.lsn-rater .lsn-first:not(:disabled) { border: 2px solid #ddd; }
.lsn-rater fieldset { min-width: 0; margin: 0; padding: 0; border: 0; }
.lsn-rater legend { padding: 0; color: inherit; font: inherit; }
.lsn-rater fieldset .lsn-row { margin-top: .25rem; }
.lsn-rater fieldset label { position: relative; margin: 0; }
.lsn-rater fieldset label > span { display: grid; place-content: center; padding: 0; }
.lsn-rater fieldset input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
 cursor: pointer; }
.lsn-rater :is(button, input):focus-visible, .lsn-rater fieldset input:focus-visible + span {
 outline: 2px solid #8cc8ff; outline-offset: 2px; }
.lsn-rater .lsn-truth { min-height: 1.4em; margin: .4rem 0; color: #fff; font-weight: 600; }
.lsn-rater[data-phase=rating] .lsn-truth { display: none; }
.lsn-rater .lsn-status, .lsn-rater .lsn-keys, .lsn-rater small { color: #aaa; font-size: .85rem; }
.lsn-rater .lsn-warning { color: #ffb38a; }
.lsn-rater kbd { padding: 0 .3em; font: .85em ui-monospace, monospace; color: inherit; background: none;
 border: 1px solid #777; border-radius: 3px; box-shadow: none; }
.lsn-rater.lsn-wide[data-phase=rating], .lsn-rater.lsn-wide[data-phase=training] { display: flex; gap: 32px;
 justify-content: center; }
.lsn-rater.lsn-wide .lsn-view img { margin: 0; }
.lsn-rater.lsn-wide .lsn-controls { flex: none; width: 320px; margin: 0; }
"""
# The page may load nothing and send nothing, whatever is in it.
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class RatedImage:
    """One image of a set, as the bytes of an 8-bit grey PNG that holds nothing but its pixels."""

    name: str  # neutral, as "000"
    png: bytes
    answer: str | None = None  # "real" or "synthetic", of training examples alone


@dataclass(frozen=True)
class RaterSet:
    """What a reader may see of a set."""

    key_sha256: str  # of the key file, by which answers name their set
    size: int  # px, of both sides
    images: tuple[RatedImage, ...]  # in the order of showing
    training: tuple[RatedImage, ...]


def read_set(folder: Path) -> RaterSet:
    """Read the folder of a set. Raises `InputError` for a file that is missing or not what it should be."""
    file = Path(folder) / "set.json"
    if not file.exists():
        raise InputError(f"{file}: no such file; give the folder of an assembled set, which holds set.json")
    known = read_json(file)
    _check_set(known, file)
    size = known["size"]
    images = tuple(_image(entry, size, file) for entry in known["images"])
    training = tuple(_image(entry, size, file, answer=entry.get("answer")) for entry in known.get("training", []))
    for one in training:
        if one.answer not in (REAL, SYNTHETIC):
            raise InputError(
                f'{file}: training example {one.name} has no "answer", "{REAL}" or "{SYNTHETIC}"; {REMEDY}'
            )
    _refuse_twice([one.name for one in images + training], file)
    return RaterSet(known["key_sha256"], size, images, training)


def rater_html(folder: Path, *, title: str = TITLE) -> str:
    """The rater of the set in `folder` as one HTML file, images and all; it saves in the browser and as a CSV file.

    The order of showing is that of the set, for every reader. Raises `InputError` as `read_set` does.
    """
    data = rater_data(read_set(folder), title=title, encode=lambda png: base64.b64encode(png).decode("ascii"))
    content = json.dumps(data).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
html, body {{ margin: 0; background: #000; }}
{STYLE}</style>
</head>
<body>
<main class="lsn-rater" id="rater"><p>This page needs a browser of 2021 or later that runs scripts.</p></main>
<script type="application/json" id="set">{content}</script>
<script type="module">
{SCRIPT.read_text(encoding="utf-8")}
mount(document.getElementById("rater"), JSON.parse(document.getElementById("set").textContent));
</script>
</body>
</html>
"""


def write_rater(folder: Path, out: Path, *, title: str = TITLE) -> Path:
    """Write the rater of the set in `folder` as the HTML file `out`, and return its path."""
    return write_text(out, rater_html(folder, title=title))


def rater_data(rated: RaterSet, *, title: str, encode: Callable[[bytes], Any]) -> dict[str, Any]:
    """What `rater.js` needs of a set; `encode` makes of a PNG what travels to the script."""
    return {
        "key": rated.key_sha256,
        "title": title,
        "size": rated.size,
        "images": [{"name": one.name, "png": encode(one.png)} for one in rated.images],
        "training": [{"name": one.name, "png": encode(one.png), "answer": one.answer} for one in rated.training],
    }


def _check_set(known: Any, file: Path) -> None:
    """Raise `InputError` unless set.json holds what its format says."""
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        raise InputError(f'{file}: not a set to be rated (its "format" is not "{FORMAT}"); {REMEDY}')
    if known.get("positive") != SYNTHETIC:
        raise InputError(f'{file}: "positive" is {known.get("positive")!r} and must be "{SYNTHETIC}"; {REMEDY}')
    if not re.fullmatch("[0-9a-f]{64}", str(known.get("key_sha256"))):
        raise InputError(f'{file}: "key_sha256" is no SHA-256, 64 hexadecimal digits; {REMEDY}')
    if not isinstance(known.get("size"), int) or known["size"] < 1:
        raise InputError(f'{file}: "size" is {known.get("size")!r}, and must be the px of a side; {REMEDY}')
    if not isinstance(known.get("images"), list) or not known["images"]:
        raise InputError(f'{file}: "images" lists nothing to rate; {REMEDY}')


def _image(entry: Any, size: int, file: Path, *, answer: str | None = None) -> RatedImage:
    """One entry of set.json with its pixels. Raises `InputError`."""
    if not isinstance(entry, dict) or not {"name", "file"} <= entry.keys():
        raise InputError(f'{file}: an image is {entry!r}, and must have "name" and "file"; {REMEDY}')
    if not NEUTRAL.fullmatch(str(entry["name"])):
        raise InputError(f"{file}: the name {entry['name']!r} may tell readers what the image is; number the images")
    return RatedImage(str(entry["name"]), _bare_png(file.parent / str(entry["file"]), size), answer)


def _bare_png(path: Path, size: int) -> bytes:
    """A PNG's pixels alone, encoded again: what programs write beside them may say where an image comes from."""
    data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            kind, pixels = (image.format, image.mode, image.size), Image.frombytes("L", image.size, image.tobytes())
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: not a PNG that can be read ({error}); {REMEDY}") from error
    if kind != ("PNG", "L", (size, size)):
        raise InputError(f"{path}: must be an 8-bit grey PNG of {size} x {size} px; {REMEDY}")
    buffer = io.BytesIO()
    pixels.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _refuse_twice(names: list[str], file: Path) -> None:
    """Raise `InputError` where two images have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{file}: several images are named {', '.join(twice)}; number the images")
