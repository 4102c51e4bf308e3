"""The JSW explorer: a joint whose bones a reader moves in the page itself, with no kernel behind it.

The three layers travel inside the HTML; `explorer.js` decodes them and moves and composes them as `recompose` does.
"""

import base64
import io
import itertools
import json
import uuid
import zlib
from html import escape
from pathlib import Path

import torch
from torch import Tensor

from lsn_core.continuation import continued
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.jsw import SVDH_MM
from lsn_core.masks import to_edge
from lsn_core.movement import find_hinge
from lsn_core.radiograph import compose
from lsn_core.shapes import Layers
from lsn_core.synthesis import margin_of

SCRIPT = Path(__file__).with_name("explorer.js")
STEP_MM = 0.05  # of a slider: about half the repeatability of a measured JSW
SLIDE_MM = 2.0  # how far a bone can be slid to either side
DEGREES = (15.0, 0.5)  # how far a bone can be turned, and a step of that
_counter = itertools.count(1)  # two figures of one joint on a page are two elements

STYLE = """
.lsn-jsw { margin: 1rem auto; max-width: 32rem; color: inherit; text-align: left; }
.lsn-jsw canvas, .lsn-jsw > img { display: block; width: 100%; border-radius: 4px; background: #000; }
.lsn-jsw[data-state=ready] > img { display: none; }
.lsn-jsw label { display: inline-flex; align-items: center; gap: .5rem; min-height: 2rem; margin: 0; }
.lsn-jsw .lsn-slide { display: flex; flex-wrap: wrap; align-items: center; gap: 0 .5rem; margin: .25rem 0 0; }
.lsn-jsw .lsn-slide label { flex: 1; }
.lsn-jsw input, .lsn-jsw summary { accent-color: #2a7fba; cursor: pointer; }
.lsn-jsw input[type=range] { flex: 1; width: 3rem; min-width: 3rem; margin: 0; }
.lsn-jsw output { flex: 0 0 100%; font-size: .9em; font-variant-numeric: tabular-nums; }
.lsn-jsw summary { display: list-item; list-style: disclosure-closed inside; }
.lsn-jsw details[open] > summary { list-style-type: disclosure-open; }
.lsn-jsw details { margin: .25rem 0; font-size: .9em; }
.lsn-jsw details .lsn-slide { flex-wrap: nowrap; white-space: nowrap; }
.lsn-jsw details label > span { flex: 0 0 6.2em; }
.lsn-jsw .lsn-value { flex: 0 0 5.4em; text-align: right; font-variant-numeric: tabular-nums; }
.lsn-jsw fieldset { display: flex; flex-wrap: wrap; align-items: center; gap: 0 1rem; }
.lsn-jsw fieldset { border: 0; margin: 0; padding: 0; min-width: 0; }
.lsn-jsw button { min-height: 2rem; margin-left: auto; padding: 0 .75rem; font: inherit; color: inherit;
 background: none; border: 1px solid currentColor; border-radius: 4px; cursor: pointer; }
.lsn-jsw :focus-visible { outline: 2px solid #2a7fba; outline-offset: 2px; }
"""


def explorer_html(joint: Joint, *, reach_mm: float = 3.0, label: str, bits: int = 8) -> str:
    """A self-contained <figure>: the joint, a slider from -`reach_mm` to +`reach_mm`, and what else moves its bones.

    `label` says what the picture shows, to those who cannot see it. Layers travel with 8 or 16 `bits` each: with 8, a
    picture differs by at most one level of 255 from the one that Python would save; with 16 it is nearly twice as large
    and differs by rounding alone. Raises `InputError` where the joint has no layers to move, no pixel spacing, or a
    bone without a mask.
    """
    return figure_html(explorer_data(joint, reach_mm=reach_mm, label=label, bits=bits))


def show_explorer(joint: Joint, *, reach_mm: float = 3.0, label: str, bits: int = 8) -> None:
    """Display the explorer in a notebook, with the still image beside it for viewers that run no scripts."""
    from IPython.display import display

    display(mime_bundle(explorer_data(joint, reach_mm=reach_mm, label=label, bits=bits)), raw=True)


def explorer_data(joint: Joint, *, reach_mm: float, label: str, bits: int) -> dict:
    """All that `explorer.js` needs of a joint, as JSON knows it; lengths in px unless they say mm."""
    _check(joint, reach_mm, bits)
    height, width = joint.layers.shape[1:]
    hinge = find_hinge(joint.masks[None], spacing_mm=joint.spacing_mm)
    scales, layers = _packed(continued(joint.layers[None], to_edge(joint.masks[None]), margin_of(width)), bits)
    limit = round(reach_mm / STEP_MM) * STEP_MM
    return {
        "width": width,
        "height": height,
        "margin": margin_of(width),
        "bits": bits,
        "layers": layers,
        "scales": scales,
        "axis": hinge.axis,
        "middle": hinge.middle,
        "spacing_mm": joint.spacing_mm,
        "jsw_mm": joint.jsw_mm,
        "svdh_mm": SVDH_MM,
        "limits": {"delta_mm": (round(limit, 2), STEP_MM), "slide_mm": (SLIDE_MM, STEP_MM), "degrees": DEGREES},
        "label": label,
        "still": _png(compose(joint.layers[None])[0, 0]),
    }


def mime_bundle(data: dict) -> dict[str, str]:
    """What a notebook stores of an explorer: the figure, its still image, and a line for those who see neither."""
    return {
        "text/html": figure_html(data),
        "image/png": data["still"],
        "text/plain": f"JSW explorer: {data['label']}",
    }


def figure_html(data: dict) -> str:
    """The markup around the data; the script adds the controls, so that without scripts there are none."""
    content = json.dumps({key: value for key, value in data.items() if key != "still"}).replace("<", "\\u003c")
    name = f"lsn-jsw-{uuid.uuid5(uuid.NAMESPACE_URL, content).hex[:12]}-{next(_counter)}"
    return f"""<figure class="lsn-jsw" id="{name}" data-state="loading">
<style>{STYLE}</style>
<img src="data:image/png;base64,{data["still"]}" alt="{escape(data["label"])}">
<script type="application/json">{content}</script>
<script type="module">
{SCRIPT.read_text(encoding="utf-8")}
mount(document.getElementById("{name}"));
</script>
</figure>"""


def _check(joint: Joint, reach_mm: float, bits: int) -> None:
    """Refuse a joint that cannot be moved in millimetres, and settings that mean nothing."""
    if joint.layers is None:
        raise InputError(f"{joint.name}: has no layers to move; separate it first")
    if not joint.spacing_mm:
        raise InputError(f"{joint.name}: has no pixel spacing, so its JSW has no millimetres; give spacing_mm")
    if not joint.masks[1:].amax(dim=(1, 2)).all():
        raise InputError(f"{joint.name}: a bone has no mask, so nothing says where it turns; give masks of both bones")
    if not reach_mm >= STEP_MM:
        raise InputError(f"reach_mm is {reach_mm}, less than a step of the slider; give {STEP_MM} mm or more")
    if bits not in (8, 16):
        raise InputError(f"bits is {bits}; give 8 or 16")


def _packed(layers: Layers, bits: int) -> tuple[list[float], list[str]]:
    """For each layer of one item, its largest value, and its levels of so many bits as base64 of zlib."""
    planes = layers[0].detach().cpu().double().numpy()
    scales = [max(float(plane.max()), 1e-6) for plane in planes]  # so that the levels divide what is there
    levels = [(plane / scale * (2**bits - 1)).round() for plane, scale in zip(planes, scales, strict=True)]
    packed = [zlib.compress(plane.astype(f"<u{bits // 8}").tobytes(), 9) for plane in levels]
    return scales, [base64.b64encode(plane).decode("ascii") for plane in packed]


def _png(image: Tensor) -> str:
    """An image (h, w) in [0, 1] as a base64 8-bit grayscale PNG."""
    from PIL import Image

    levels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.numpy()).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
