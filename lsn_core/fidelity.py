"""Fidelity: whether layers give back the radiograph (the paper's Table 1), and what bone they leave in soft tissue."""

from collections.abc import Sequence
from typing import Any

import torch

from lsn_core import metrics
from lsn_core.batch import Batch
from lsn_core.radiograph import compose
from lsn_core.results import table
from lsn_core.shapes import Layers, PerItem

LEGEND = """mean ± SD over images; "PSNR hand" without the air; "clipped": share of full white.
shadow: contrast of the bones left in the soft tissue, at the contour of the widened masks, and of the drawn ones;
(image) and (fill): the same for the radiograph itself and for the closed-form harmonic fill.
Where recomposition is exact by construction (partition head, closed form) only shadows, layer truth and the probe speak
of the separation."""
COLUMNS = {  # metric: heading and format of the printed table
    "mse": ("MSE", "{:.2e}"),
    "ssim": ("SSIM", "{:.4f}"),
    "psnr_db": ("PSNR dB", "{:.2f}"),
    "row_frechet": ("row Frechet", "{:.2e}"),
    "psnr_hand_db": ("PSNR hand dB", "{:.2f}"),
    "clipped": ("clipped", "{:.1e}"),
    "shadow": ("shadow", "{:.4f}"),
    "shadow_drawn": ("shadow, drawn", "{:.4f}"),
    "shadow_image": ("(image)", "{:.4f}"),
    "shadow_fill": ("(fill)", "{:.4f}"),
}


@torch.no_grad()
def score(layers: Layers, batch: Batch) -> dict[str, PerItem]:
    """All metrics of each image. `batch` holds the masks that the layers may cover, and those that were drawn.

    Frame-wide metrics compare with the image inside the hand, as the paper does: air is 0 on both sides. Shadows are
    absolute; "_drawn" is measured at the contour of the drawn masks, the others at that of the widened ones; the raw
    image and the closed-form harmonic fill stand beside the soft-tissue layer.
    """
    hand, soft, recomposed = batch.masks[:, :1], layers[:, :1], compose(layers)
    target = batch.image * hand
    squares = metrics.mse(recomposed, target)
    return {
        "mse": squares,
        "ssim": metrics.ssim(recomposed, target),
        "psnr_db": metrics.psnr(squares),
        "row_frechet": metrics.row_frechet(recomposed, target),
        "psnr_hand_db": metrics.psnr(metrics.masked_mse(recomposed, batch.image, hand)),
        "clipped": metrics.clipped_share(batch.image, hand),
        "shadow": metrics.shadow_contrast(soft, batch.masks).abs(),
        "shadow_drawn": metrics.shadow_contrast(soft, batch.drawn.to(soft.dtype)).abs(),
        "shadow_image": metrics.shadow_contrast(batch.image, batch.masks).abs(),
        "shadow_fill": metrics.shadow_contrast(batch.fill, batch.masks).abs(),
    }


def table_1(results: dict[str, Any], *, columns: Sequence[str] = tuple(COLUMNS)) -> str:
    """The paper's Table 1 form, mean and SD: one row a finger and one overall."""
    named = [*results["by_finger"].items(), ("overall", results["overall"])]
    rows = [["", "n", *(COLUMNS[key][0] for key in columns)]]
    for name, summary in named:
        cells = [_cell(summary[key], COLUMNS[key][1]) for key in columns]
        rows.append([name, str(summary["mse"]["n"]), *cells])
    return table(rows)


def report(results: dict[str, Any]) -> str:
    """Table 1 and what its columns are."""
    return f"{table_1(results)}\n{LEGEND}"


def _cell(summary: dict[str, Any], form: str) -> str:
    """Mean and SD in one cell."""
    if summary["mean"] is None:
        return "-"
    return f"{form.format(summary['mean'])} ± {form.format(summary['sd'])}"
