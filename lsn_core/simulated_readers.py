"""Simulated readers, for runs that must show a reader study without people: nothing here has looked at an image.

Signal detection with equal variances: an image brings evidence that it is synthetic, normal about -d'/2 for real and
+d'/2 for synthetic ones with unit variance, and a reader says "synthetic" where it exceeds his criterion.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from lsn_core.readings import REAL, SIMULATED, SYNTHETIC, Key, Reading

STEP = 0.4  # SDs from the criterion that make a reader surer by one of the five confidences
TYPICAL_SECONDS, SPREAD_SECONDS = 8.0, 0.5  # median of the log-normal times, and the SD of their logarithm
BEGIN = datetime(2000, 1, 1, tzinfo=UTC)  # when all simulated readers sat down: long before the paper


@dataclass(frozen=True)
class Observer:
    """How well one simulated reader sees, and to which answer he leans."""

    d_prime: float  # distance of synthetic from real images, in SDs of the evidence; 0 guesses
    criterion: float = 0.0  # SDs from the middle between both; above 0 leans to "real"


PANEL = (Observer(1.2), Observer(0.9, 0.2), Observer(0.6, -0.2), Observer(0.3, 0.1), Observer(0.0, -0.1))


def simulated_readings(key: Key, observers: Sequence[Observer], *, seed: int, shared: float = 0.3) -> list[Reading]:
    """Readings of the whole set by each observer, in his own order, named "simulated 1" and so on.

    `shared`, in [0, 1], is the part of the evidence's variance that lies in the image and is the same for all readers:
    some images fool everybody. The caller writes them, by `readings.csv_text`.
    """
    dice = np.random.default_rng(seed)
    common = math.sqrt(shared) * dice.standard_normal(len(key.truth))
    found: list[Reading] = []
    for k, observer in enumerate(observers, start=1):
        own = math.sqrt(1 - shared) * dice.standard_normal(len(key.truth))
        found += _readings_of(key, f"{SIMULATED} {k}", observer, common + own, dice)
    return found


def _readings_of(
    key: Key, name: str, observer: Observer, noise: np.ndarray, dice: np.random.Generator
) -> Iterator[Reading]:
    """One observer's readings, given the noise (images,) of his evidence."""
    images, now = list(key.truth), BEGIN
    for position, k in enumerate(dice.permutation(len(images))):
        side = 0.5 if key.truth[images[k]] == SYNTHETIC else -0.5
        answer, confidence = answer_to(side * observer.d_prime + noise[k], observer.criterion)
        seconds = round(float(dice.lognormal(math.log(TYPICAL_SECONDS), SPREAD_SECONDS)), 2)
        now += timedelta(seconds=seconds)
        when = now.isoformat(timespec="seconds")
        yield Reading(key.sha256, name, position, images[k], answer, confidence, seconds, when)


def answer_to(evidence: float, criterion: float) -> tuple[str, int]:
    """Answer and confidence: 1 within 0.4 SD of the criterion, one more for each 0.4 SD beyond, at most 5."""
    distance = evidence - criterion
    return SYNTHETIC if distance > 0 else REAL, min(5, 1 + int(abs(distance) / STEP))
