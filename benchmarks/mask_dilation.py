"""How far must a bone's mask be widened? Prints the halo left beside it, by px of dilation at 256 px.

python benchmarks/mask_dilation.py DATA [OUT.json]
"""

import sys
from pathlib import Path

import torch
from tqdm import tqdm

from lsn_core.batch import resize
from lsn_core.data import open_dataset
from lsn_core.masks import dilate
from lsn_core.metrics import halo
from lsn_core.results import summarise, table, write_metrics

RADII = range(11)  # px

dataset = open_dataset(sys.argv[1], split="test")
joints = [resize(joint, 256) for joint in tqdm(dataset, unit="image")]
image, masks = (torch.stack([getattr(joint, part) for joint in joints]) for part in ("image", "masks"))
names = [joint.joint for joint in joints]
rows = {radius: summarise(halo(image, dilate(masks, float(radius))).tolist(), names) for radius in tqdm(RADII)}
cells = [[str(r), f"{s['mean']:.4f}", f"{s['low']:.4f} to {s['high']:.4f}", str(s["n"])] for r, s in rows.items()]
print(table([["px", "halo", "95 %", "images"], *cells]))
if len(sys.argv) > 2:
    write_metrics(
        Path(sys.argv[2]), {"halo": rows}, kind="benchmark", data=dataset.fingerprint(), split="test", size=256
    )
