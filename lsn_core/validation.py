"""What a training is watched and its generator chosen by: fixed numbers on held-out joints, none of which plays."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from lsn_core import losses
from lsn_core.batch import Batch
from lsn_core.config import Config
from lsn_core.metrics import masked_mse, psnr, shadow_contrast
from lsn_core.radiograph import compose
from lsn_core.scene import Scene, Sources, draw, show
from lsn_core.stage import Stage

CHUNK = 32
CRITERION = ("rmse", "shadow", "bones", "truth")  # what a generator is chosen by: the sum of those that there are


@torch.no_grad()
def validate(generator: nn.Module, watch: Sources, config: Config) -> dict[str, float]:
    """Means over the images of `watch`, without a number that no image has; the generator's mode stays.

    `rmse` and `psnr_db` of the recomposed radiograph in the hand, and absolute `shadow` contrast at the bones' contour;
    `bones` (L3) on pseudo-images, the same each time; `truth` (mean absolute error of the layers) on phantoms.
    `criterion` is their sum without the PSNR; lower is better.
    """
    generator = getattr(generator, "module", generator)
    trained = generator.training
    generator.eval()
    found: dict[str, list[Tensor]] = {}
    for values in _values(generator, watch, config):
        for name, value in values.items():
            found.setdefault(name, []).append(value.reshape(-1))
    generator.train(trained)
    means = {name: float(torch.cat(values).nanmean()) for name, values in found.items()}
    known = {name: mean for name, mean in means.items() if math.isfinite(mean)}
    return known | {"criterion": sum(known.get(name, 0.0) for name in CRITERION)}


def _values(generator: nn.Module, watch: Sources, config: Config) -> Iterator[dict[str, Tensor]]:
    """Numbers of each radiograph, pseudo-image and phantom."""
    for batch in _chunks(watch.radiographs):
        layers = generator(batch.image, batch.masks)
        squares = masked_mse(compose(layers), batch.image, batch.masks[:, :1])
        shadow = shadow_contrast(layers[:, :1], batch.masks).abs()
        yield {"rmse": squares.sqrt(), "psnr_db": psnr(squares), "shadow": shadow}
    for scene in _pushed(watch, config):
        layers = generator(scene.image, scene.masks)
        for i in range(len(layers)):
            one = slice(i, i + 1)
            yield {"bones": losses.bone_reconstruction(layers[one], scene.alone[one], scene.masks[one])}
    for batch in _chunks(watch.phantoms):
        layers = generator(batch.image, batch.masks)
        for i in range(len(layers)):
            one = slice(i, i + 1)
            yield {"truth": losses.layer_error(layers[one], batch.layers[one], batch.masks[one])}


def _pushed(watch: Sources, config: Config) -> Iterator[Scene]:
    """Pseudo-images of all radiographs whose bones are apart, in chunks."""
    count = len(watch.apart)
    if count:
        stage = Stage("held out", epochs=1, joints="apart")
        drawn = draw(watch, stage, replace(config, mirror=0.0), count, 0, 0)
        parts = math.ceil(count / CHUNK)
        yield from (show(watch, drawn.part(k, parts)) for k in range(parts))


def _chunks(batch: Batch | None) -> Iterator[Batch]:
    """A few images at a time."""
    for i in range(0, len(batch) if batch else 0, CHUNK):
        yield batch.take(slice(i, i + CHUNK))
