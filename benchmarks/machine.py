"""Can a machine tell synthetic joints from real ones, and by what?

python benchmarks/machine.py [--data PATH] [--phantoms N] [--turns N] [--threads N] [--out JSON]

On phantoms as film the answer is exact: the same joints at the same widths, once drawn so and once adjusted to it. With
--data the radiographs of its test split, and what becomes of each when its space is changed by up to 0.6 mm. All are
shown as people see them (`turing.as_shown`); "linear" are pictures whose bones were moved by linear interpolation, "as
made" those at their own size and window.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from lsn_core.check import on_one_bone
from lsn_core.compare import Sample, measure
from lsn_core.data import open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.machine import answer, by_statistics, report, with_null
from lsn_core.movement import Movement
from lsn_core.networks import weights_path
from lsn_core.phantom import drawn
from lsn_core.production import Maker, file_hash
from lsn_core.results import write_metrics
from lsn_core.sampling import Plan
from lsn_core.synthesis import Source
from lsn_core.turing import as_shown

SIZE, SHOWN, FIRST, SPREAD_MM, HEAT = 256, 192, 80_000, 0.6, 32


def moved(joint: Joint, source: Source, movement: Movement, *, linear: bool = False) -> Joint:
    """A joint after a movement, as a picture or as the paper's bilinear image."""
    image = source.image(movement) if linear else source.picture(movement)
    masks = torch.from_numpy(source.masks(movement)).to(joint.masks.dtype)
    return replace(joint, image=torch.from_numpy(image)[None], masks=masks, layers=None)


def on_phantoms(count: int, seed: int) -> Iterator[tuple[Joint, Joint]]:
    """Adjusted phantoms, and the same drawn at that width with a noise of their own."""
    maker, random = Maker.of("compact", Plan(), size=None), np.random.default_rng(seed)
    for phantom in tqdm(drawn(count, seed=FIRST, size=SIZE), total=count, desc="phantoms", unit="joint"):
        change = float(random.uniform(-SPREAD_MM, SPREAD_MM))
        film = COMPUTED_RADIOGRAPHY.expose(phantom.render(), seed=2 * phantom.seed)
        true = COMPUTED_RADIOGRAPHY.expose(phantom.render(phantom.anatomy.jsw_mm + change), seed=2 * phantom.seed + 1)
        yield moved(film, maker.prepared(film).source, Movement(change)), true


def on_radiographs(data: str, *, linear: bool) -> Iterator[tuple[Joint, Joint]]:
    """Radiographs with their spaces changed, and as they are."""
    plan = Plan("around", 1, spread_mm=SPREAD_MM)
    maker = Maker.of("compact", plan, size=None)
    for joint in tqdm(open_dataset(data, split="test"), desc="radiographs", unit="image"):
        if not on_one_bone(*joint.masks[1:].bool().numpy()):
            ready = maker.prepared(joint)
            (movement,) = plan.movements(joint.name, ready.own_mm, reach_mm=ready.source.reach_mm)
            yield moved(joint, ready.source, movement, linear=linear), joint


def samples(pairs: Iterator[tuple[Joint, Joint]], *, shown: bool) -> tuple[Sample, Sample]:
    """Both halves measured, as they are or as people are shown them."""
    random, halves = np.random.default_rng(0), ([], [])
    for pair in pairs:
        for half, joint in zip(halves, pair, strict=True):
            half.append(as_shown(joint, SHOWN, random) if shown else joint)
    first, second = (measure(half) for half in halves)
    return first, second


def recorded(answers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Answers as JSON knows them, the heat as means over tiles."""
    for one in answers.values():
        if "heat" in one:
            one["heat"] = F.adaptive_avg_pool2d(one["heat"][None], HEAT)[0].tolist()
    return answers


def main() -> None:
    """Ask, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    for name, default in (("phantoms", 200), ("turns", 3), ("threads", torch.get_num_threads()), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    how = {"turns": asked.turns, "seed": asked.seed}
    results = {}
    made, true = samples(on_phantoms(asked.phantoms, asked.seed), shown=True)
    results["phantoms"] = {"synthetic against real": answer(made, true, **how)}
    print(f"phantoms:\n{report(results['phantoms'])}\n", flush=True)
    if asked.data:
        made, real = samples(on_radiographs(asked.data, linear=False), shown=True)
        results["radiographs"] = with_null(made, real, **how)
        print(f"radiographs, as shown:\n{report(results['radiographs'])}\n", flush=True)
        for name, linear in (("as made", False), ("as made, linear", True)):
            made, real = samples(on_radiographs(asked.data, linear=linear), shown=False)
            results[name] = {"synthetic against real": by_statistics(made, real, **how)}
        made, real = samples(on_radiographs(asked.data, linear=True), shown=True)
        results["as shown, linear"] = {"synthetic against real": by_statistics(made, real, **how)}
        for name in ("as made", "as made, linear", "as shown, linear"):
            print(name, results[name]["synthetic against real"]["statistics"])
    if asked.out:
        known = vars(asked) | {"out": None, "size": SIZE, "shown": SHOWN, "first_seed": FIRST, "spread_mm": SPREAD_MM}
        known["data"] = open_dataset(asked.data, split="test").fingerprint() if asked.data else None
        known |= {"weights": file_hash(weights_path("compact"))}
        results = {name: recorded(one) for name, one in results.items()}
        print(write_metrics(asked.out, results, kind="machine reading", **known))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
