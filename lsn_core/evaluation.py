"""Evaluation: the paper's Table 1 on a data set, layer truth on phantoms, and what soft tissue tells of the bones."""

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lsn_core import fidelity, probe, truth
from lsn_core.baseline import Harmonic
from lsn_core.batch import Batch, stack
from lsn_core.data import JointDataset, open_dataset
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.files import InputError, write_text
from lsn_core.joint import FINGERS, Joint
from lsn_core.networks import Separator, load_generator, weights_path
from lsn_core.phantom import phantoms
from lsn_core.results import summarise, write_metrics
from lsn_core.shapes import Layers, PerItem

CHUNK = 32
HELD_OUT, PROBES = 30_000, 40_000  # seeds of the phantoms that are measured, and of those that probes learn from
LEARNT, LEARNT_PHANTOMS = 400, 200  # at most, and how many, a probe learns from
KNOWN = ("name", "joint", "finger")  # of an image, before its numbers
PROBED = {"probe": "the data", "probe_phantoms": "phantoms"}  # parts that probes are trained for

Model = Separator | Harmonic
Parts = dict[str, Callable[[], dict[str, Any]]]  # what is to be measured, each with its results and "images"
Rows = list[dict[str, Any]]  # of each image: which it is, and its numbers


def evaluate_run(
    what: str,
    *,
    data: str | None = None,
    split: str = "test",
    size: int | None = None,
    held_out: int = 100,
    probes: bool = False,
    out: Path | None = None,
) -> tuple[dict[str, Any], Path]:
    """Evaluate a generator, or the closed form "harmonic", on a split of a data set and on so many held-out phantoms.

    Frames are of `size` px, by default the generator's own; `probes` look for bones in the soft tissue. On the GPU that
    there is, with progress bars. Writes the summaries and their provenance to `out`, and each image's numbers beside it
    as CSV. Raises `InputError` for what cannot be used.
    """
    if data is None and not held_out:
        raise InputError("no data set and no phantoms: nothing to measure; give --data, or --phantoms above 0")
    tested = None if data is None else open_dataset(data, split=split)
    model = load(what)
    frame, known = size or model.recipe.size, {"run": Path(what).name, "recipe": vars(model.recipe)}
    parts: Parts = {}
    if tested is not None:
        parts |= _on_data(model, data, tested, frame, probes)
        known |= {"data": tested.fingerprint(), "split": split}
    if held_out:
        parts |= _on_phantoms(model, held_out, frame, probes)
        known |= {"phantoms": {"seed": HELD_OUT, "count": held_out}}
    results, rows = _measure(parts)
    out = out or _default_out(what, "phantoms" if tested is None else split)
    for name, some in rows.items():
        write_rows(out.with_name(f"{out.stem}.csv" if name == "data" else f"{out.stem}_{name}.csv"), some)
    return results, write_metrics(out, results, kind="evaluation", size=frame, **known)


def _measure(parts: Parts) -> tuple[dict[str, Any], dict[str, Rows]]:
    """Do what is to be measured, part by part: the results, with each part's "seconds", and each image's rows."""
    results: dict[str, Any] = {}
    rows, seconds = {}, {}
    for name, part in parts.items():
        began = time.monotonic()
        found = part()
        rows[name] = found.pop("images")
        results |= found if name == "data" else {name: found}
        seconds[name] = round(time.monotonic() - began, 1)
    return results | {"seconds": seconds}, rows


def load(what: str) -> Model:
    """The closed form by its name, "harmonic", or a generator by what `load_generator` takes; on the GPU there is."""
    model = Harmonic() if what == "harmonic" else load_generator(what)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _default_out(what: str, part: str) -> Path:
    """Where the numbers of `what` on a part of the data go: into a run's folder, else into the current one."""
    if what != "harmonic" and weights_path(what).parent == Path(what):
        return Path(what) / f"metrics_{part}.json"
    return Path(f"{Path(what).stem}_{part}.json")


def _on_data(model: Model, data: str, tested: JointDataset, size: int, probes: bool) -> Parts:
    """What is measured on a part of a data set. Raises `InputError` where a probe has no other joint to learn from."""
    parts: Parts = {"data": lambda: evaluate(model, _bar(tested, "data"), size=size)}
    if not probes:
        return parts
    learnt = open_dataset(data, split="train")
    learnt = learnt.subset({row.joint for row in learnt.rows} - {row.joint for row in tested.rows})
    if not len(learnt):
        raise InputError(f"{data}: the split holds every training joint; choose one that leaves some to the probes")
    order = torch.randperm(len(learnt), generator=torch.Generator().manual_seed(0))[:LEARNT]
    some = JointDataset([learnt.rows[i] for i in order.tolist()], learnt.store)
    bars = (some, "data that probes learn from"), (tested, "data that they are tested on")
    return parts | {"probe": lambda: evaluate_probe(model, *(_bar(*bar) for bar in bars), size=size)}


def _on_phantoms(model: Model, number: int, size: int, probes: bool) -> Parts:
    """What is measured on phantoms that no training has seen."""

    def drawn(n: int, seed: int, title: str) -> Iterator[Joint]:
        yield from tqdm(phantoms(n, seed=seed, size=size), total=n, desc=title, unit="image")

    learnt, tested = (LEARNT_PHANTOMS, PROBES, "phantoms that probes learn from"), (number, HELD_OUT, "phantoms")
    parts: Parts = {"phantoms": lambda: evaluate_truth(model, drawn(*tested), size=size)}
    if not probes:
        return parts
    return parts | {"probe_phantoms": lambda: evaluate_probe(model, drawn(*learnt), drawn(*tested), size=size)}


def _bar(joints: Iterable[Joint], title: str) -> Iterator[Joint]:
    """Joints with a progress bar."""
    yield from tqdm(joints, desc=title, unit="image")


def write_rows(path: Path, rows: Rows) -> Path:
    """Each image's numbers as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def evaluate(model: Model, joints: Iterable[Joint], *, size: int | None = None) -> dict[str, Any]:
    """The paper's metrics of every joint, in frames of `size` px, by default the generator's own.

    Returns summaries over all and by finger, and each image's row.
    """
    rows = []
    for chunk in chunks(joints):
        batch, layers = separated(model, chunk, size)
        rows += rows_of(facts(chunk), fidelity.score(layers, batch))
    fingers = {f: [row for row in rows if row["finger"] == f] for f in FINGERS}
    by_finger = {finger: summaries(some) for finger, some in fingers.items() if some}
    return {"overall": summaries(rows), "by_finger": by_finger, "images": rows}


def evaluate_truth(model: Model, joints: Iterable[Joint], *, size: int | None = None) -> dict[str, Any]:
    """How near the layers of phantoms are to the truth, for the "clean" image and for that of a real "film".

    Returns summaries of both, and each image's row.
    """
    rows: dict[str, Rows] = {"clean": [], "film": []}
    seeds = count()
    for chunk in chunks(joints):
        film = [COMPUTED_RADIOGRAPHY.expose(joint, seed=next(seeds)) for joint in chunk]
        for title, shown in (("clean", chunk), ("film", film)):
            batch, layers = separated(model, shown, size)
            rows[title] += rows_of(facts(shown), truth.layer_scores(layers, batch.layers, batch.drawn.to(layers.dtype)))
    images = [{**row, "image": title} for title, some in rows.items() for row in some]
    return {title: summaries(some) for title, some in rows.items()} | {"images": images}


def evaluate_probe(
    model: Model, learnt: Iterable[Joint], tested: Iterable[Joint], *, size: int | None = None
) -> dict[str, Any]:
    """How well fresh probes that learn on some joints find the bones of others, in each of the `candidates`.

    Returns each candidate's summaries, and each image's row.
    """
    (train, _), (test, known) = (candidates(model, joints, size) for joints in (learnt, tested))
    masks = train.pop("masks"), test.pop("masks")
    same = {"size": probe.SIZE, "steps": probe.STEPS, "seed": 0}
    rows = {n: rows_of(known, probe.probe_auc(train[n], masks[0], test[n], masks[1], **same)) for n in train}
    images = [{**row, "shown": name} for name, some in rows.items() for row in some]
    return {name: summaries(some) for name, some in rows.items()} | {"images": images}


def candidates(model: Model, joints: Iterable[Joint], size: int | None) -> tuple[dict[str, Tensor], Rows]:
    """What probes are shown, at their size, with the "masks" as drawn; and which joints they are.

    "layer": the generator's soft tissue; "image": the radiograph; "fill": its harmonic fill; "outline": the hand's mask
    alone; of phantoms also "truth", the true soft tissue. Each is 0 in the air.
    """
    parts, known = [], []
    for chunk in chunks(joints):
        batch, layers = separated(model, chunk, size)
        drawn = batch.drawn.to(layers.dtype)
        soft = {
            "layer": layers[:, :1],
            "image": batch.image,
            "fill": batch.fill,
            "outline": torch.ones_like(batch.image),
        }
        soft |= {} if batch.layers is None else {"truth": batch.layers[:, :1]}
        shown = {name: plane * drawn[:, :1] for name, plane in soft.items()} | {"masks": drawn}
        parts.append({name: probe.at_size(planes, probe.SIZE) for name, planes in shown.items()})
        known += facts(chunk)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, known


def chunks(joints: Iterable[Joint]) -> Iterator[list[Joint]]:
    """Joints in lists of `CHUNK`, the last one shorter."""
    left = iter(joints)
    while some := list(islice(left, CHUNK)):
        yield some


@torch.no_grad()
def separated(model: Model, joints: list[Joint], size: int | None) -> tuple[Batch, Layers]:
    """Joints as a batch in frames of `size` px, by default the generator's own, and their layers; on its device."""
    recipe = model.recipe
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batch = stack(joints, size=size or recipe.size, dilate_px=recipe.dilate_px).to(device)
    return batch, model(batch.image, batch.drawn.to(batch.image.dtype))


def facts(joints: Iterable[Joint]) -> Rows:
    """Which joints they are."""
    return [{key: getattr(joint, key) for key in KNOWN} for joint in joints]


def rows_of(known: Rows, scores: dict[str, PerItem]) -> Rows:
    """One row for each image: which it is, and its numbers."""
    columns = {name: values.tolist() for name, values in scores.items()}
    return [one | {name: values[i] for name, values in columns.items()} for i, one in enumerate(known)]


def summaries(rows: Rows) -> dict[str, dict[str, Any]]:
    """Mean, SD, n and interval of every number in rows."""
    joints = [row["joint"] for row in rows]
    return {name: summarise([row[name] for row in rows], joints) for name in rows[0] if name not in KNOWN}


def report(results: dict[str, Any]) -> str:
    """All that was measured, as tables with their legends, and how long it took."""
    told = [fidelity.report(results)] if "overall" in results else []
    told += [truth.report(results["phantoms"])] if "phantoms" in results else []
    told += [probe.report(results[part], title) for part, title in PROBED.items() if part in results]
    spent = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in results["seconds"].items())
    return "\n\n".join([*told, f"time: {spent}"])
