"""Draw book/images/separation.png, the picture of the README and of the book's front page, from a phantom.

python scripts/picture.py
"""

from pathlib import Path

import torch

from lsn_core.figures import image_row
from lsn_core.networks import load_generator
from lsn_core.phantom import Phantom
from lsn_core.radiograph import adjust_jsw

joint = Phantom(seed=7, finger="index").render()
masks = joint.masks[None]
with torch.no_grad():
    layers = load_generator("compact")(joint.image[None], masks)
panels = {
    "radiograph": joint.image,
    "soft tissue": layers[0, 0],
    "lower bone": layers[0, 1],
    "upper bone": layers[0, 2],
}
panels["narrowed by 1 mm"] = adjust_jsw(layers, masks, -1.0, spacing_mm=joint.spacing_mm)[0]
image_row(panels).savefig(Path(__file__).parent.parent / "book" / "images" / "separation.png", dpi=100)
