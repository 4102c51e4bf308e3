"""Evaluation: the paper's Table 1 on a data set, layer truth on phantoms, and what soft tissue tells of the bones."""

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lsn_core import consistency, fidelity, inception, motion, probe, traces, truth
from lsn_core.baseline import BASELINES
from lsn_core.cases import KNOWN, Cases, Rows, in_chunks, prepare, prepare_phantoms, rows_of, separate
from lsn_core.data import JointDataset, open_dataset
from lsn_core.files import InputError, write_text
from lsn_core.joint import FINGERS, Joint
from lsn_core.networks import load_generator, weights_path
from lsn_core.phantom import phantoms
from lsn_core.radiograph import compose
from lsn_core.results import listing, summarise, write_metrics
from lsn_core.shapes import Image, Layers, Masks, PerItem

HELD_OUT, PROBES = 30_000, 40_000  # seeds of the phantoms that are measured, and of those that probes learn from
LEARNT, LEARNT_PHANTOMS = 400, 200  # at most, and how many, a probe learns from
PROBED = {"probe": "the data", "probe_phantoms": "phantoms"}  # parts that probes are trained for
TRACES = {
    "cross_talk": "slopes along the outline, 0 to 1",
    "grain_db": "grain under bone over that beside it, dB",
    "shade_auc": "bone found in the shade, AUC",
}
MOTION = {
    "cycle_soft_db": "soft tissue after a cycle, dB",
    "cycle_lower_db": "lower bone after a cycle, dB",
    "cycle_upper_db": "upper bone after a cycle, dB",
}
VISITS = {
    "lower_image": "lower bone at two visits: radiographs' correlation",
    "lower_gain": "... and by how much its layers agree better",
    "upper_image": "upper bone at two visits: radiographs' correlation",
    "upper_gain": "... and by how much its layers agree better",
}
LEGEND = """traces and cycle: mean ± SD over images [95 % interval of the mean, over joints]. grain: 0 dB for flesh that
is alike everywhere, above where trabeculae were left in it, below where it was smoothed. shade: 0.5 is chance, and true
flesh is above it. cycle: bones moved apart, recomposed, separated again, moved back; consistent is not yet right."""

Measured = nn.Module  # a `Separator`, or a baseline that is used as one: it has a recipe
Parts = dict[str, Callable[[], dict[str, Any]]]  # what is to be measured, each with its results and "images"


@dataclass(frozen=True)
class Bench:
    """What a generator is measured on."""

    size: int  # px of the frames
    data: Cases | None
    phantoms: dict[str, Cases]  # "clean" and "film", or none


def evaluate_run(
    what: str,
    *,
    data: str | None = None,
    split: str = "test",
    size: int | None = None,
    held_out: int = 100,
    probes: bool = False,
    weights: Path | None = None,
    out: Path | None = None,
) -> tuple[dict[str, Any], Path]:
    """Evaluate a generator, or a baseline by its name, on a split of a data set and on so many held-out phantoms.

    Frames are of `size` px, by default the generator's own; `probes` look for bones in the soft tissue; `weights` of
    an Inception network add FID and KID. On the GPU that there is, with progress bars. Writes the summaries and their
    provenance to `out`, and each image's numbers beside it as CSV. Raises `InputError` for what cannot be used.
    """
    if data is None and not held_out:
        raise InputError("no data set and no phantoms: nothing to measure; give --data, or --phantoms above 0")
    tested = None if data is None else open_dataset(data, split=split)
    model = load(what)
    if weights and data is None:
        raise InputError(f"--inception {weights}: FID and KID compare radiographs; name a data set with --data")
    if weights:
        inception.weights_file(weights)  # raises before anything that takes long
    learnt = others(data, tested) if probes and tested is not None else None  # or raises
    began = time.monotonic()
    bench = set_up(tested, held_out, size=size or model.recipe.size, dilate_px=model.recipe.dilate_px)
    seconds = {"preparing": round(time.monotonic() - began, 1)}
    parts = bench_parts(model, bench) | (probe_parts(model, bench, learnt) if probes else {})
    if weights:
        parts["inception"] = lambda: evaluate_inception(model, bench.data, weights)
    results, rows = measure(parts)
    results["seconds"] = seconds | results["seconds"]
    out = out or _default_out(what, "phantoms" if tested is None else split)
    known = {"data": tested.fingerprint(), "split": split} if tested is not None else {}
    return results, write_evaluation(out, model, bench, results, rows, run=Path(what).name, **known)


def load(what: str) -> Measured:
    """A baseline by its name, or a generator by what `load_generator` takes; on the GPU that there is."""
    model = BASELINES[what]() if what in BASELINES else load_generator(what)
    return model.to(device())


def device() -> str:
    """Where generators are measured."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def set_up(tested: JointDataset | None, held_out: int, *, size: int, dilate_px: float) -> Bench:
    """Prepare a data set and so many phantoms that no training has seen, with progress bars."""
    how = {"size": size, "dilate_px": dilate_px}
    data = None if tested is None else prepare(_bar(tested, len(tested), "data"), **how).to(device())
    drawn = prepare_phantoms(held_out, seed=HELD_OUT, **how) if held_out else {}
    return Bench(size, data, {name: cases.to(device()) for name, cases in drawn.items()})


def _bar(joints: Iterable[Joint], count: int, title: str) -> Iterator[Joint]:
    """Joints with a progress bar, which begins with the first of them."""
    yield from tqdm(joints, total=count, desc=title, unit="image")


def bench_parts(model: Measured, bench: Bench) -> Parts:
    """What is measured on a bench, part by part."""
    parts: Parts = {}
    if bench.data:
        parts["data"] = lambda: evaluate(model, bench.data)
        if consistency.visit_pairs(bench.data.joints):
            parts["visits"] = lambda: evaluate_visits(model, bench.data)
    return parts | ({"phantoms": lambda: evaluate_truth(model, bench.phantoms)} if bench.phantoms else {})


def probe_parts(model: Measured, bench: Bench, learnt: JointDataset | None) -> Parts:
    """What fresh probes find that learn from a data set, and from phantoms."""
    same = {"size": bench.size, "dilate_px": model.recipe.dilate_px}
    parts: Parts = {}
    if learnt is not None:
        seen = _bar(learnt, len(learnt), "data that probes learn from")
        parts["probe"] = lambda: evaluate_probe(model, prepare(seen, **same).to(device()), bench.data)
    if bench.phantoms:
        drawn = phantoms(LEARNT_PHANTOMS, seed=PROBES, size=bench.size)
        shown = _bar(drawn, LEARNT_PHANTOMS, "phantoms that probes learn from")
        clean = bench.phantoms["clean"]
        parts["probe_phantoms"] = lambda: evaluate_probe(model, prepare(shown, **same).to(device()), clean)
    return parts


def others(data: str, tested: JointDataset) -> JointDataset:
    """Training radiographs of joints that are not tested. Raises `InputError` where there are none."""
    learnt = open_dataset(data, split="train")
    learnt = learnt.subset({row.joint for row in learnt.rows} - {row.joint for row in tested.rows})
    if not len(learnt):
        raise InputError(f"{data}: the split holds every training joint; choose one that leaves some to the probes")
    order = torch.randperm(len(learnt), generator=torch.Generator().manual_seed(0))[:LEARNT]
    return JointDataset([learnt.rows[i] for i in order.tolist()], learnt.store)


def measure(parts: Parts) -> tuple[dict[str, Any], dict[str, Rows]]:
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


def write_evaluation(
    out: Path, model: Measured, bench: Bench, results: dict[str, Any], rows: dict[str, Rows], **known: Any
) -> Path:
    """Write the numbers with their provenance to `out`, and each image's beside it as CSV; return `out`."""
    for name, some in rows.items():
        if some:
            write_rows(out.with_name(f"{out.stem}.csv" if name == "data" else f"{out.stem}_{name}.csv"), some)
    known |= {"size": bench.size, "recipe": vars(model.recipe)}
    known |= {"phantoms": {"seed": HELD_OUT, "count": len(bench.phantoms["clean"])}} if bench.phantoms else {}
    return write_metrics(out, results, kind="evaluation", **known)


def _default_out(what: str, part: str) -> Path:
    """Where the numbers of `what` on a part of the data go: into a run's folder, else into the current one."""
    if what not in BASELINES and weights_path(what).parent == Path(what):
        return Path(what) / f"metrics_{part}.json"
    return Path(f"{Path(what).stem}_{part}.json")


def write_rows(path: Path, rows: Rows) -> Path:
    """Each image's numbers as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def evaluate(model: Measured, cases: Cases) -> dict[str, Any]:
    """The paper's metrics of every joint, what is left of the bones in soft tissue, and whether layers survive a cycle.

    Returns summaries over all and by finger, and each image's row.
    """
    layers = separate(model, cases)
    scores = fidelity.score(layers, cases.batch) | trace_scores(layers[:, :1], cases) | cycled(model, layers, cases)
    rows = rows_of(cases.known, scores)
    fingers = {f: [row for row in rows if row["finger"] == f] for f in FINGERS}
    by_finger = {finger: summaries(some) for finger, some in fingers.items() if some}
    return {"overall": summaries(rows), "by_finger": by_finger, "images": rows}


def trace_scores(soft: Image, cases: Cases) -> dict[str, PerItem]:
    """What a soft-tissue layer still tells of the bones, by the masks as drawn."""
    soft = soft * cases.drawn[:, :1]

    def alone(some: Image, masks: Masks) -> dict[str, PerItem]:
        return {"cross_talk": traces.cross_talk(some, masks), "grain_db": traces.grain_db(some, masks)}

    found = in_chunks(alone, soft, cases.drawn)
    return found | {"shade_auc": traces.shade_auc(soft, cases.drawn, cases.joints)}


@torch.no_grad()
def cycled(model: Measured, layers: Layers, cases: Cases) -> dict[str, PerItem]:
    """PSNR of the layers after a cycle, "cycle_soft_db" and so on."""

    def cycle(some: Layers, masks: Masks) -> dict[str, PerItem]:
        return motion.cycle_scores(model, some, masks, dilate_px=model.recipe.dilate_px)

    return {f"cycle_{name}_db": values for name, values in in_chunks(cycle, layers, cases.drawn).items()}


def evaluate_visits(model: Measured, cases: Cases) -> dict[str, Any]:
    """Whether the bone layers of two visits of a joint agree, and better than the radiographs do.

    Returns summaries over pairs of visits, and each pair's row.
    """
    pairs = consistency.visit_pairs(cases.joints)
    found = consistency.agreements(cases.batch.image, cases.drawn, separate(model, cases), pairs)
    known = [{**cases.known[a], "name": f"{cases.known[a]['name']}, {cases.known[b]['name']}"} for a, b in pairs]
    rows = rows_of(known, found)
    return summaries(rows) | {"images": rows}


def evaluate_truth(model: Measured, shown: dict[str, Cases]) -> dict[str, Any]:
    """How near the layers of phantoms are to the truth, for the "clean" image and for that of a real "film".

    What is measured without truth on radiographs is measured of the true layers, too: "true_grain_db". Returns
    summaries of both, and each image's row.
    """
    rows = {title: rows_of(cases.known, _truth_scores(model, cases)) for title, cases in shown.items()}
    images = [{**row, "image": title} for title, some in rows.items() for row in some]
    return {title: summaries(some) for title, some in rows.items()} | {"images": images}


def _truth_scores(model: Measured, cases: Cases) -> dict[str, PerItem]:
    """All numbers of phantoms, image by image."""
    layers, true = separate(model, cases), cases.batch.layers
    scores = in_chunks(truth.layer_scores, layers, true, cases.drawn) | truth.mass_errors(layers, true)
    scores |= trace_scores(layers[:, :1], cases) | rendered(layers, cases)
    floor = trace_scores(true[:, :1], cases) | rendered(true, cases)
    return scores | {f"true_{name}": values for name, values in floor.items()}


def rendered(layers: Layers, cases: Cases) -> dict[str, PerItem]:
    """PSNR of adjusted joints against the phantoms drawn so: "rendered_wider_frame_db" and so on; none of films."""
    found: dict[str, PerItem] = {}
    for delta, image in cases.rendered.items():
        scores = motion.rendered_scores(layers, cases.drawn, image, delta, spacing_mm=cases.spacing_mm)
        way = "wider" if delta > 0 else "narrower"
        found |= {f"rendered_{way}_{part}_db": values for part, values in scores.items()}
    return found


def evaluate_probe(model: Measured, learnt: Cases, tested: Cases) -> dict[str, Any]:
    """How well fresh probes that learn on some joints find the bones of others, in each of the `candidates`.

    Returns each candidate's summaries, and each image's row.
    """
    train, test = candidates(model, learnt), candidates(model, tested)
    masks = train.pop("masks"), test.pop("masks")
    same = {"size": probe.SIZE, "steps": probe.STEPS, "seed": 0}
    found = {n: probe.probe_auc(train[n], masks[0], test[n], masks[1], **same) for n in train}
    rows = {name: rows_of(tested.known, scores) for name, scores in found.items()}
    images = [{**row, "shown": name} for name, some in rows.items() for row in some]
    return {name: summaries(some) for name, some in rows.items()} | {"images": images}


def evaluate_inception(model: Measured, cases: Cases, weights: Path) -> dict[str, Any]:
    """FID and KID of the recomposed radiographs against the radiographs, both without the air."""
    hand = cases.batch.masks[:, :1]
    made, seen = compose(separate(model, cases)) * hand, cases.batch.image * hand
    groups = (cases.joints, cases.joints)
    return inception.inception_distances(made, seen, weights=weights, groups=groups) | {"images": []}


def candidates(model: Measured, cases: Cases) -> dict[str, Tensor]:
    """What probes are shown, at their size, with the "masks" as drawn.

    "layer": the generator's soft tissue; "image": the radiograph; "fill": its harmonic fill; "outline": the hand's mask
    alone; of phantoms also "truth", the true soft tissue. Each is 0 in the air.
    """
    batch, hand = cases.batch, cases.drawn[:, :1]
    soft = {"layer": separate(model, cases)[:, :1], "image": batch.image, "fill": batch.fill}
    soft |= {"outline": torch.ones_like(hand)} | ({} if batch.layers is None else {"truth": batch.layers[:, :1]})
    shown = {name: plane * hand for name, plane in soft.items()} | {"masks": cases.drawn}
    return {name: probe.at_size(planes, probe.SIZE) for name, planes in shown.items()}


def summaries(rows: Rows) -> dict[str, dict[str, Any]]:
    """Mean, SD, n and interval of every number in rows."""
    joints = [row["joint"] for row in rows]
    return {name: summarise([row[name] for row in rows], joints) for name in rows[0] if name not in KNOWN}


def summed(cases: Cases, scores: dict[str, PerItem]) -> dict[str, dict[str, Any]]:
    """Mean, SD, n and interval of each number of some cases."""
    return summaries(rows_of(cases.known, scores))


def report(results: dict[str, Any]) -> str:
    """All that was measured, as tables with their legends, and how long it took."""
    told = []
    if "overall" in results:
        told = [fidelity.report(results), f"{listing(results['overall'], TRACES | MOTION)}\n{LEGEND}"]
    told += [listing(results["visits"], VISITS)] if "visits" in results else []
    told += [truth.report(results["phantoms"])] if "phantoms" in results else []
    told += [inception.report(results["inception"])] if "inception" in results else []
    told += [probe.report(results[part], title) for part, title in PROBED.items() if part in results]
    spent = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in results["seconds"].items())
    return "\n\n".join([*told, f"time: {spent}"])
