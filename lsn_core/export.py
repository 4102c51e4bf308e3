"""Phantoms as files, in the layout of one's own radiographs."""

import csv
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from lsn_core.detector import PERFECT, Detector
from lsn_core.files import InputError, write_text
from lsn_core.images import write_image, write_mask
from lsn_core.joint import Joint
from lsn_core.manifest import COLUMNS, MANIFEST
from lsn_core.phantom import Phantom, drawn, visits
from lsn_core.radiograph import LAYERS


def write_phantoms(
    out: Path,
    *,
    count: int,
    size: int,
    seed: int,
    diseased: float = 0.5,
    times: int = 1,
    detector: Detector = PERFECT,
    force: bool = False,
) -> Path:
    """Draw `count` phantoms into a folder, each at that many visits, every fifth for the "test" split.

    The manifest comes last, and its path is returned. Beside the columns that `open_dataset` reads, it holds the true
    JSW and the files of the true layers, which no detector changes. Raises `InputError` where the folder holds a data
    set already, unless `force` is given.
    """
    if (out / MANIFEST).exists() and not force:
        raise InputError(f"{out / MANIFEST}: exists already; choose another folder, or replace the data with --force")
    joints = enumerate(drawn(count, seed=seed, size=size, diseased=diseased))
    with abandoned_on_error(ThreadPoolExecutor(os.cpu_count())) as pool:  # most of the time goes into PNG files
        written = pool.map(lambda item: _write_visits(out, *item, times, detector), joints)
        rows = [row for rows in tqdm(written, desc="phantoms", unit="joint", total=count) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*COLUMNS, "jsw_mm", *(f"layer_{name}" for name in LAYERS)])
    writer.writeheader()
    writer.writerows(rows)
    return write_text(out / MANIFEST, text.getvalue())


@contextmanager
def abandoned_on_error(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """A pool that, on an error or Ctrl-C, does not first finish all that waits in it."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _write_visits(out: Path, k: int, phantom: Phantom, times: int, detector: Detector) -> list[dict[str, str]]:
    """Draw and write the k-th phantom at so many visits; return their lines of the manifest."""
    split = "test" if k % 5 == 4 - k // 5 % 5 else "train"  # one in five, another finger each time
    shown = (detector.expose(joint, seed=1000 * phantom.seed + i) for i, joint in enumerate(visits(phantom, times)))
    return [_write_phantom(out, joint, visit, split) for visit, joint in enumerate(shown)]


def _write_phantom(out: Path, joint: Joint, visit: int, split: str) -> dict[str, str]:
    """Write one phantom's image, masks and layers; return its line of the manifest."""
    names = {part: f"{joint.name}_mask_{part}.png" for part in ("lower", "upper")}
    write_image(out / f"{joint.name}.png", joint.image[0].numpy())
    for part, mask in zip(("lower", "upper"), joint.masks[1:], strict=True):
        write_mask(out / names[part], mask.numpy() > 0)
    for name, layer in zip(LAYERS, joint.layers, strict=True):
        write_image(out / f"{joint.name}_layer_{name}.png", layer.numpy())
    layers = {f"layer_{name}": f"{joint.name}_layer_{name}.png" for name in LAYERS}
    known = {key: getattr(joint, key) for key in ("joint", "subject", "finger", "side")}
    known |= {"visit": str(visit), "split": split}
    truth = {"spacing_mm": f"{joint.spacing_mm:.6f}", "jsw_mm": f"{joint.jsw_mm:.4f}"}
    return {"image": f"{joint.name}.png", **names, **known, **truth, **layers}
