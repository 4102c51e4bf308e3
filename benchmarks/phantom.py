"""How fast phantoms are drawn, and what data sets of them cost: prints joints a second, and seconds and bytes by size.

python benchmarks/phantom.py [OUT.json]
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

from lsn_core.data import open_dataset, pack
from lsn_core.detector import COMPUTED_RADIOGRAPHY
from lsn_core.export import write_phantoms
from lsn_core.joint import FINGERS
from lsn_core.phantom import Phantom
from lsn_core.results import table, write_metrics

SETS = {"quick": (40, 128), "laptop": (400, 256), "paper": (1600, 256)}  # joints and px; the real set has 1,589
DRAWN = 60  # joints to time

rates = {}
for threads in (1, 2):
    torch.set_num_threads(threads)
    Phantom(0).render()
    start = time.perf_counter()
    for seed in range(1, DRAWN + 1):
        Phantom(seed, FINGERS[seed % 5]).render()
    rates[threads] = DRAWN / (time.perf_counter() - start)
print(table([["threads", "joints a second at 256 px"], *([str(n), f"{rate:.1f}"] for n, rate in rates.items())]))

sets = {}
for name, (count, size) in SETS.items():
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "phantoms", time.perf_counter()
        write_phantoms(out, count=count, size=size, seed=0, detector=COMPUTED_RADIOGRAPHY)
        seconds = time.perf_counter() - start
        packed = pack(open_dataset(out, split="all"), Path(folder) / "packed.safetensors").stat().st_size
        total = sum(file.stat().st_size for file in out.iterdir())
        sets[name] = {"joints": count, "size": size, "seconds": seconds, "bytes": total, "packed_bytes": packed}
cells = [
    [name, str(s["joints"]), str(s["size"]), f"{s['seconds']:.0f}", f"{s['bytes']:,}", f"{s['packed_bytes']:,}"]
    for name, s in sets.items()
]
print(table([["set", "joints", "px", "seconds", "bytes with layers", "bytes packed"], *cells]))
if len(sys.argv) > 1:
    write_metrics(Path(sys.argv[1]), {"joints_per_second": rates, "sets": sets}, kind="benchmark")
