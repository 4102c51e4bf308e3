"""How fast are harmonic fills, beside a sparse direct solver on the same radiographs, and pseudo-overlaps?

python benchmarks/pseudo.py DATA [THREADS]
"""

import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import spsolve

from lsn_core.batch import resize
from lsn_core.data import open_dataset
from lsn_core.masks import bones, dilate
from lsn_core.pseudo import Overlaps, Pseudo, draw_overlap, harmonic_fill, pseudo_overlap
from lsn_core.results import table

COUNT, SIZE, DILATE = 64, 256, 4.0  # radiographs, px, px
BATCHES, ROUNDS = (1, 16, 64), 2


def equations(image: np.ndarray, hole: np.ndarray) -> tuple[csc_matrix, np.ndarray]:
    """Laplace's equation in the hole, no flux through the frame: matrix and right side in double precision."""
    row = np.full(hole.shape, -1)
    row[hole] = np.arange(hole.sum())
    count = row.max() + 1
    diagonal, right, entries = np.zeros(count), np.zeros(count), []
    for here, there in (((slice(None), slice(1, None)), (slice(None), slice(-1))), (slice(1, None), slice(-1))):
        for a, b in ((here, there), (there, here)):
            pairs = hole[a]
            mine, other, known = row[a][pairs], row[b][pairs], image[b][pairs]
            diagonal[mine] += 1
            right[mine[other < 0]] += known[other < 0]
            entries.append(np.stack((mine[other >= 0], other[other >= 0])))
    places = np.concatenate((np.tile(np.arange(count), (2, 1)), *entries), axis=1)
    values = np.concatenate((diagonal, -np.ones(places.shape[1] - count)))
    return coo_matrix((values, places)).tocsc(), right


def directly(image: torch.Tensor, hole: torch.Tensor) -> tuple[np.ndarray, float]:
    """One image filled by spsolve, and the seconds that took, without setting up the equations."""
    image, hole = image[0].double().numpy(), hole[0].numpy()
    matrix, right = equations(image, hole)
    begun = perf_counter()
    solution = spsolve(matrix, right)
    seconds = perf_counter() - begun
    filled = image.copy()
    filled[hole] = solution
    return filled, seconds


def seconds_each(work: Callable[[slice], object], batch: int) -> float:
    """Seconds an image over COUNT images, `batch` at a time."""
    begun = perf_counter()
    for start in range(0, COUNT, batch):
        work(slice(start, start + batch))
    return (perf_counter() - begun) / COUNT


def fills(some: slice) -> torch.Tensor:
    """Fill some of the images."""
    return harmonic_fill(image[some], hole[some])


def overlaps(some: slice) -> Pseudo:
    """Push the bones of some of the images over each other."""
    return pseudo_overlap(image[some], masks[some], fill[some], Overlaps.replay(numbers[some]))


torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else torch.get_num_threads())
dataset = open_dataset(sys.argv[1], split="train")
joints = [resize(dataset[int(i)], SIZE) for i in np.linspace(0, len(dataset) - 1, COUNT)]
image, masks = (torch.stack([getattr(joint, part) for joint in joints]) for part in ("image", "masks"))
masks = dilate(masks, DILATE)
hole = bones(masks) > 0
fill = fills(slice(None))
numbers = draw_overlap(COUNT, size=SIZE, generator=torch.Generator().manual_seed(0)).numbers()

rounds: dict[str, list[float]] = {}
for _ in range(ROUNDS):  # by turns, so that whatever else the machine does slows all of them
    direct = [directly(*each) for each in zip(image, hole, strict=True)]
    rounds.setdefault("spsolve", []).append(float(np.mean([seconds for _, seconds in direct])))
    for name, work in (("harmonic_fill", fills), ("pseudo_overlap", overlaps)):
        for batch in BATCHES:
            rounds.setdefault(f"{name}, batch {batch}", []).append(seconds_each(work, batch))
best = {name: min(seconds) for name, seconds in rounds.items()}
exact = torch.from_numpy(np.stack([filled for filled, _ in direct]))
errors = {
    f"harmonic_fill, batch {batch}": float(
        (torch.cat([fills(slice(k, k + batch)) for k in range(0, COUNT, batch)])[:, 0] - exact).abs().max()
    )
    for batch in BATCHES
}
rows = [["best round", "ms an image", "images/s", "times spsolve", "largest error"]]
for name, seconds in best.items():
    times = "-" if "overlap" in name else f"{best['spsolve'] / seconds:.1f}"
    error = f"{errors[name]:.1e}" if name in errors else "-"
    rows.append([name, f"{1e3 * seconds:.1f}", f"{1 / seconds:.0f}", times, error])
print(f"{COUNT} radiographs at {SIZE} px, masks widened by {DILATE:.0f} px, {torch.get_num_threads()} threads")
print(table(rows))
