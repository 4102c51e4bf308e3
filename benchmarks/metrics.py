"""How long does each number of an evaluation take, per image, and a whole evaluation?

python benchmarks/metrics.py [--size PX] [--count N] [--rounds N] [--threads N] [--data PATH] [--out JSON]

Each metric is timed on phantoms as film, with the layers of the shipped generator, as a batch; "plain" is the same by
an independent library, image by image, where there is one. With --data, `lsn evaluate` is timed on its test split, too.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from lsn_core import evaluation, metrics, motion, traces, truth
from lsn_core.cases import Cases, in_chunks, prepare_phantoms, separate
from lsn_core.evaluation import evaluate_run
from lsn_core.networks import load_generator
from lsn_core.radiograph import compose
from lsn_core.results import table, write_metrics

Timed = dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]]  # each metric, and its plain form


def timed(cases: Cases, clean: Cases) -> Timed:
    """What is timed, by name: of all images at once, and by a plain library one by one."""
    model = load_generator("compact")
    layers, true, drawn, image = separate(model, cases), cases.batch.layers, cases.drawn, cases.batch.image
    made, soft, joints = compose(layers), layers[:, :1] * drawn[:, :1], cases.joints
    known, moved = [*zip(image[:, 0].numpy(), made[:, 0].numpy(), strict=True)], separate(model, clean)

    def chunked(measure: Callable[..., Tensor], *planes: Tensor) -> Callable[[], Any]:
        return lambda: in_chunks(lambda *some: {"": measure(*some)}, *planes)

    return {
        "separation": (lambda: separate(model, cases), None),
        "MSE": (chunked(metrics.mse, made, image), lambda: [mean_squared_error(a, b) for a, b in known]),
        "PSNR": (
            chunked(lambda a, b: metrics.psnr(metrics.mse(a, b)), made, image),
            lambda: [peak_signal_noise_ratio(a, b + 1e-6, data_range=1) for a, b in known],
        ),
        "SSIM": (
            chunked(metrics.ssim, made, image),
            lambda: [structural_similarity(a, b, data_range=1, gaussian_weights=True, sigma=1.5) for a, b in known],
        ),
        "row Frechet": (chunked(metrics.row_frechet, made, image), lambda: [plain_frechet(a, b) for a, b in known]),
        "shadow contrast": (chunked(metrics.shadow_contrast, soft, drawn), None),
        "cross-talk": (chunked(traces.cross_talk, soft, drawn), None),
        "grain": (chunked(traces.grain_db, soft, drawn), None),
        "shade AUC": (lambda: traces.shade_auc(soft, drawn, joints), None),
        "layer truth": (lambda: in_chunks(truth.layer_scores, layers, true, drawn), None),
        "mass": (lambda: truth.mass_errors(layers, true), None),
        "re-rendering, twice": (lambda: evaluation.rendered(moved, clean), None),
        "cycle": (
            lambda: in_chunks(lambda *p: motion.cycle_scores(model, *p, dilate_px=4.0), layers, drawn),
            None,
        ),
    }


def plain_frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The distance between the rows' Gaussians by a matrix root, as the formula is written."""
    from scipy.linalg import sqrtm

    means, spreads = [x.mean(axis=0) for x in (a, b)], [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(spreads[0] @ spreads[1]).real
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * root))


def milliseconds(work: Callable[[], Any], count: int, rounds: int) -> float:
    """Median time of some calls, per image, after one that warms up."""
    spent = []
    for _ in range(rounds + 1):
        begun = perf_counter()
        work()
        spent.append(1000 * (perf_counter() - begun) / count)
    return median(spent[1:])


def whole(data: str, size: int) -> dict[str, float]:
    """Seconds of each part of an evaluation of the test split and 100 phantoms, without probes."""
    with tempfile.TemporaryDirectory() as folder:
        results, _ = evaluate_run("compact", data=data, size=size, out=Path(folder) / "m.json")
    return results["seconds"]


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=128)
parser.add_argument("--count", type=int, default=64)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--data")
parser.add_argument("--out", type=Path)
asked = parser.parse_args()
torch.set_num_threads(asked.threads)
bench = prepare_phantoms(asked.count, seed=60_000, size=asked.size, dilate_px=4.0)
found, rows = {}, [["ms an image", "ours", "plain"]]
for name, (ours, plain) in timed(bench["film"], bench["clean"]).items():
    found[name] = {"ours": milliseconds(ours, asked.count, asked.rounds)}
    found[name]["plain"] = milliseconds(plain, asked.count, 1) if plain else None
    rows.append([name, f"{found[name]['ours']:.2f}", f"{found[name]['plain']:.2f}" if plain else "-"])
print(table(rows))
results = {"ms_an_image": found}
if asked.data:
    results["seconds"] = whole(asked.data, asked.size)
    print({name: round(seconds, 1) for name, seconds in results["seconds"].items()})
if asked.out:
    write_metrics(asked.out, results, kind="benchmark", size=asked.size, count=asked.count, threads=asked.threads)
