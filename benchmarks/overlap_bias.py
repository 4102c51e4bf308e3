"""How bright is an overlap of two bones? Radiographs against two rules, and phantoms against their pseudo-overlaps.

The rules are those of `ring_errors`; chapter 3 shows why rings promise too much, by asking phantoms too. Errors are
what is measured less what the rule says.

python benchmarks/overlap_bias.py DATA [OUT.json]
"""

import sys
from pathlib import Path

import torch
from tqdm import tqdm

from lsn_core.batch import resize, soft_fill
from lsn_core.data import open_dataset
from lsn_core.joint import FINGERS
from lsn_core.masks import dilate
from lsn_core.metrics import ring_errors
from lsn_core.phantom import Phantom
from lsn_core.pseudo import phantom_error
from lsn_core.results import summarise, table, write_metrics

SPLITS, DILATE, LEAST = ("overlap_train", "overlap_test"), 4.0, 20  # px; px of an overlap
PHANTOMS, WIDE_MM, NARROW_MM = 40, 3.5, -0.5


def summary(errors: list[float], groups: list[str]) -> dict[str, float | int | None]:
    """Mean with interval, SD and n, as everywhere, and the root mean square."""
    rmse = float(torch.tensor(errors).square().mean().sqrt())
    return {**summarise(errors, groups), "rmse": rmse}


datasets = {split: open_dataset(sys.argv[1], split=split) for split in SPLITS}
joints = [resize(joint, 256) for dataset in datasets.values() for joint in tqdm(dataset, unit="image")]
image, masks = (torch.stack([getattr(joint, part) for joint in joints]) for part in ("image", "masks"))
errors, enough = ring_errors(image, masks, soft_fill(image, dilate(masks, DILATE)))
names = [joint.joint for joint, kept in zip(joints, enough.tolist(), strict=True) if kept]
metrics = {f"radiographs, {rule}": summary(error.tolist(), names) for rule, error in errors.items()}

drawn = [Phantom(seed, FINGERS[seed % len(FINGERS)]) for seed in range(PHANTOMS)]
pushed = [phantom_error(phantom, wide_mm=WIDE_MM, narrow_mm=NARROW_MM) for phantom in tqdm(drawn, unit="phantom")]
seen = [(error["bias"], str(seed)) for seed, error in enumerate(pushed) if error["pixels"] >= LEAST]
metrics["phantoms, truth less pseudo-image"] = summary([-bias for bias, _ in seen], [seed for _, seed in seen])
metrics["phantoms, RMSE of pixels"] = summarise([error["rmse"] for error in pushed], [str(i) for i in range(PHANTOMS)])

rows = [["mean of", "n", "bias", "95 %", "RMSE"]]
for name, s in metrics.items():
    rmse = f"{s['rmse']:.3f}" if "rmse" in s else "-"
    rows.append([name, str(s["n"]), f"{s['mean']:+.3f}", f"{s['low']:+.3f} to {s['high']:+.3f}", rmse])
print(table(rows))
if len(sys.argv) > 2:
    data = {split: dataset.fingerprint() for split, dataset in datasets.items()}
    write_metrics(Path(sys.argv[2]), metrics, kind="benchmark", data=data, split=list(SPLITS), size=256)
