"""How alike two sets of radiographs look to an Inception network: FID and KID, on the features of pytorch-fid.

The network learnt photographs, in colour: the distances rank methods on one data set, and mean nothing beyond it. Its
weights are a file of the user's; nothing here reaches for the network.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from lsn_core.files import InputError, read_bytes
from lsn_core.results import RESAMPLES, interval
from lsn_core.shapes import Image, PerItem

CHUNK = 32  # images that the network sees at a time
SIZE = 299  # px of the frames that it resizes them to
FEATURES = 2048  # of an image; with fewer images the covariance of a set is singular and its FID too large
FEW = 8  # joints below which a KID has no interval
RIDGE = 1e-14  # share of the total variance that is added to each variance, for the root of a singular matrix
LEAST = 1e-100  # a spread below which all images are the same


def weights_file(weights: Path | None) -> Path:
    """The file of the network's weights: `weights`, or the one in torch's hub cache. Raises `InputError` without it."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    path = Path(weights or Path(torch.hub.get_dir()) / "checkpoints" / Path(FID_WEIGHTS_URL).name)
    if not path.is_file():
        address = "the address that FID_WEIGHTS_URL gives in pytorch_fid/inception.py"
        raise InputError(
            f"{path}: no such weights of Inception; download them once from {address}, and put them there or name "
            "the file with --inception"
        )
    return path


def features(images: Image, *, weights: Path | None = None, progress: bool = True) -> Float[Tensor, "b 2048"]:
    """What the last pooling of FID's Inception network tells of each image, on the images' device.

    Grey is repeated to three channels; pytorch-fid resizes to 299 px, bilinearly and without smoothing. Raises
    `InputError` where the weights are missing or are not this network's; they are never downloaded.
    """
    network = _network(weights_file(weights)).to(images.device)
    chunks = tqdm(images.split(CHUNK), desc="looking with Inception", unit="batch", disable=not progress)
    with torch.no_grad():
        return torch.cat([network(some.expand(-1, 3, -1, -1))[0].flatten(1) for some in chunks])


def _network(path: Path) -> nn.Module:
    """pytorch-fid's network with the weights of a file, where it would have downloaded them."""
    from pytorch_fid import inception

    try:
        state = torch.load(io.BytesIO(read_bytes(path)), map_location="cpu", weights_only=True)
        with (
            patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state),
            torch.random.fork_rng(devices=[]),
        ):
            return inception.InceptionV3().eval()
    except (pickle.UnpicklingError, EOFError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: not the weights of FID's Inception; download them again") from error


def fid(features_a: Float[Tensor, "a d"], features_b: Float[Tensor, "b d"]) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, by pytorch-fid; for two images or more each.

    Only the axes that the images span are looked at, in units of their spread and with a trace of variance on each:
    this leaves the distance as it is (to 1e-5 of the spread), is quick for small sets, and spares their singular
    covariances the complex roots that pytorch-fid stops at. Raises `InputError` for a set of one image.
    """
    from pytorch_fid.fid_score import calculate_frechet_distance

    _enough(len(features_a), len(features_b), "images")
    both = torch.cat((features_a, features_b)).cpu().double()
    spanned = torch.linalg.qr((both - both.mean(dim=0)).T, mode="r").R.T
    unit = float(spanned.square().sum(dim=1).mean().sqrt().clamp_min(LEAST))
    gaussians = [_gaussian(part.numpy()) for part in (spanned / unit).split([len(features_a), len(features_b)])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's about sqrtm(disp=...), and about a matrix that is nearly singular
        distance = calculate_frechet_distance(*gaussians[0], *gaussians[1])
    return max(float(distance) * unit**2, 0.0)


def _gaussian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of rows, its diagonal raised by `RIDGE`."""
    return x.mean(axis=0), np.cov(x, rowvar=False) + RIDGE * np.eye(x.shape[1])


def _enough(a: int, b: int, what: str) -> None:
    """Raise `InputError` unless both sets have two."""
    if min(a, b) < 2:
        raise InputError(f"sets of {a} and {b} {what} have no Inception distance; give two {what} or more of each")


def kid(
    features_a: Float[Tensor, "a d"],
    features_b: Float[Tensor, "b d"],
    *,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Kernel Inception distance: unbiased squared MMD with the kernel (x.y / d + 1)^3, and its 95 % interval.

    `mean` is the mean over all pairs, which Binkowski et al. (2018) estimate from random subsets. `sd`, `low` and
    `high` are of 1000 bootstrap samples of whole joints (`groups`, of each set's images; else every image is its own),
    and cover other joints of the same kind. A joint in both sets is drawn for both. Pairs of one joint count nowhere,
    neither in the estimate nor in a sample: an image beside its own copy, or its next visit, is more alike than its set
    is, which would make sets look further apart. Of simulated sets of 12 to 100 joints the intervals held the truth in
    88 to 100 %: where sets are alike they are half as wide again as need be. None below 8 joints. Raises `InputError`
    for a set of one joint.
    """
    a, b = (some.cpu().double() for some in (features_a, features_b))
    of_a, of_b = _numbered(groups, len(a), len(b))
    counts = [len(of.unique()) for of in (of_a, of_b)]
    _enough(*counts, "joints")
    draws = _draws(of_a, of_b, seed)
    within = _mean_kernel(a, a, of_a, of_a, draws) + _mean_kernel(b, b, of_b, of_b, draws)
    values = within - 2 * _mean_kernel(a, b, of_a, of_b, draws)
    spread = _spread(values[1:]) if min(counts) >= FEW else {"sd": None, "low": None, "high": None}
    return {"mean": float(values[0]), **spread, "n": [len(a), len(b)], "groups": counts}


def _numbered(groups: tuple[Sequence[str], Sequence[str]] | None, a: int, b: int) -> tuple[Tensor, Tensor]:
    """The joint of each image of two sets as a number; without `groups` all differ."""
    if groups is None:
        return torch.arange(a), torch.arange(a, a + b)
    _, index = np.unique([*groups[0], *groups[1]], return_inverse=True)
    of_a, of_b = torch.from_numpy(index).split([a, b])
    return of_a, of_b


def _draws(of_a: Int[Tensor, " a"], of_b: Int[Tensor, " b"], seed: int) -> Float[Tensor, "r g"]:
    """How often each joint is in a sample: once each in the first, then bootstrap samples.

    Joints of a alone, of b alone and of both are drawn among themselves, so that every sample has as many of each.
    """
    size = int(torch.cat((of_a, of_b)).max()) + 1
    kinds = sum(weight * of.bincount(minlength=size).sign() for weight, of in ((1, of_a), (2, of_b)))
    draws, random = torch.ones(RESAMPLES + 1, size, dtype=torch.float64), np.random.default_rng(seed)
    for kind in kinds.unique():
        (here,) = torch.where(kinds == kind)
        drawn = random.multinomial(len(here), np.full(len(here), 1 / len(here)), size=RESAMPLES)
        draws[1:, here] = torch.from_numpy(drawn).double()
    return draws


def _mean_kernel(
    x: Float[Tensor, "x d"],
    y: Float[Tensor, "y d"],
    of_x: Int[Tensor, " x"],
    of_y: Int[Tensor, " y"],
    draws: Float[Tensor, "r g"],
) -> Float[Tensor, " r"]:
    """The kernel's mean over the pairs of x and y that are of two joints, in each sample; NaN without such a pair."""
    size = draws.shape[1]
    kernel = (x @ y.T / x.shape[1] + 1) ** 3
    sums = kernel.new_zeros(size, len(y)).index_add(0, of_x, kernel)
    sums = kernel.new_zeros(size, size).index_add(1, of_y, sums)
    n_x, n_y = (of.bincount(minlength=size).double() for of in (of_x, of_y))
    total = ((draws @ sums) * draws).sum(dim=1) - draws.square() @ sums.diagonal()
    return total / ((draws @ n_x) * (draws @ n_y) - draws.square() @ (n_x * n_y))


def _spread(values: PerItem) -> dict[str, float]:
    """SD, 2.5 and 97.5 percentile of bootstrap samples; one whose images all are of one joint says nothing."""
    known = values[values.isfinite()]
    low, high = np.percentile(known.numpy(), [2.5, 97.5])
    return {"sd": float(known.std()), "low": float(low), "high": float(high)}


def inception_distances(
    images_a: Image,
    images_b: Float[Tensor, "n 1 h w"],
    *,
    weights: Path | None = None,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """FID and KID between two sets of radiographs, with what makes them quotable.

    "n" of each set; "resize", from and to which size; "weights", file, SHA-256 and whether it is the published one;
    "small", a warning where a set has fewer than 2,048 images, else None. `groups`, `seed`: see `kid`.
    """
    a, b = features(torch.cat((images_a, images_b)), weights=weights, progress=progress).split(
        [len(images_a), len(images_b)]
    )
    height, width = images_a.shape[-2:]
    return {
        "fid": fid(a, b),
        "kid": kid(a, b, groups=groups, seed=seed),
        "n": [len(a), len(b)],
        "resize": f"{height} x {width} px to {SIZE} x {SIZE} px, bilinear without smoothing, grey in three channels",
        "weights": _described(weights_file(weights)),
        "small": small(len(a), len(b)),
    }


def small(a: int, b: int) -> str | None:
    """What to say beside the FID of sets of `a` and `b` images; None where both have 2,048, as many as features."""
    if min(a, b) >= FEATURES:
        return None
    return f"FID is too large for fewer than {FEATURES:,} images (here {min(a, b):,}): compare only sets of equal size"


def _described(path: Path) -> dict[str, Any]:
    """A file of weights: name, SHA-256, and whether it begins as the name of the published file ends."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    digest = hashlib.sha256(read_bytes(path)).hexdigest()
    published = digest.startswith(Path(FID_WEIGHTS_URL).stem.rpartition("-")[2])
    return {"file": path.name, "sha256": digest, "published": published}


def report(found: dict[str, Any]) -> str:
    """Both distances in a line, and what to beware of."""
    kid_told = interval(found["kid"], "{:.2e}") if found["kid"]["low"] is not None else f"{found['kid']['mean']:.2e}"
    told = f"recomposed against radiographs: FID {found['fid']:.3g}, KID {kid_told}, {found['n'][0]} images each"
    return f"{told}\n{found['small']}" if found["small"] else told
