"""Layer truth: how near layers are to a phantom's own, layer by layer, where they are hard to tell apart.

The soft tissue is compared under the bones, for beside them it is the radiograph itself.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lsn_core.masks import at_256, bones, grow, overlap
from lsn_core.metrics import SSIM_REACH, masked_mean, psnr, ssim_map
from lsn_core.radiograph import LAYERS, absorbance
from lsn_core.results import interval, table
from lsn_core.shapes import Image, Layers, Masks, PerItem

JOINT_PX = 10.0  # from both bones, at 256 px: the joint band
REGIONS = ("mask", "overlap", "band")
MEASURES = {"psnr_db": ("PSNR dB", "{:.2f}"), "ssim": ("SSIM", "{:.4f}"), "mae": ("MAE", "{:.4f}")}
LEGEND = """mean over the phantoms that have the region [95 % interval]; masks as drawn, px at 256. mask: each bone in
its own, soft tissue under both; overlap: where both bones are; band: within 10 px of both.
film: the radiograph has the blur, noise, scatter and fog of a real one, the truth has not."""


def regions(masks: Masks) -> dict[str, Masks]:
    """Where each layer is compared with its truth, from the masks as drawn: a plane for each layer, 0 or 1.

    "mask": each bone in its own mask, soft tissue under the bones' union; "overlap": where both bones are; "band": the
    hand within 10 px (at 256) of both bones, empty where it holds nothing of the "mask".
    """
    own = torch.cat((bones(masks), masks[:, 1:]), dim=1)
    band = joint_band(masks)
    some = (band * own).amax(dim=(2, 3), keepdim=True)  # a wide gap's middle holds no bone, and nothing to compare
    return {"mask": own, "overlap": overlap(masks).expand_as(own), "band": band * some}


def joint_band(masks: Masks, *, px: float = JOINT_PX) -> Image:
    """The hand within `px` (at 256) of both bones."""
    width = at_256(px, masks.shape[-1])
    return masks[:, :1] * grow(masks[:, 1:2], width) * grow(masks[:, 2:3], width)


def mass_errors(layers: Layers, truth: Layers) -> dict[str, PerItem]:
    """What the layer of each bone absorbs in all, relative to what the true one does: 0.1 is a tenth too much.

    Absorbance summed over the frame is proportional to the mineral's mass, wherever in the bone it was put.
    """
    mass, true = (absorbance(some[:, 1:]).sum(dim=(2, 3)) for some in (layers, truth))
    error = mass / true - 1
    return {f"{name}_mass": error[:, i] for i, name in enumerate(LAYERS[1:])}


def layer_scores(layers: Layers, truth: Layers, masks: Masks) -> dict[str, PerItem]:
    """PSNR in dB, SSIM and MAE of each layer in each of the `regions` of the masks as drawn: "soft_band_psnr_db".

    SSIM is the mean of the local SSIM over the region's pixels whose window lies in the frame. NaN where a region is
    empty.
    """
    found: dict[str, PerItem] = {}
    parts = regions(masks)
    for i, name in enumerate(LAYERS):
        one, true = layers[:, i : i + 1], truth[:, i : i + 1]
        similar = ssim_map(one, true)
        for region, where in parts.items():
            scores = _scores(one - true, similar, where[:, i : i + 1])
            found |= {f"{name}_{region}_{measure}": values for measure, values in scores.items()}
    return found


def _scores(error: Image, similar: Float[Tensor, "b 1 y x"], here: Image) -> dict[str, PerItem]:
    """The measures of one layer in one region, from its error and its local SSIM."""
    inner = here[..., SSIM_REACH:-SSIM_REACH, SSIM_REACH:-SSIM_REACH]
    return {
        "psnr_db": psnr(masked_mean(error**2, here)),
        "ssim": masked_mean(similar, inner),
        "mae": masked_mean(error.abs(), here),
    }


def truth_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """One row for each layer and region: how many images have it, and each measure's mean and interval."""
    rows = [["layer and region", "n", *(heading for heading, _ in MEASURES.values())]]
    for name in LAYERS:
        for region in REGIONS:
            found = {measure: summaries[f"{name}_{region}_{measure}"] for measure in MEASURES}
            cells = [interval(found[measure], form) for measure, (_, form) in MEASURES.items()]
            rows.append([f"{name}, {region}", str(found["mae"]["n"]), *cells])
    return table(rows)


def report(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for each kind of image, by its name, and what they are."""
    return "\n".join([*(f"layer truth, {kind}:\n{truth_table(one)}" for kind, one in found.items()), LEGEND])
