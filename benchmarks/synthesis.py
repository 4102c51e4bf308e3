"""How many synthetic joints a second, from stored layers, beside a loop of PIL over one image after the other?

python benchmarks/synthesis.py [--size PX] [--count N] [--rounds N] [--threads N] [--out JSON]

Each way moves two bones by other amounts in each image, and composes; nothing is encoded, and the memory to write to is
there. "source" is `Source.image` on so many threads. "PIL" is nearest neighbour, as the authors' code moves bones, on
8-bit layers. "shift" is `shift` and `compose` on a batch, on a GPU where there is one. Ways take turns; medians.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lsn_core.adjustment import stored
from lsn_core.movement import Movement, shifts, source_matrix
from lsn_core.phantom import Phantom
from lsn_core.radiograph import Shift, compose, shift
from lsn_core.results import table, write_metrics
from lsn_core.synthesis import Source

BATCH = 64


def movements(count: int) -> list[Movement]:
    """Changes, slides and turns all over their ranges."""
    random = np.random.default_rng(0)
    draws = zip(random.uniform(-1.5, 1.5, count), random.uniform(-0.2, 0.2, (count, 2)), strict=True)
    return [Movement(mm, 0.5, tuple(slide), tuple(random.uniform(-2, 2, 2))) for mm, slide in draws]


def by_source(pool: ThreadPoolExecutor, source: Source, some: list[Movement], made: np.ndarray) -> np.ndarray:
    """Fill `made` (n, h, w) on the pool's threads."""
    list(pool.map(lambda pair: source.image(pair[0], out=pair[1]), zip(some, made, strict=True)))
    return made


def by_pil(source: Source, some: list[Movement], made: np.ndarray) -> np.ndarray:
    """Fill `made` with one image after the other, each bone of 8-bit layers moved by PIL to the nearest pixel."""
    lower, upper = (Image.fromarray(np.round(255 * (1 - plane)).astype(np.uint8)) for plane in source.light[1:])
    soft, size = source.light[0, source.margin : -source.margin], source.hand.shape[::-1]
    down = np.array([[0, 0, 0], [0, 0, source.margin]])
    for movement, image in zip(some, made, strict=True):
        light = soft
        for bone, by in zip((lower, upper), shifts(movement, source.hinge), strict=True):
            matrix = source_matrix(by, source.hinge.middle) + down
            moved = bone.transform(size, Image.Transform.AFFINE, matrix.ravel(), Image.Resampling.NEAREST)
            light = light * (1 - np.asarray(moved, dtype=np.float32) / 255)
        np.subtract(1, light, out=image)
    return made


def by_shift(source: Source, some: list[Movement], device: torch.device) -> Tensor:
    """The reference in batches, on a device."""
    light = torch.from_numpy(source.light).to(device)
    layers, margin = 1 - light[None], source.margin
    centre, made = (source.hinge.middle[0], source.hinge.middle[1] + margin), []
    for start in range(0, len(some), BATCH):
        pairs = [shifts(movement, source.hinge) for movement in some[start : start + BATCH]]
        moved = [layers[:, :1].expand(len(pairs), -1, -1, -1)]
        for bone, each in zip((1, 2), zip(*pairs, strict=True), strict=True):
            by = Shift(*(torch.tensor([getattr(one, key) for one in each]) for key in ("dx", "dy", "degrees")))
            moved.append(shift(layers[:, [bone]].expand(len(pairs), -1, -1, -1), by, centre=centre))
        made.append(compose(torch.cat(moved, dim=1)[..., margin:-margin, :]))
    return torch.cat(made)


@contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of so many threads, each of which does all of an image itself."""
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        yield pool


def rate(work: Callable[[], object], count: int) -> float:
    """Images a second."""
    begun = perf_counter()
    work()
    return count / (perf_counter() - begun)


def main() -> None:
    """Time the ways by turns and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 256), ("count", 512), ("rounds", 5), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(asked.threads)
    joint = Phantom(7, size=asked.size).render()
    source, some = stored(joint, joint.layers[None], 0.0), movements(asked.count)
    made = np.ones((asked.count, asked.size, asked.size), np.float32)
    with workers(asked.threads) as pool, workers(1) as alone:
        ways = {
            f"source, {asked.threads} threads": lambda: by_source(pool, source, some, made),
            "source, 1 thread": lambda: by_source(alone, source, some, made),
            "PIL, nearest, a loop": lambda: by_pil(source, some, made),
            f"shift and compose, {device.type}": lambda: by_shift(source, some, device).cpu(),
        }
        rates = {name: [] for name in ways}
        for _ in range(asked.rounds):
            for name, work in ways.items():
                rates[name].append(rate(work, asked.count))
        exact = by_shift(source, some, device).cpu()[:, 0].numpy()
        off = {
            "source": np.abs(by_source(pool, source, some, made) - exact).max(),
            "PIL": np.abs(by_pil(source, some, made) - exact).max(),
        }
    found = {name: median(values) for name, values in rates.items()}
    slowest = found["PIL, nearest, a loop"]
    print(
        table(
            [
                ["way", "images a second", "times PIL"],
                *([n, f"{v:.0f}", f"{v / slowest:.1f}"] for n, v in found.items()),
            ]
        )
    )
    print(f"largest difference from shift and compose: source {off['source']:.1e}, PIL {off['PIL']:.1e}")
    if asked.out:
        results = {
            "images_per_second": found,
            "largest_difference": {name: float(value) for name, value in off.items()},
        }
        known = {"size": asked.size, "count": asked.count, "rounds": asked.rounds, "threads": asked.threads}
        print(write_metrics(asked.out, results, kind="speed of synthesis", **known))


if __name__ == "__main__":
    main()
