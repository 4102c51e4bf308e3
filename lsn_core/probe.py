"""Does a soft-tissue layer give the bones away? A fresh network is trained to find them in it, on other joints.

What it finds above what the bones' usual place tells is the excess AUC: 0 for soft tissue that betrays nothing, as on
the truth of phantoms; the hand's outline, which every layer shows, tells next to nothing.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import trange

from lsn_core.detector import blurred
from lsn_core.masks import bones
from lsn_core.networks import compact_networks
from lsn_core.results import interval, table
from lsn_core.shapes import Image, Masks, PerItem

SIZE, STEPS = 128, 300  # px of the frames that a probe sees, and steps of its training
BATCH, RATE, DECAY = 12, 2e-3, 0.01  # images a step, largest learning rate, weight decay
AROUND = 4.0  # px of a probe's frame: SD of the mean around a pixel
LEAST = 0.01  # share of bone at a place below which, and above whose complement, nothing is surer
CHUNK = 32  # images judged at a time
COLUMNS = {"probe": "probe's AUC", "prior": "by place alone", "excess": "excess AUC"}
CANDIDATES = {  # what a probe may be shown: how tables call it
    "layer": "soft-tissue layer",
    "image": "the radiograph itself",
    "fill": "harmonic fill",
    "truth": "true soft tissue",
    "outline": "the hand's outline alone",
}
LEGEND = """A fresh network learns on other joints to find the bones in each; AUC over the hand's pixels of an image:
mean [95 % interval, over joints]. By place alone: where bones lie on average. Excess: the probe's AUC less that.
It finds every trace, not only bright shadows, and does not tell which."""


def at_size(planes: Tensor, size: int) -> Tensor:
    """Planes (b, c, h, w) averaged into frames of `size` px."""
    return F.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)


def probe_auc(
    train_soft: Image,
    train_masks: Masks,
    test_soft: Float[Tensor, "t 1 h w"],
    test_masks: Float[Tensor, "t 3 h w"],
    *,
    size: int,
    steps: int,
    seed: int,
) -> dict[str, Float[Tensor, " t"]]:
    """How well a probe that learnt on some joints' soft tissue finds the bones, masks as drawn, in that of others.

    For each test image the AUC over the hand's pixels: "probe"; "prior", of the training masks' mean at each pixel; and
    "excess", the difference. NaN without bone or without anything else in the hand. With a progress bar; the same
    `seed` starts the same probe and shows it the same joints in the same order, whatever it is shown of them.
    """
    train_soft, test_soft = (at_size(soft, size) for soft in (train_soft, test_soft))
    train_masks, test_masks = ((at_size(masks, size) >= 0.5).to(masks.dtype) for masks in (train_masks, test_masks))
    usual = bones(train_masks).mean(dim=0, keepdim=True)
    learnt, tested = _seen(train_soft, train_masks[:, :1]), _seen(test_soft, test_masks[:, :1])
    spread, centre = torch.std_mean(learnt, dim=(0, 2, 3), keepdim=True)
    learnt, tested = (
        ((planes - centre) / spread.clamp_min(1e-6)).sum(dim=1, keepdim=True) for planes in (learnt, tested)
    )
    probe = train_probe(learnt, train_masks, _log_odds(usual), steps=steps, seed=seed)
    judged = _judged(probe, tested) + _log_odds(usual)
    found, prior = (
        auc(scores, bones(test_masks), test_masks[:, :1]) for scores in (judged, usual.expand_as(test_soft))
    )
    return {"probe": found, "prior": prior, "excess": found - prior}


def _seen(soft: Image, hand: Image) -> Float[Tensor, "b 2 h w"]:
    """A layer, and its difference from its mean around, in the hand: a probe learns faint contours sooner from both."""
    around = blurred(soft * hand, AROUND) / blurred(hand, AROUND).clamp_min(1e-3)
    return torch.cat((soft, (soft - around) * hand), dim=1)


def _log_odds(share: Image) -> Image:
    """Log odds of a share, kept finite where it is 0 or 1."""
    return torch.logit(share, eps=LEAST)


def train_probe(soft: Image, masks: Masks, place: Float[Tensor, "1 1 h w"], *, steps: int, seed: int) -> nn.Module:
    """The compact N_D, fresh, trained to tell bone from the rest of the hand; half of the images mirrored.

    Its logits are added to those of the `place`, so that it only has to learn what the layers add to them.
    """
    probe = _fresh(soft.shape[-1], seed).to(soft.device)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in trange(steps, desc="training a probe", unit="step"):
        index = torch.randint(len(soft), (BATCH,), generator=generator).to(soft.device)
        mirrored = torch.rand(BATCH, generator=generator) < 0.5
        planes = soft[index], masks[index], place.expand(BATCH, -1, -1, -1)
        shown, truth, usual = (_mirror(plane, mirrored) for plane in planes)
        hand = truth[:, :1]
        loss = F.binary_cross_entropy_with_logits(probe(shown) + usual, bones(truth), hand, reduction="sum")
        optimiser.zero_grad()
        (loss / hand.sum()).backward()
        optimiser.step()
        schedule.step()
    return probe.eval()


def _fresh(size: int, seed: int) -> nn.Module:
    """An untrained compact N_D, started from `seed` without touching the caller's random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        return compact_networks("partition", size).discriminator


def _mirror(planes: Tensor, which: Tensor) -> Tensor:
    """Planes (b, c, h, w), those of `which` (b,) bool mirrored left to right."""
    return torch.where(which.to(planes.device)[:, None, None, None], planes.flip(-1), planes)


@torch.no_grad()
def _judged(probe: nn.Module, soft: Image) -> Image:
    """Logit of bone at every pixel."""
    return torch.cat([probe(some).float() for some in soft.split(CHUNK)])


def auc(scores: Image, positive: Image, where: Image) -> PerItem:
    """Area under the ROC curve over each image's pixels in `where`: by ranks, exact, ties counted as one half.

    It is the chance that a positive pixel scores above another one. NaN where there are none of either.
    """
    triples = zip(scores, positive > 0, where > 0, strict=True)
    return torch.stack([_auc(score[here], label[here]) for score, label, here in triples]).to(scores.dtype)


def _auc(scores: Tensor, positive: Tensor) -> Tensor:
    """The area of one image's pixels, both (n,): the Mann-Whitney U over the number of pairs, in double precision."""
    _, group, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2.0).double()[group]  # mean rank of each group of ties, from 1
    first = positive.double().sum()
    return (ranks[positive].sum() - first * (first + 1) / 2) / (first * (len(scores) - first))


def probe_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """One row for each candidate: the AUCs with their intervals."""
    rows = [["looked for bones in", "n", *COLUMNS.values()]]
    for name, found in summaries.items():
        rows.append([CANDIDATES[name], str(found["excess"]["n"]), *(interval(found[key], "{:.4f}") for key in COLUMNS)])
    return table(rows)


def report(summaries: Mapping[str, Mapping[str, Any]], data: str) -> str:
    """The table, of which data it is, and what its columns are."""
    return f"bones found by a probe, in {data}:\n{probe_table(summaries)}\n{LEGEND}"
