"""Evaluation of a trained generator on a data set: the paper's Table 1, and whether bone is left in the soft tissue."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lsn_core import metrics
from lsn_core.batch import Batch, stack
from lsn_core.data import open_dataset
from lsn_core.files import write_text
from lsn_core.joint import FINGERS, Joint
from lsn_core.networks import Separator, load_generator
from lsn_core.radiograph import compose
from lsn_core.results import summarise, table, write_metrics
from lsn_core.shapes import Layers, PerItem

CHUNK = 32
LEGEND = """mean ± SD over images; "PSNR hand" without the air; "clipped": share of full white.
shadow: contrast of the bones left in the soft tissue, at the contour of the widened masks, and of the drawn ones;
(image) and (fill): the same for the radiograph itself and for the closed-form harmonic fill."""
EXACT = "With the partition head recomposition is exact by construction: only the shadows speak of the separation."
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


def evaluate_run(run_dir: Path, data: str, split: str, out: Path) -> tuple[dict[str, Any], Path]:
    """Evaluate a run's generator on a split of a data set, with a progress bar.

    Writes the summaries and their provenance to `out`, and each image's numbers beside it as CSV.
    """
    dataset = open_dataset(data, split=split)
    separator = load_generator(run_dir)
    results = evaluate(separator, tqdm(dataset, desc=f"evaluating on {split}", unit="image"))
    known = {"data": dataset.fingerprint(), "split": split, "run": Path(run_dir).name, "recipe": vars(separator.recipe)}
    images = results.pop("images")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=images[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(images)
    write_text(out.with_suffix(".csv"), text.getvalue())
    return results, write_metrics(out, results, kind="evaluation", **known)


def evaluate(separator: Separator, joints: Iterable[Joint]) -> dict[str, Any]:
    """Separate every joint at the generator's own frame size.

    Returns summaries over all and by finger, and each image's row.
    """
    rows, chunk = [], []
    for joint in joints:
        chunk.append(joint)
        if len(chunk) == CHUNK:
            rows += score_joints(separator, chunk)
            chunk = []
    rows += score_joints(separator, chunk) if chunk else []
    fingers = {f: [row for row in rows if row["finger"] == f] for f in FINGERS}
    by_finger = {finger: summaries(some) for finger, some in fingers.items() if some}
    return {"overall": summaries(rows), "by_finger": by_finger, "images": rows}


@torch.no_grad()
def score_joints(separator: Separator, joints: list[Joint]) -> list[dict[str, Any]]:
    """One row of metrics for each joint."""
    recipe = separator.recipe
    device = next(separator.parameters()).device
    batch = stack(joints, size=recipe.size, dilate_px=recipe.dilate_px).to(device)
    scores = score(separator.generator(batch.image, batch.masks), batch)
    values = [{name: float(column[i]) for name, column in scores.items()} for i in range(len(joints))]
    return [{"name": j.name, "joint": j.joint, "finger": j.finger, **v} for j, v in zip(joints, values, strict=True)]


def summaries(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean, SD, n and interval of every metric."""
    joints = [row["joint"] for row in rows]
    return {name: summarise([row[name] for row in rows], joints) for name in COLUMNS}


def table_1(results: dict[str, Any]) -> str:
    """The paper's Table 1 form, mean and SD: one row a finger and one overall."""
    named = [*results["by_finger"].items(), ("overall", results["overall"])]
    rows = [["", "n", *(heading for heading, _ in COLUMNS.values())]]
    for name, summary in named:
        cells = [_cell(summary[key], form) for key, (_, form) in COLUMNS.items()]
        rows.append([name, str(summary["mse"]["n"]), *cells])
    return table(rows)


def _cell(summary: dict[str, Any], form: str) -> str:
    """Mean and SD in one cell."""
    if summary["mean"] is None:
        return "-"
    return f"{form.format(summary['mean'])} ± {form.format(summary['sd'])}"
