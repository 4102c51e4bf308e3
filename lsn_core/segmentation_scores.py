"""How well outlines are drawn: overlap and distance from those of a person, finger by finger, and what is refused."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from tqdm import tqdm

from lsn_core.files import InputError
from lsn_core.intake import draw_masks
from lsn_core.joint import FINGERS, Joint
from lsn_core.masks import FRAME, at_256
from lsn_core.radiograph import LAYERS
from lsn_core.results import interval, summarise, table
from lsn_core.segmentation import Outliner, dice, find_masks

EDGE_PX = 4.0  # at 256

Plane = Bool[np.ndarray, "h w"]
COLUMNS = {
    "lower_dice": ("Dice, lower", "{:.3f}"),
    "upper_dice": ("Dice, upper", "{:.3f}"),
    "lower_px": ("lower, px", "{:.2f}"),
    "upper_px": ("upper, px", "{:.2f}"),
    "worst_px": ("95th, px", "{:.1f}"),
    "refused": ("refused", "{:.3f}"),
}
LEGEND = """mean over images [95 % interval, over joints]; px of a 256 px frame: mean distance between the outlines of
both masks, both ways, without the 4 px beside the frame's edge; 95th: the 95th percentile, of the worse bone.
refused: share of the images that the network would not draw by itself; their outlines count in the other columns."""


def outline_scores(found: Bool[np.ndarray, "3 h w"], drawn: Bool[np.ndarray, "3 h w"]) -> dict[str, float]:
    """Dice of hand and bones, and the distances between the bones' outlines in px of a 256 px frame."""
    shared = dice(torch.from_numpy(found)[None], torch.from_numpy(drawn)[None])[0].tolist()
    scores = {f"{name}_dice": value for name, value in zip(("hand", *LAYERS[1:]), shared, strict=True)}
    pixel, worst = FRAME / found.shape[-1], []
    for name, a, b in zip(LAYERS[1:], found[1:], drawn[1:], strict=True):
        away = outline_distances(a, b) * pixel
        scores[f"{name}_px"] = float(away.mean()) if len(away) else float("nan")
        worst.append(float(np.percentile(away, 95)) if len(away) else float("nan"))
    return scores | {"worst_px": max(worst)}


def outline_distances(a: Plane, b: Plane) -> np.ndarray:
    """Distances in px from each outline pixel of one mask to the nearest of the other, both ways; none without both."""
    from scipy.ndimage import distance_transform_edt

    first, second = outline(a), outline(b)
    if not (first.any() and second.any()):
        return np.zeros(0)
    return np.concatenate((distance_transform_edt(~second)[first], distance_transform_edt(~first)[second]))


def outline(mask: Plane) -> Plane:
    """The mask's pixels beside others, but for those next to the frame's edge, where drawn masks often stop short."""
    from scipy.ndimage import binary_erosion

    found = mask & ~binary_erosion(mask, border_value=1)
    margin = round(at_256(EDGE_PX, mask.shape[-1]))
    inside = np.zeros_like(found)
    inside[margin : len(mask) - margin, margin : len(mask) - margin] = True
    return found & inside


def score_outliner(outliner: Outliner, joints: Iterable[Joint]) -> list[dict[str, Any]]:
    """One row for each joint: which it is, how well its outlines are found, and whether it would be refused."""
    rows = []
    for joint in tqdm(joints, desc="outlines", unit="image"):
        found = find_masks(outliner, joint.image[None]).masks[0].numpy()
        known = {"name": joint.name, "joint": joint.joint, "finger": joint.finger}
        scores = outline_scores(found, joint.masks.numpy() > 0)
        rows.append(known | scores | {"refused": float(_refused(joint, outliner))})
    return rows


def _refused(joint: Joint, outliner: Outliner) -> bool:
    """Whether the outliner would draw nothing."""
    try:
        draw_masks(joint.image[0].numpy(), outliner, joint.name)
    except InputError:
        return True
    return False


def by_finger(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A summary of each score for every finger, and overall."""
    groups = {"overall": rows} | {finger: [row for row in rows if row["finger"] == finger] for finger in FINGERS}
    names = ("hand_dice", *COLUMNS)
    return {
        group: {name: summarise([row[name] for row in some], [row["joint"] for row in some]) for name in names}
        for group, some in groups.items()
    }


def report(summaries: dict[str, dict[str, Any]]) -> str:
    """A table, a row for each finger."""
    rows = [["finger", "n", *(heading for heading, _ in COLUMNS.values())]]
    for finger, found in summaries.items():
        rows.append([finger, str(found["refused"]["n"]), *(interval(found[k], f) for k, (_, f) in COLUMNS.items())])
    return f"{table(rows)}\n{LEGEND}"
