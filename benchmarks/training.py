"""How fast is a step of training, beside a plain loop of the same step, and where does its time go?

python benchmarks/training.py [--threads N] [--rounds N] [--cases NETWORKS:PX:BATCH ...] [--peak TFLOPS] [--out OUT.json]

The step is one of stage 1 after N_D has joined: all four terms, both critics. The plain loop makes the same step from
the same numbers in float32, but reads its images' files anew each time, keeps the usual order of memory (the compact
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
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from lsn_core import losses, training
from lsn_core.batch import stack
from lsn_core.config import Config
from lsn_core.data import open_dataset
from lsn_core.dataset import JointDataset
from lsn_core.export import write_phantoms
from lsn_core.radiograph import compose
from lsn_core.results import table, write_metrics
from lsn_core.scene import Sources, show, sources
from lsn_core.stage import PAPER
from lsn_core.training import Players, ask, bare, discriminator_step, move, plan, segmenter_step, thaw

CASES = ("compact:128:12", "compact:256:12", "paper:256:12" if torch.cuda.is_available() else "paper:256:2")
SOFT_TISSUE = losses.soft_tissue_bounded
TERMS = ("reconstruction", "supervision", "bone_reconstruction", "soft_tissue_bounded", "discrimination")
PRODUCTS = ("convolution", "conv2d", "mm", "attention")  # in the names of the operations that are arithmetic
Step = Callable[[int], object]


def plain_step(
    fabric: Fabric, players: Players, having: Sources, files: JointDataset, config: Config, step: int
) -> dict[str, torch.Tensor]:
    """The step as one would write it first; returns the generator's terms."""
    moment, drawn = plan(having, config, step)
    batch = stack([files[i] for i in drawn.joint.tolist()], size=config.size, dilate_px=config.dilate_px)
    read = Sources(batch.to(fabric.device), None, having.apart)
    scene = show(read, replace(drawn, joint=torch.arange(len(batch))))
    nets, image, masks = players.networks, scene.image, scene.masks
    known = masks * scene.alone_known

    def supervision(layers: torch.Tensor) -> torch.Tensor:
        moved, where = move(layers, masks, *drawn.shifts[0])
        return losses.supervision(ask(fabric, nets.segmenter, moved), where)

    terms = {
        "reconstruction": lambda layers: losses.reconstruction(compose(layers), image, masks),
        "supervision": supervision,
        "bones": lambda layers: losses.bone_reconstruction(layers, scene.alone, known),
        "softness": lambda layers: SOFT_TISSUE(ask(fabric, nets.discriminator, layers[:, :1]), masks),
    }
    thaw(nets.generator)
    players.generator.zero_grad()
    values = {name: term(nets.generator(image, masks)) for name, term in terms.items()}
    fabric.backward(losses.generator_loss(values, moment.weights))
    players.generator.step()
    segmenter_step(fabric, players, scene, originals=True)
    with torch.no_grad():
        layers = nets.generator(image, masks)
    discriminator_step(fabric, players, scene, layers)
    return values


def wait() -> None:
    """Until the accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Step, rounds: int) -> float:
    """Median of some calls, after one that warms up."""
    spent = []
    for step in range(rounds + 1):
        begun = perf_counter()
        work(step)
        wait()
        spent.append(perf_counter() - begun)
    return median(spent[1:])


class Clock:
    """Time by part; that of a part within another counts for the inner one alone."""

    def __init__(self) -> None:
        """Starts now."""
        self.spent: dict[str, float] = defaultdict(float)
        self.parts, self.since = ["the rest"], perf_counter()

    def switch(self) -> None:
        """Count the time since the last switch for the part that ran."""
        wait()
        now = perf_counter()
        self.spent[self.parts[-1]] += now - self.since
        self.since = now

    def timed(self, part: str, function: Callable[..., object]) -> Callable[..., object]:
        """A function whose time counts for a part."""

        def call(*arguments: object, **named: object) -> object:
            self.switch()
            self.parts.append(part)
            try:
                return function(*arguments, **named)
            finally:
                self.switch()
                self.parts.pop()

        return call


@contextmanager
def clocked(fabric: Fabric, players: Players) -> Iterator[Clock]:
    """Watch the parts of `training.train_step`."""
    clock = Clock()
    nets = {name: bare(network) for name, network in players.modules().items()}
    watched = [(losses, name, "losses") for name in TERMS] + [
        (training, "show", "pseudo-images"),
        (training, "move", "shifts"),
        (nets["generator"], "forward", "G forward"),
        (nets["segmenter"], "forward", "critics forward"),
        (nets["discriminator"], "forward", "critics forward"),
        (fabric, "backward", "backward"),
        (training, "update", "optimisers"),
    ]
    with ExitStack() as patches:
        for owner, name, part in watched:
            patches.enter_context(patch.object(owner, name, clock.timed(part, getattr(owner, name))))
        patches.enter_context(patch.dict(losses.SOFT_TISSUE, bounded=losses.soft_tissue_bounded))
        yield clock
        clock.switch()


def product_speed(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a large matrix product."""
    a = torch.ones(4096 if device.type == "cuda" else 1536, 4096, dtype=dtype, device=device)
    return 2 * a.shape[0] ** 2 * 4096 / seconds(lambda _: a @ a.T, 5)


def share_of_products(work: Step) -> float:
    """Share of a step's operations, by their time, that multiply: the rest moves memory."""
    on_gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as profiler:
        work(0)
    times = {e.key: e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in profiler.key_averages()}
    return sum(time for key, time in times.items() if any(name in key for name in PRODUCTS)) / sum(times.values())


def peak_memory() -> int:
    """Bytes: of the accelerator, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
    precision = training.precision(config)
    fabric = Fabric(devices=1, precision=precision)
    players = training.set_up(fabric, config)
    step = partial(training.train_step, fabric, players, having.to(fabric.device), config)
    spent, memory = seconds(step, rounds), peak_memory()
    with FlopCounterMode(display=False) as counter:
        step(0)
    with clocked(fabric, players) as clock:
        step(0)
    speed = peak or product_speed(torch.float32 if precision == "32-true" else torch.bfloat16, fabric.device)
    flops, total = counter.get_total_flops(), sum(clock.spent.values())
    return {
        "precision": precision,
        "seconds": spent,
        "images_per_second": config.batch / spent,
        "peak_bytes": memory,
        "flops": flops,
        "flops_per_second_at_best": speed,
        "utilisation": flops / spent / speed,
        "products": share_of_products(step),
        "parts": {part: time / total for part, time in clock.spent.items()},
    }


def measure_plain(config: Config, files: JointDataset, having: Sources, rounds: int) -> float:
    """Seconds of a plain step."""
    fabric = Fabric(devices=1, precision="32-true")
    players = training.set_up(fabric, config)
    for network in players.modules().values():
        network.to(memory_format=torch.contiguous_format)
    return seconds(partial(plain_step, fabric, players, having, files, config), rounds)


def measure(case: str, threads: int, rounds: int, peak: float) -> dict[str, Any]:
    """All numbers of one case."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        config, files, having = prepare(case, Path(folder))
        ours = measure_ours(config, having, rounds, peak)
        plain = measure_plain(config, files, having, rounds)
    return ours | {"plain_seconds": plain, "times_plain": plain / ours["seconds"]}


def main() -> None:
    """Measure the cases, print two tables, and write the numbers where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5, help="steps of which the median is taken")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="NETWORKS:PX:BATCH")
    parser.add_argument("--peak", type=float, default=0.0, help="TFLOP/s of the card; else a matrix product is timed")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {}
    for case in given.cases:
        with get_context("spawn").Pool(1) as alone:
            found[case] = alone.apply(measure, (case, given.threads, given.rounds, 1e12 * given.peak))
    print(f"{given.threads} threads, {' and '.join(sorted({f['precision'] for f in found.values()}))}, phantoms")
    print(table([["networks:px:batch", *COLUMNS], *([case, *cells(f)] for case, f in found.items())]))
    parts = sorted({part for f in found.values() for part in f["parts"]})
    print(
        table(
            [
                ["share of a step", *parts],
                *([c, *(percent(f["parts"].get(p, 0)) for p in parts)] for c, f in found.items()),
            ]
        )
    )
    if given.out:
        write_metrics(given.out, found, kind="benchmark", threads=given.threads)


COLUMNS = ("s a step", "images/s", "plain s", "times plain", "GB", "GFLOP", "of the best FLOP/s", "in products")


def cells(found: dict[str, Any]) -> list[str]:
    """One case's line of the first table."""
    return [
        f"{found['seconds']:.2f}",
        f"{found['images_per_second']:.1f}",
        f"{found['plain_seconds']:.2f}",
        f"{found['times_plain']:.1f}",
        f"{found['peak_bytes'] / 1e9:.1f}",
        f"{found['flops'] / 1e9:.0f}",
        percent(found["utilisation"]),
        percent(found["products"]),
    ]


def percent(share: float) -> str:
    """A share as text."""
    return f"{100 * share:.0f} %"


if __name__ == "__main__":
    main()
