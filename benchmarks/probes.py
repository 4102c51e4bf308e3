"""Does a fresh probe find less bone in the soft tissue of one variant of the ablation than in that of another?

python benchmarks/probes.py RUNS DATA [--contrast NAME ...] [--plan YAML] [--out JSON]

RUNS is what `lsn ablate` trained on DATA. For every run of the named contrasts a fresh network learns to find the bones
in the soft tissue of training radiographs, and is asked about the test split: its AUC in excess of what the bones'
usual place tells. The difference has a 95 % interval over joints and seeds.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lsn_core import probe
from lsn_core.ablation import read_plan
from lsn_core.cases import Cases, prepare, separate
from lsn_core.data import open_dataset
from lsn_core.evaluation import device, load, others
from lsn_core.keeper import LAST
from lsn_core.ranking import crossed_interval
from lsn_core.results import table, write_metrics


def soft_tissue(model: torch.nn.Module, cases: Cases) -> torch.Tensor:
    """What a probe is shown: the layer without the air."""
    return separate(model, cases)[:, :1] * cases.drawn[:, :1]


def excess(folder: Path, learnt: Cases, tested: Cases) -> np.ndarray:
    """Of each tested image, for the generator after the last step of a run."""
    model = load(str(folder / LAST))
    shown = [part for cases in (learnt, tested) for part in (soft_tissue(model, cases), cases.drawn)]
    found = probe.probe_auc(*shown, size=probe.SIZE, steps=probe.STEPS, seed=0)
    return found["excess"].cpu().numpy()


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("runs", type=Path)
parser.add_argument("data")
parser.add_argument("--contrast", nargs="+", default=["as_stated", "wide_and_phantoms", "anchored"])
parser.add_argument("--plan", type=Path)
parser.add_argument("--out", type=Path)
asked = parser.parse_args()
plan = read_plan(asked.plan)
contrasts = {name: plan.contrasts[name] for name in asked.contrast}
named = {variant for contrast in contrasts.values() for variant in contrast.weights}
split = open_dataset(asked.data, split="test")
prepared: dict[float, tuple[Cases, Cases]] = {}
values: dict[str, np.ndarray] = {}
for variant in tqdm([variant for variant in plan.variants if variant.name in named], unit="variant"):
    how = {"size": variant.config.size, "dilate_px": variant.config.dilate_px}
    if how["dilate_px"] not in prepared:
        prepared[how["dilate_px"]] = tuple(prepare(s, **how).to(device()) for s in (others(asked.data, split), split))
    pair = prepared[how["dilate_px"]]
    values[variant.name] = np.array([excess(variant.folder(asked.runs, seed), *pair) for seed in plan.seeds])
joints = np.array([row.joint for row in split.rows])

metrics: dict[str, dict] = {"variants": {}, "contrasts": {}}
rows = [["excess AUC", "mean", "by seed or 95 % interval"]]
for name, found in values.items():
    means = np.nanmean(found, axis=1)
    metrics["variants"][name] = {"mean": float(means.mean()), "seeds": means.tolist()}
    rows.append([name, f"{means.mean():.4f}", ", ".join(f"{mean:.4f}" for mean in means)])
for name, contrast in contrasts.items():
    difference = sum(weight * values[variant] for variant, weight in contrast.weights.items())
    kept = np.isfinite(difference).all(axis=0)
    low, high = crossed_interval(difference[:, kept], joints[kept])
    mean = float(difference[:, kept].mean())
    metrics["contrasts"][name] = {"tells": contrast.tells, "mean": mean, "low": low, "high": high, "n": int(kept.sum())}
    rows.append([contrast.tells, f"{mean:+.4f}", f"[{low:+.4f}, {high:+.4f}]"])
print(table(rows))
if asked.out:
    known = {"data": split.fingerprint(), "split": "test", "seeds": list(plan.seeds), "steps": probe.STEPS}
    write_metrics(asked.out, metrics, kind="benchmark", **known)
