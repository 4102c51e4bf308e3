"""How fast is a step of training, beside a plain loop of the same step, and where does its time go?

python benchmarks/training.py [--threads N] [--rounds N] [--cases NETWORKS:PX:BATCH ...] [--peak TFLOPS] [--out JSON]

The step is one of stage 1 after N_D has joined: all terms, both critics. The plain loop makes the same step from the
same numbers in float32, but reads its images' files anew each time, keeps the usual order of memory (the compact
networks choose theirs themselves) and asks the generator again for every term of its loss and for N_D. Each case runs
in a process of its own, so that its peak of memory is its own.
"""

import argparse
import resource
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from lsn_core import losses, training
from lsn_core.batch import stack
from lsn_core.config import Config
from lsn_core.data import open_dataset
from lsn_core.dataset import JointDataset
from lsn_core.export import write_phantoms
from lsn_core.results import table, write_metrics
from lsn_core.scene import Sources, show, sources
from lsn_core.stage import PAPER, Weights
from lsn_core.training import Players, bare, discriminator_step, generator_terms, plan, segmenter_step, thaw

CASES = ("compact:128:12", "compact:256:12", "paper:256:12" if torch.cuda.is_available() else "paper:256:2")
TERMS = ("reconstruction", "supervision", "bone_reconstruction", "soft_tissue_bounded", "discrimination")
COLUMNS = ("s a step", "images/s", "plain s", "times plain", "GB", "GFLOP", "GFLOP/s", "of a matrix product's")


def plain_step(
    fabric: Fabric, players: Players, having: Sources, files: JointDataset, config: Config, step: int
) -> dict[str, torch.Tensor]:
    """The step as one would write it first; returns the generator's terms."""
    moment, drawn = plan(having, config, step)
    batch = stack([files[i] for i in drawn.joint.tolist()], size=config.size, dilate_px=config.dilate_px)
    read = Sources(batch.to(fabric.device), None, having.apart)
    scene = show(read, replace(drawn, joint=torch.arange(len(batch))))
    nets, weights, terms = players.networks, moment.weights, {}
    thaw(nets.generator)
    for name in ("reconstruction", "supervision", "bones"):
        alone = replace(moment.stage, before=Weights(**{name: getattr(weights, name)}), switch=moment.epoch + 1)
        layers = nets.generator(scene.image, scene.masks)
        told = generator_terms(fabric, nets, scene, layers, drawn.shifts, replace(moment, stage=alone))
        terms[name] = dict(told)[name]
    layers = nets.generator(scene.image, scene.masks)
    told = training.ask(fabric, nets.discriminator, layers[:, :1])
    terms["softness"] = losses.SOFT_TISSUE[config.soft_tissue](told, scene.masks)
    training.update(fabric, players.generator, losses.generator_loss(terms, weights))
    segmenter_step(fabric, players, scene, originals=True)
    with torch.no_grad():
        layers = nets.generator(scene.image, scene.masks)
    discriminator_step(fabric, players, scene, layers)
    return terms


def wait() -> None:
    """Until the accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[int], object], rounds: int) -> float:
    """Median of some calls, after one that warms up."""
    spent = []
    for step in range(rounds + 1):
        begun = perf_counter()
        work(step)
        wait()
        spent.append(perf_counter() - begun)
    return median(spent[1:])


@contextmanager
def clocked(fabric: Fabric, players: Players) -> Iterator[dict[str, float]]:
    """Seconds of `training.train_step` by part; those of a part within another count for the inner one alone."""
    spent: dict[str, float] = defaultdict(float)
    running, since = ["the rest"], [perf_counter()]

    def switch() -> None:
        wait()
        now = perf_counter()
        spent[running[-1]] += now - since[0]
        since[0] = now

    def timed(part: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            switch()
            running.append(part)
            result = function(*arguments, **named)
            switch()
            running.pop()
            return result

        return call

    nets = {name: bare(network) for name, network in players.modules().items()}
    watched = [(losses, name, "losses") for name in TERMS]
    watched += [(network, "forward", f"{name} forward") for name, network in nets.items()]
    watched += [(training, "show", "pseudo-images"), (training, "move", "shifts")]
    watched += [(fabric, "backward", "backward"), (training, "update", "optimisers")]
    with ExitStack() as patches:
        for owner, name, part in watched:
            patches.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        patches.enter_context(patch.dict(losses.SOFT_TISSUE, bounded=losses.soft_tissue_bounded))
        yield spent
        switch()


def product_speed(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a large matrix product."""
    a = torch.ones(8192 if device.type == "cuda" else 1536, 4096, dtype=dtype, device=device)
    return 2 * a.shape[0] ** 2 * 4096 / seconds(lambda _: a @ a.T, 5)


def prepare(case: str, folder: Path) -> tuple[Config, JointDataset, Sources]:
    """The settings of a case, its phantoms as files, and as tensors."""
    networks, size, batch = case.split(":")
    stage = replace(PAPER[0], joints="all", switch=0)
    config = Config(networks, "partition", "bounded", size=int(size), batch=int(batch), stages=(stage,), dilate_px=4.0)
    manifest = write_phantoms(folder / "phantoms", count=2 * config.batch, size=config.size, seed=0)
    files = open_dataset(manifest.parent, split="all")
    return config, files, sources(stack(files, size=config.size, dilate_px=config.dilate_px), None)


def measure_ours(config: Config, having: Sources, rounds: int, peak: float) -> dict[str, Any]:
    """The package's step: its time, its memory, and what it is made of."""
    precision, on_gpu = training.precision(config), torch.cuda.is_available()
    fabric = training.make_fabric(config, devices=1)
    players = training.set_up(fabric, config)
    step = partial(training.train_step, fabric, players, having.to(fabric.device), config)
    spent = seconds(step, rounds)
    memory = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FlopCounterMode(display=False) as counter:
        step(0)
    with clocked(fabric, players) as parts:
        step(0)
    speed = peak or product_speed(torch.float32 if precision == "32-true" else torch.bfloat16, fabric.device)
    flops = counter.get_total_flops()
    return {
        "precision": precision,
        "seconds": spent,
        "images_per_second": config.batch / spent,
        "gigabytes": memory / 1e9,
        "gflop": flops / 1e9,
        "gflop_per_second": flops / 1e9 / spent,
        "utilisation": flops / spent / speed,
        "parts": {part: time / sum(parts.values()) for part, time in parts.items()},
    }


def measure(case: str, threads: int, rounds: int, peak: float) -> dict[str, Any]:
    """All numbers of one case."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        config, files, having = prepare(case, Path(folder))
        found = measure_ours(config, having, rounds, peak)
        fabric = Fabric(devices=1, precision="32-true")
        players, having = training.set_up(fabric, config), having.to(fabric.device)
        for network in players.modules().values():
            network.to(memory_format=torch.contiguous_format)
        plain = seconds(partial(plain_step, fabric, players, having, files, config), rounds)
    return found | {"plain_seconds": plain, "times_plain": plain / found["seconds"]}


def line(found: dict[str, Any]) -> list[str]:
    """One case in the first table."""
    names = ("seconds", "images_per_second", "plain_seconds", "times_plain", "gigabytes", "gflop", "gflop_per_second")
    return [*(f"{found[name]:.3g}" for name in names), f"{found['utilisation']:.0%}"]


def main() -> None:
    """Measure the cases, print two tables, and write the numbers where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5, help="steps of which the median is taken")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="NETWORKS:PX:BATCH")
    parser.add_argument("--peak", type=float, default=0.0, help="TFLOP/s of the card; else a matrix product is timed")
    parser.add_argument("--out", type=Path, help="where to write the numbers, with their provenance")
    given = parser.parse_args()
    found = {}
    for case in given.cases:
        with get_context("spawn").Pool(1) as alone:
            found[case] = alone.apply(measure, (case, given.threads, given.rounds, 1e12 * given.peak))
    print(f"{given.threads} threads, {' and '.join({each['precision'] for each in found.values()})}; plain in float32")
    print(table([["networks:px:batch", *COLUMNS], *([case, *line(each)] for case, each in found.items())]))
    parts = sorted({part for each in found.values() for part in each["parts"]})
    shares = [[part, *(f"{each['parts'].get(part, 0):.0%}" for each in found.values())] for part in parts]
    print(table([["share of a step", *found], *shares]))
    if given.out:
        write_metrics(given.out, found, kind="benchmark", threads=given.threads)


if __name__ == "__main__":
    main()
