"""The JSW explorer: a slider that moves the bones of one joint in the page itself, with no kernel behind it.

The three layers travel as PNG inside the HTML; `explorer.js` decodes, shifts and composes them as `adjust_jsw` does.
"""

import base64
import io
import itertools
import json
import uuid
from html import escape
from pathlib import Path

import torch
from torch import Tensor

from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.radiograph import LAYERS, compose, joint_axis

SCRIPT = Path(__file__).with_name("explorer.js")
STEP_MM = 0.05  # of the slider: about half the repeatability of a measured JSW
OWN_KEYS = 'data-lm-suppress-shortcuts="true"'  # or JupyterLab takes the arrow keys of the element for itself
_counter = itertools.count(1)  # two figures of one joint on a page are two elements

STYLE = """<style>
.lsn-jsw { margin: 1rem auto; max-width: 32rem; color: inherit; }
.lsn-jsw canvas, .lsn-jsw img { display: block; width: 100%; border-radius: 4px; background: #000; }
.lsn-jsw label { display: inline-flex; align-items: center; gap: .5rem; min-height: 2rem; margin-right: 1rem; }
.lsn-jsw .lsn-slide { display: flex; flex-wrap: wrap; margin: .5rem 0 0; }
.lsn-jsw input { accent-color: #2a7fba; }
.lsn-jsw input[type=range] { flex: 1; min-width: 6rem; }
.lsn-jsw output { min-width: 10.5rem; font-variant-numeric: tabular-nums; }
.lsn-jsw fieldset { border: 0; margin: 0; padding: 0; }
.lsn-jsw :focus-visible { outline: 2px solid #2a7fba; outline-offset: 2px; }
.lsn-jsw:not([data-state=ready]) canvas { display: none; }
</style>"""


def explorer_html(joint: Joint, *, reach_mm: float = 3.0, label: str) -> str:
    """A self-contained <figure>: the joint, a slider from -`reach_mm` to +`reach_mm`, and a switch for each layer.

    `label` says what the picture shows, to those who cannot see it. Layers travel with 8 bits each. Raises
    `InputError` where the joint has no layers to move or no pixel spacing.
    """
    _check(joint, reach_mm)
    x, y = joint_axis(joint.masks[None])
    scales = [max(layer.max().item(), 1e-6) for layer in joint.layers]  # so that 8 bits divide what is there
    still = _png(compose(joint.layers[None])[0, 0])
    data = {
        "width": joint.layers.shape[2],
        "height": joint.layers.shape[1],
        "layers": [_png(layer / scale) for layer, scale in zip(joint.layers, scales, strict=True)],
        "scales": scales,
        "axis": [x.item(), y.item()],
        "spacing_mm": joint.spacing_mm,
        "jsw_mm": joint.jsw_mm,
    }
    content = json.dumps([data, reach_mm, label])
    name = f"lsn-jsw-{uuid.uuid5(uuid.NAMESPACE_URL, content).hex[:12]}-{next(_counter)}"
    return _figure(name, data, still, reach_mm, escape(label))


def show_explorer(joint: Joint, *, reach_mm: float = 3.0, label: str) -> None:
    """Display the explorer in a notebook, with the still image beside it for viewers that run no scripts."""
    from IPython.display import display

    html = explorer_html(joint, reach_mm=reach_mm, label=label)
    still = _png(compose(joint.layers[None])[0, 0])
    display({"text/html": html, "image/png": still, "text/plain": f"JSW explorer: {label}"}, raw=True)


def _check(joint: Joint, reach_mm: float) -> None:
    """Refuse a joint that cannot be moved in millimetres."""
    if joint.layers is None:
        raise InputError(f"{joint.name}: has no layers to move; separate it first")
    if not joint.spacing_mm:
        raise InputError(f"{joint.name}: has no pixel spacing, so its JSW has no millimetres; give spacing_mm")
    if not reach_mm >= STEP_MM:
        raise InputError(f"reach_mm is {reach_mm}, less than a step of the slider; give {STEP_MM} mm or more")


def _png(image: Tensor) -> str:
    """An image (h, w) in [0, 1] as a base64 8-bit grayscale PNG."""
    from PIL import Image

    levels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.numpy()).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _figure(name: str, data: dict, still: str, reach_mm: float, label: str) -> str:
    """The markup; the script finds its elements by class inside the figure."""
    limit = round(reach_mm / STEP_MM) * STEP_MM
    switches = " ".join(
        f'<label><input type="checkbox" value="{layer}" checked {OWN_KEYS}> {text}</label>'
        for layer, text in zip(LAYERS, ("soft tissue", "lower bone", "upper bone"), strict=True)
    )
    return f"""<figure class="lsn-jsw" id="{name}" data-state="loading">
{STYLE}
<canvas role="img" aria-label="{label}" width="{data["width"]}" height="{data["height"]}"></canvas>
<noscript><img src="data:image/png;base64,{still}" alt="{label}"></noscript>
<label class="lsn-slide">JSW <input type="range" min="{-limit:g}" max="{limit:g}" step="{STEP_MM}" value="0"
 aria-label="Change of the joint space width in millimetres" {OWN_KEYS}> <output></output></label>
<fieldset aria-label="Layers shown">{switches}</fieldset>
<script type="application/json">{json.dumps(data)}</script>
<script type="module">
{SCRIPT.read_text(encoding="utf-8")}
mount(document.getElementById("{name}"));
</script>
</figure>"""
