"""Can a classifier tell two data sets apart, and by what? A two-sample test on joints it has never seen.

Three classifiers see more and more: brightness only, all statistics (both logistic regressions, whose weights speak),
and the frames themselves (a small network). Both sets are split by joint, and a joint in both sets stays on one side.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from lsn_core.appearance import FRAME_REGIONS
from lsn_core.compare import Sample
from lsn_core.files import InputError
from lsn_core.masks import FRAME
from lsn_core.results import table

TESTED = 0.3  # share of the joints that are held out
MIN_JOINTS = 4  # held out of each set; fewer say nothing
PENALTY = 0.01  # on the squared weights of the logistic regression
EXTREME = 8.0  # SDs at which a standardised statistic is cut
CROP, STEPS, BATCH, RATE = 128, 400, 32, 2e-3  # px, training steps, crops a step, largest learning rate
WIDTHS = (16, 32, 48, 64, 64)  # channels of the network's layers, each halving the frame
LEGEND = """accuracy: share of unseen radiographs told right, one a joint, as many of A as of B; 0.5 is guessing.
[ ]: 95 % Wilson interval; p: of as many right by chance. B against B: the same on two disjoint halves of B's joints."""
View = Callable[[Tensor], Tensor]  # what a network is shown of crops

ATTENTION = "what the network looks at: share of its gradient, and that over the region's share of the pixels"


@dataclass(frozen=True)
class Halves:
    """Rows of one sample to learn from, and to be tested on: one a held-out joint."""

    train: np.ndarray
    test: np.ndarray


def split(a: Sample, b: Sample, *, seed: int) -> tuple[Halves, Halves]:
    """Hold out three joints in ten of both samples; of each held-out joint one radiograph is tested, as many of both.

    Raises `InputError` for samples with too few joints.
    """
    random = np.random.default_rng(seed)
    names = random.permutation(sorted(set(a.joints) | set(b.joints)))
    held = {name: i for i, name in enumerate(names[: round(TESTED * len(names))])}
    tests = [_one_each(sample.joints, held) for sample in (a, b)]
    count = min(map(len, tests))
    if count < MIN_JOINTS:
        sizes = " and ".join(str(len(set(sample.joints))) for sample in (a, b))
        raise InputError(f"{sizes} joints are too few for a two-sample test; give more, or add --no-classifier")
    trains = [np.flatnonzero([joint not in held for joint in sample.joints]) for sample in (a, b)]
    first, second = (Halves(train, test[:count]) for train, test in zip(trains, tests, strict=True))
    return first, second


def _one_each(joints: np.ndarray, held: dict[str, int]) -> np.ndarray:
    """The first row of every held-out joint, in the order in which they are held out."""
    _, first = np.unique(joints, return_index=True)
    return np.array(sorted((i for i in first if joints[i] in held), key=lambda i: held[joints[i]]), dtype=np.int64)


def two_sample(a: Sample, b: Sample, *, seed: int) -> dict[str, Any]:
    """Accuracy of the three classifiers on held-out joints, and what each looks at.

    Raises `InputError` for samples with too few joints.
    """
    first, second = split(a, b, seed=seed)
    statistics = [name for name in a.rows[0] if name not in ("name", "joint", "finger")]
    bright = [name for name in statistics if name.endswith(("_mean", "_sd")) or name == "air_share"]
    return {
        "joints": {
            "train": [len(set(s.joints[h.train])) for s, h in ((a, first), (b, second))],
            "test": len(first.test),
        },
        "brightness": _by_statistics(a, b, first, second, bright),
        "statistics": _by_statistics(a, b, first, second, statistics),
        "frames": _by_frames(a, b, first, second, seed=seed),
    }


def with_null(a: Sample, b: Sample, *, seed: int) -> dict[str, dict[str, Any]]:
    """The test of a against b, and of b against itself."""
    return {"A against B": two_sample(a, b, seed=seed), "B against B": null(b, seed=seed)}


def null(b: Sample, *, seed: int) -> dict[str, Any]:
    """The same test between two disjoint halves of one sample's joints: what it says of sets that are alike."""
    names = np.random.default_rng((seed, 1)).permutation(np.unique(b.joints))  # not in the order that `split` draws
    half = np.isin(b.joints, names[: len(names) // 2])
    return two_sample(b.take(np.flatnonzero(half)), b.take(np.flatnonzero(~half)), seed=seed)


def scored(right: Iterable[bool]) -> dict[str, float | int]:
    """Accuracy of independent answers, its Wilson interval, and the chance of as many right by guessing."""
    from scipy.stats import binomtest

    answers = list(right)
    judged = binomtest(int(sum(answers)), len(answers), alternative="greater")
    low, high = binomtest(int(sum(answers)), len(answers)).proportion_ci(method="wilson")
    return {"accuracy": judged.statistic, "low": float(low), "high": float(high), "p": judged.pvalue, "n": len(answers)}


def _by_statistics(a: Sample, b: Sample, first: Halves, second: Halves, names: list[str]) -> dict[str, Any]:
    """Logistic regression on standardised statistics; "weights" are its largest, positive for A."""
    logits, weights = statistics_logits(a, b, first, second, names)
    right = (logits > 0) == (torch.arange(len(logits)) < len(first.test))
    largest = weights[:-1].abs().argsort(descending=True)[:8].tolist()
    return scored(right.tolist()) | {"weights": {names[i]: float(weights[i]) for i in largest}}


def statistics_logits(a: Sample, b: Sample, first: Halves, second: Halves, names: list[str]) -> tuple[Tensor, Tensor]:
    """What a logistic regression says of the radiographs to be tested, those of A first, and its weights.

    Above 0 is A. Each statistic is standardised by those to learn from, the last weight is the offset.
    """
    train = [_columns(sample, half.train, names) for sample, half in ((a, first), (b, second))]
    test = [_columns(sample, half.test, names) for sample, half in ((a, first), (b, second))]
    everything = torch.cat(train)
    centre = torch.nanmean(everything, dim=0)
    scale = torch.nanmean((everything - centre) ** 2, dim=0).sqrt().clamp_min(1e-9)
    train, test = (
        [((x - centre) / scale).clamp(-EXTREME, EXTREME).nan_to_num(0.0) for x in part] for part in (train, test)
    )
    weights = _logistic(*train)
    return torch.cat([_logit(x, weights) for x in test]), weights


def _columns(sample: Sample, rows: np.ndarray, names: list[str]) -> Tensor:
    """Statistics (n, k) of some rows."""
    return torch.tensor([[sample.rows[i][name] for name in names] for i in rows], dtype=torch.float64)


def _logit(x: Tensor, weights: Tensor) -> Tensor:
    """Linear predictor (n,); the last weight is the offset."""
    return x @ weights[:-1] + weights[-1]


def _logistic(a: Tensor, b: Tensor) -> Tensor:
    """Weights (k + 1,) of a penalised logistic regression in which both sets weigh the same."""
    weights = torch.zeros(a.shape[1] + 1, dtype=a.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.softplus(-_logit(a, weights)).mean() + F.softplus(_logit(b, weights)).mean()
        loss = loss + PENALTY * (weights[:-1] ** 2).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weights.detach()


def _by_frames(a: Sample, b: Sample, first: Halves, second: Halves, *, seed: int) -> dict[str, Any]:
    """A network that judges 128 px crops at full resolution, averaged over a frame; and where it looks."""
    logits, gradients = frames_logits(a, b, first, second, seed=seed)
    regions = torch.cat((a.regions[first.test], b.regions[second.test]))
    is_a = torch.arange(len(logits)) < len(first.test)
    return scored(((logits > 0) == is_a).tolist()) | {"saliency": attention(gradients, regions)}


def frames_logits(
    a: Sample, b: Sample, first: Halves, second: Halves, *, seed: int, view: View | None = None
) -> tuple[Tensor, Tensor]:
    """What a network says of the frames to be tested, those of A first, and its gradient's size (n, 256, 256).

    `view` is how it is shown their crops, `contrast` by default.
    """
    generator, view = torch.Generator().manual_seed(seed), view or contrast
    network = _network(generator)
    _train(network, view, a.frames[first.train], b.frames[second.train], generator)
    return _judge(network, view, torch.cat((a.frames[first.test], b.frames[second.test])))


def _network(generator: torch.Generator) -> nn.Sequential:
    """A small convolutional network from crops (b, 1, 128, 128) to one logit each (b, 1).

    The first layer is not normalised, so that brightness is seen as well as shape.
    """
    layers: list[nn.Module] = []
    with torch.device("meta"):  # so that the layers' own start does not draw from the caller's random numbers
        for k, (inner, outer) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False)):
            norm = nn.GroupNorm(4, outer) if k else nn.Identity()
            layers += [nn.Conv2d(inner, outer, 5 if k == 0 else 3, stride=2, padding=1 + (k == 0)), norm, nn.SiLU()]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1))
    network = network.to_empty(device="cpu")
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4:
            nn.init.kaiming_normal_(parameter, generator=generator)
        else:
            nn.init.constant_(parameter, float(parameter.dim() == 1 and name.endswith("weight")))
    return network


def _train(network: nn.Module, view: View, a: Tensor, b: Tensor, generator: torch.Generator) -> None:
    """Train on random crops, half of every batch from each set."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    targets = (torch.arange(BATCH) < BATCH // 2).float()
    for _ in trange(STEPS, desc="training the classifier", unit="step"):
        crops = torch.cat((_crops(a, BATCH // 2, generator), _crops(b, BATCH // 2, generator)))
        loss = F.binary_cross_entropy_with_logits(network(view(crops))[:, 0], targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def contrast(crops: Tensor) -> Tensor:
    """Display values (b, 1, h, w) as the network takes them: about zero mean and unit spread over all radiographs."""
    return (crops - 0.4) * 6


def grain(crops: Tensor) -> Tensor:
    """What is left of crops when their mean over 5 px is taken away, about unit spread: else large shapes hide it."""
    return 40 * (crops - F.avg_pool2d(F.pad(crops, (2,) * 4, mode="replicate"), 5, stride=1))


def _crops(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random crops (count, 1, 128, 128) of random frames, float32."""
    index = torch.randint(len(frames), (count,), generator=generator).tolist()
    corners = torch.randint(FRAME - CROP + 1, (count, 2), generator=generator).tolist()
    chosen = zip(index, corners, strict=True)
    return torch.stack([frames[i, :, y : y + CROP, x : x + CROP] for i, (y, x) in chosen]).float()


def _judge(network: nn.Module, view: View, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean logit (n,) over nine overlapping crops of every frame, and its gradient's size at every pixel (n, h, w)."""
    starts = range(0, FRAME - CROP + 1, CROP // 2)
    logits, gradients = [], []
    for frame in frames:
        pixels = frame.float().requires_grad_()
        crops = torch.stack([pixels[:, y : y + CROP, x : x + CROP] for y in starts for x in starts])
        answers = network(view(crops))[:, 0]
        (gradient,) = torch.autograd.grad(answers.sum(), pixels)
        logits.append(answers.detach().mean())
        gradients.append(gradient[0].abs())
    return torch.stack(logits), torch.stack(gradients) / _coverage(starts)


def _coverage(starts: range) -> Tensor:
    """How many of the nine crops hold each pixel, (h, w)."""
    along = torch.zeros(FRAME)
    for start in starts:
        along[start : start + CROP] += 1
    return along[:, None] * along


def attention(gradients: Tensor, regions: Tensor) -> dict[str, dict[str, float]]:
    """Share of the gradient in each region of the frames, and that over the region's share of the pixels."""
    found = {}
    for k, name in enumerate(FRAME_REGIONS):
        here = regions == k
        share = float(gradients[here].sum() / gradients.sum().clamp_min(1e-30))
        area = float(here.double().mean())
        found[name] = {"share": share, "per_area": share / area if area else 0.0}
    return found


def report(tests: dict[str, dict[str, Any]]) -> str:
    """Accuracies as a table: one row a classifier, one column a test; below it what those of the first test see."""
    rows = [["accuracy on unseen joints", *tests]]
    for key, heading in (("brightness", "brightness only"), ("statistics", "all statistics"), ("frames", "frames")):
        rows.append([heading, *(_accuracy(test[key]) for test in tests.values())])
    said = next(iter(tests.values()))
    weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in said["statistics"]["weights"].items())
    looks = [f"{k} {100 * v['share']:.0f} % (x{v['per_area']:.1f})" for k, v in said["frames"]["saliency"].items()]
    return f"{table(rows)}\n{LEGEND}\nlargest weights, + for A: {weights}\n{ATTENTION}:\n  {', '.join(looks)}"


def _accuracy(one: dict[str, Any]) -> str:
    """An accuracy with its interval and p in one cell."""
    return f"{one['accuracy']:.2f} [{one['low']:.2f}, {one['high']:.2f}] p {one['p']:.2g}"
