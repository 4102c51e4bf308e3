"""Registration by two classical methods that learn nothing: phase correlation, and intensities (SimpleITK).

Both register each bone by itself, inside its mask in the fixed image, and leave out what it shares with the other one.
Their libraries come with the extra `test`. Both raise `ValueError` where a bone has no mask.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lsn_core.detector import blurred
from lsn_core.masks import at_256, grow
from lsn_core.registration import Transforms, warped
from lsn_core.shapes import Bones, Image

if TYPE_CHECKING:
    import SimpleITK

GROW_PX, SOFT_PX = 4.0, 3.0  # at 256: by which masks are widened over the blurred edge, and sigma of a window's edge
UPSAMPLE, ROUNDS = 50, 4  # steps to a px of phase correlation; how often it starts again from what it found
SHRINK, SMOOTH_PX = (2, 1), (1.0, 0.0)  # of SimpleITK's levels, from coarse to fine
STEP_PX, LEAST_STEP_PX, ITERATIONS = 1.0, 1e-4, 200  # of its gradient descent, at each level

Plane = Float[np.ndarray, "h w"]


def by_phase_correlation(moving: Image, fixed: Image, bones: Bones) -> Transforms:
    """Move each bone until it lies as in the fixed image; translation only (Guizar-Sicairos et al. 2008, scikit-image).

    The fixed bone's window cuts the moving image as well, so the moving image is warped and registered again. Spectra
    keep their amplitudes: phase alone is as good for bones that only move, and twice as far off where they turn.
    """
    window = windows(bones)
    target = standardised(fixed, window)
    found = fixed.new_tensor([1, 0, 0, 0]).repeat(len(fixed), 2, 1)
    for _ in range(ROUNDS):
        found[..., 2:] += _steps(standardised(warped(moving, found), window), target)
    return found


def regions(bones: Bones) -> Bones:
    """Each bone's mask with its blurred edge, without the other bone. Raises `ValueError` where nothing is left."""
    radius = at_256(GROW_PX, bones.shape[-1])
    wide = torch.cat([grow(bones[:, [bone]], radius) for bone in range(2)], dim=1) * (1 - bones.flip(1))
    if not wide.amax(dim=(2, 3)).all():
        raise ValueError("a bone has no mask of its own, so it cannot be registered")
    return wide


def windows(bones: Bones) -> Bones:
    """Weights in [0, 1] that fall off softly at each bone's edge."""
    wide = regions(bones)
    return blurred(wide.flatten(0, 1)[:, None], at_256(SOFT_PX, bones.shape[-1])).view_as(wide)


def standardised(images: Image | Bones, window: Bones) -> Bones:
    """Images less their mean in each window, over their standard deviation there, and 0 outside."""
    weight = window / window.sum(dim=(2, 3), keepdim=True)
    apart = images - (images * weight).sum(dim=(2, 3), keepdim=True)
    return window * apart / (apart**2 * weight).sum(dim=(2, 3), keepdim=True).sqrt().clamp_min(1e-6)


def _steps(seen: Bones, target: Bones) -> Float[Tensor, "b 2 2"]:
    """How far (x, y) in px each plane of `seen` has to move."""
    from skimage.registration import phase_cross_correlation

    planes = zip(target.flatten(0, 1).cpu().numpy(), seen.flatten(0, 1).cpu().numpy(), strict=True)
    found = [phase_cross_correlation(*pair, upsample_factor=UPSAMPLE, normalization=None)[0] for pair in planes]
    return torch.tensor(np.array(found)[:, ::-1].copy()).to(target).view(-1, 2, 2)


def by_intensity(moving: Image, fixed: Image, bones: Bones) -> Transforms:
    """Move and turn each bone until its grey values correlate best with the fixed image's (SimpleITK); scale is 1.

    Starts from what `by_phase_correlation` finds: by itself it loses bones that are 2 mm away.
    """
    found = by_phase_correlation(moving, fixed, bones)
    masks = regions(bones).cpu().numpy() > 0
    for item, (start, end) in enumerate(zip(moving[:, 0].cpu().numpy(), fixed[:, 0].cpu().numpy(), strict=True)):
        for bone in range(2):
            row = optimised(start, end, masks[item, bone], tuple(found[item, bone, 1:].tolist()))
            found[item, bone, 1:] = found.new_tensor(row)
    return found


def optimised(
    moving: Plane, fixed: Plane, mask: Bool[np.ndarray, "h w"], start: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Degrees, dx and dy of one bone, from those at the start, which stay where the bone would be out of the frame."""
    import SimpleITK

    transform = to_itk(start, mask.shape)
    method = _method()
    method.SetMetricFixedMask(SimpleITK.GetImageFromArray(mask.astype(np.uint8)))
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(SimpleITK.GetImageFromArray(fixed), SimpleITK.GetImageFromArray(moving))
    return from_itk(transform)


def _method() -> "SimpleITK.ImageRegistrationMethod":
    """Correlation over all pixels of the mask, on one core, by gradient descent from coarse to fine."""
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetMetricAsCorrelation()
    method.SetOptimizerAsRegularStepGradientDescent(STEP_PX, LEAST_STEP_PX, ITERATIONS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTH_PX)
    return method


def to_itk(move: tuple[float, float, float], shape: tuple[int, int]) -> "SimpleITK.Euler2DTransform":
    """ITK's transform of (degrees, dx, dy) in a frame of `shape` (h, w), about its centre.

    ITK's transforms say where a pixel of the fixed image comes from, c + Q (q - c) + t. Its angle is clockwise where y
    points down, and Q is the inverse of R: the angles are the same, and t = -Q d.
    """
    import SimpleITK

    degrees, dx, dy = move
    transform = SimpleITK.Euler2DTransform()
    transform.SetCenter(((shape[1] - 1) / 2, (shape[0] - 1) / 2))
    transform.SetAngle(float(np.deg2rad(degrees)))
    transform.SetTranslation([-float(v) for v in np.reshape(transform.GetMatrix(), (2, 2)) @ (dx, dy)])
    return transform


def from_itk(transform: "SimpleITK.Euler2DTransform") -> tuple[float, float, float]:
    """(degrees, dx, dy) of ITK's transform about the frame's centre: the inverse of `to_itk`."""
    dx, dy = -np.reshape(transform.GetMatrix(), (2, 2)).T @ transform.GetTranslation()
    return float(np.rad2deg(transform.GetAngle())), float(dx), float(dy)
