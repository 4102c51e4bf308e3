"""How well does the outliner draw, and what does it take for a joint?

python benchmarks/outlines.py [--data PATH] [--phantoms N] [--outlines WEIGHTS] [--out JSON]

Dice and distances by finger on the test split of --data, without radiographs whose two masks are on one bone, and on
held-out phantoms as film. Then the share that is accepted of joints that are turned or inverted, and of what is none:
photographs, other medical images and films that come with scikit-image and pydicom or are drawn here, and noise.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import skimage
from torch import Tensor

from lsn_core.check import on_one_bone
from lsn_core.data import open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError
from lsn_core.images import read_image
from lsn_core.intake import draw_masks
from lsn_core.joint import Joint
from lsn_core.phantom import phantoms
from lsn_core.results import table, write_metrics
from lsn_core.segmentation import REMEDIES, Outliner, load_outliner
from lsn_core.segmentation_scores import by_finger, report, score_outliner

SIZE, FIRST, CROPS = 256, 60_000, 3
FOLDERS = (Path(skimage.data.__file__).parent, Path(pydicom.__file__).parent / "data" / "test_files")
FILES = ("*.png", "*.jpg", "*_small.dcm", "liver_1frame.dcm", "examples_overlay.dcm")
TURNS = {"left": 1, "down": 2, "right": 3}  # where the fingertip points after so many quarter turns


def strangers() -> Iterator[tuple[str, np.ndarray]]:
    """Pictures (h, w) of no joint, by name."""
    yield "drawn chest film", chest_film()
    for sigma in (0.5, 2.0, 8.0, 24.0):
        yield f"noise, {sigma:g} px", grain(sigma)
    for path in sorted(path for folder in FOLDERS for pattern in FILES for path in folder.glob(pattern)):
        try:
            yield from ((f"{path.name} {k}", crop) for k, crop in enumerate(squares(read_image(path))))
        except InputError:
            continue  # what cannot be read is refused before it is looked at


def squares(image: np.ndarray) -> list[np.ndarray]:
    """Squares from one end of a picture to the other; the picture itself where it is one."""
    side, many = min(image.shape), 1 if image.shape[0] == image.shape[1] else CROPS
    starts = [[(length - side) * k // max(1, many - 1) for length in image.shape] for k in range(many)]
    return [image[top : top + side, left : left + side] for top, left in starts]


def grain(sigma: float) -> np.ndarray:
    """Noise of one coarseness, mean one half."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(0).standard_normal((SIZE, SIZE)), sigma)
    return np.clip(0.5 + 0.2 * field / field.std(), 0, 1).astype(np.float32)


def chest_film() -> np.ndarray:
    """Two lungs, ribs, a spine and a heart, as a child draws them, with grain."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, SIZE),) * 2, indexing="ij")
    image = np.full((SIZE, SIZE), 0.6)
    for side in (-1, 1):
        lung = ((x - 0.42 * side) / 0.32) ** 2 + (y / 0.75) ** 2 < 1
        image[lung] = 0.2
        ribs = lung & (np.sin(14 * y + 5 * np.abs(x)) > 0.5)
        image[ribs] += 0.15
    image[np.abs(x) < 0.09] = 0.8
    image[((x - 0.15) / 0.3) ** 2 + ((y - 0.35) / 0.3) ** 2 < 1] = 0.75
    return np.clip(image + 0.1 * (grain(1.0) - 0.5), 0, 1).astype(np.float32)


def told(outliner: Outliner, image: np.ndarray) -> str | None:
    """Why an image (h, w) is refused; None where masks are drawn of it."""
    try:
        draw_masks(image, outliner, "")
    except InputError as error:
        return str(error)
    return None


def wrong_ways(outliner: Outliner, joints: list[Joint]) -> dict[str, dict[str, float]]:
    """Of joints turned and inverted: the share that is accepted, and that is told the right remedy."""
    images = [joint.image[0] for joint in joints]
    shown: dict[str, Iterable[Tensor]] = {name: [image.rot90(k) for image in images] for name, k in TURNS.items()}
    shown["inverted"] = [1 - image for image in images]
    found = {}
    for name, some in shown.items():
        reasons = [told(outliner, image.numpy()) for image in some]
        right = [REMEDIES[name] in (reason or "") for reason in reasons]
        found[name] = {"n": len(reasons), "accepted": np.mean([r is None for r in reasons]), "right": np.mean(right)}
    return found


def usable(data: str) -> list[Joint]:
    """The test split without radiographs whose masks are on one bone."""
    return [joint for joint in open_dataset(data, split="test") if not on_one_bone(*joint.masks[1:].bool().numpy())]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--phantoms", type=int, default=100)
    parser.add_argument("--outlines", default="outlines")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    outliner = load_outliner(asked.outlines)
    made = phantoms(asked.phantoms, seed=FIRST, size=SIZE)
    sets = {"phantoms": [COMPUTED_RADIOGRAPHY.expose(joint, seed=k) for k, joint in enumerate(made)]}
    sets |= {"radiographs": usable(asked.data)} if asked.data else {}
    results: dict[str, Any] = {}
    for name, joints in sets.items():
        results[name] = by_finger(score_outliner(outliner, joints)) | {"wrong ways": wrong_ways(outliner, joints)}
        print(f"{name}:\n{report({k: v for k, v in results[name].items() if k != 'wrong ways'})}")
        rows = [[k, *(f"{v:.3g}" for v in found.values())] for k, found in results[name]["wrong ways"].items()]
        print(table([["shown", "n", "accepted", "right remedy"], *rows]))
    reasons = {name: told(outliner, image) for name, image in strangers()}
    accepted = [name for name, reason in reasons.items() if reason is None]
    results["strangers"] = {"n": len(reasons), "accepted": accepted}
    print(f"{len(reasons)} pictures of no joint, accepted: {', '.join(accepted) or 'none'}")
    if asked.out:
        fingerprint = open_dataset(asked.data, split="test").fingerprint() if asked.data else None
        known = {"phantoms": asked.phantoms, "first_seed": FIRST, "outlines": asked.outlines, "data": fingerprint}
        print(write_metrics(asked.out, results, kind="outlines", **known))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
