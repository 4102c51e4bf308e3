"""How true are synthetic joints at each joint space width, and what gives them away?

python benchmarks/adjustment.py [--data PATH] [--phantoms N] [--threads N] [--sigmoid WEIGHTS] [--out JSON]

Phantoms of 256 px, clean and as film, are separated at their own width, moved to widths from -1 to 3 mm, and compared
with the same phantom drawn at that width: PSNR, and the width that the shipped generator sees in both. "true layers" is
what the movement itself costs. With --data, defects of its test split after 1 mm less and 1.5 mm more, less those of
the radiographs themselves.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lsn_core.adjustment import WIDTHS_MM, moved_defects, stored, width_errors
from lsn_core.baseline import cut_out, harmonic
from lsn_core.batch import resize
from lsn_core.cases import Model
from lsn_core.check import on_one_bone
from lsn_core.data import open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY, PERFECT, Detector
from lsn_core.files import InputError
from lsn_core.joint import Joint
from lsn_core.networks import load_generator, weights_path
from lsn_core.phantom import drawn
from lsn_core.production import file_hash
from lsn_core.results import interval, summarise, table, write_metrics
from lsn_core.synthesis import Source, settled

SIZE, FIRST, CHANGES_MM = 256, 60_000, (-1.0, 1.5)
ERRORS = {"frame_db": "{:.2f}", "band_db": "{:.2f}", "bias_mm": "{:+.3f}"}
DEFECTS = dict.fromkeys(("gap", "grain", "ghost", "halo"), "{:+.3f}")


def sources(models: dict[str, Model], joint: Joint) -> dict[str, Source]:
    """A joint's layers by each model."""
    with torch.no_grad():
        found = {name: model(joint.image[None], joint.masks[None]) for name, model in models.items()}
    found["partition, settled"] = settled(found["partition"], models["partition"].widen(joint.masks[None]))
    widened = {name: model.recipe.dilate_px for name, model in models.items()}
    return {name: stored(joint, layers, widened[name.split(",")[0]]) for name, layers in found.items()}


def on_phantoms(models: dict[str, Model], count: int, detector: Detector) -> list[dict[str, Any]]:
    """Rows of all phantoms, methods and widths."""
    rows, reader = [], load_generator("compact")
    for phantom in tqdm(drawn(count, seed=FIRST, size=SIZE), total=count, desc="phantoms", unit="joint"):
        own = phantom.render()
        some = sources(models, detector.expose(own, seed=1000 * phantom.seed))
        some |= {"true layers": stored(own, own.layers[None], 0.0)} if detector is PERFECT else {}
        rows += list(width_errors(some, phantom, reader, detector=detector))
    return rows


def on_radiographs(models: dict[str, Model], data: str) -> Iterator[dict[str, Any]]:
    """Rows of all radiographs of the test split, methods and changes."""
    dataset = open_dataset(data, split="test")
    for joint in tqdm(dataset, desc="radiographs", unit="image"):
        if on_one_bone(*joint.masks[1:].bool().numpy()):
            continue
        joint = resize(joint, SIZE)
        for name, source in sources(models, joint).items():
            for change in CHANGES_MM:
                known = {"method": name, "change_mm": change, "name": joint.name, "joint": joint.joint}
                yield known | moved_defects(source, joint, change)


def summed(rows: list[dict[str, Any]], by: str, names: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Summaries of those numbers for each method and each value of `by`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        for value in sorted({row[by] for row in rows}):
            some = [row for row in rows if row["method"] == method and row[by] == value]
            joints = [row["joint"] for row in some]
            scores = {name: summarise([row[name] for row in some], joints) for name in names}
            found.setdefault(method, {})[f"{value:g}"] = scores
    return found


def printed(found: dict[str, dict[str, dict[str, Any]]], forms: dict[str, str], heading: str) -> str:
    """A table for each number, a row for each method and a column for each value."""
    columns = list(next(iter(found.values())))
    parts = []
    for name, form in forms.items():
        rows = [[f"{name} at {heading}", *columns]]
        rows += [[method, *(interval(one[name], form) for one in scores.values())] for method, scores in found.items()]
        parts.append(table(rows))
    return "\n\n".join(parts)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("phantoms", 60), ("threads", torch.get_num_threads())):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("data", "sigmoid"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    models = {"harmonic": harmonic(size=SIZE), "cut": cut_out(size=SIZE), "partition": load_generator("compact")}
    models |= {"sigmoid": load_generator(asked.sigmoid)} if asked.sigmoid else {}
    results = {}
    for kind, detector in (("clean", PERFECT), ("film", COMPUTED_RADIOGRAPHY)):
        rows = on_phantoms(models, asked.phantoms, detector)
        results[kind] = summed(rows, "width_mm", [*ERRORS, *DEFECTS])
        print(printed(results[kind], ERRORS | DEFECTS, f"mm, {kind}"))
    if asked.data:
        results["radiographs"] = summed(list(on_radiographs(models, asked.data)), "change_mm", list(DEFECTS))
        print(printed(results["radiographs"], DEFECTS, "mm more"))
    if asked.out:
        known = {"phantoms": asked.phantoms, "first_seed": FIRST, "size": SIZE, "widths_mm": list(WIDTHS_MM)}
        known["data"] = open_dataset(asked.data, split="test").fingerprint() if asked.data else None
        known["partition"] = file_hash(weights_path("compact"))
        known["sigmoid"] = file_hash(weights_path(asked.sigmoid)) if asked.sigmoid else None
        print(write_metrics(asked.out, results, kind="errors of adjusted joints", **known))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
