"""Consistency: known motions are found again, and correlation is numpy's."""

import numpy as np
import pytest
import torch

from lsn_core.consistency import agreements, correlation, register, visit_pairs
from lsn_core.phantom import Phantom, phantoms, visits
from lsn_core.radiograph import Shift, centroid, compose, shift


def test_pairs_follow_one_another():
    assert visit_pairs(["a", "b", "a", "a", "c"]) == [(0, 2), (2, 3)]
    assert visit_pairs(["a", "b"]) == []


def test_correlation_is_numpys_and_knows_no_gain_or_offset():
    dice = torch.Generator().manual_seed(0)
    a, b = torch.rand((2, 3, 1, 16, 16), generator=dice)
    where = (torch.rand(3, 1, 16, 16, generator=dice) > 0.4).float()
    found = correlation(a, b, where)
    for k in range(3):
        here = where[k, 0] > 0
        assert float(found[k]) == pytest.approx(np.corrcoef(a[k, 0][here], b[k, 0][here])[0, 1], abs=1e-5)
    torch.testing.assert_close(correlation(3 * a + 1, b, where), found)
    torch.testing.assert_close(correlation(-a, b, where), -found)
    assert correlation(a, torch.ones_like(b), where).isnan().all()
    assert correlation(a, b, torch.zeros_like(where)).isnan().all()


@pytest.mark.parametrize(("dx", "dy", "degrees"), [(0.0, 0.0, 0.0), (1.5, -2.25, 0.0), (-2.0, 1.0, 4.0)])
def test_a_known_motion_is_found(dx, dy, degrees):
    joints = list(phantoms(3, seed=1, size=128))
    image, mask = (torch.stack([joint.image for joint in joints]), torch.stack([j.masks[1:2] for j in joints]))
    centre = centroid(mask)
    by = Shift(dx, dy, degrees)
    fixed, of_fixed = shift(image, by, centre=centre), (shift(mask, by, centre=centre) > 0.5).float()
    found = register(fixed, image, of_fixed, mask)
    for name, wanted, within in (("dx", dx, 0.1), ("dy", dy, 0.1), ("degrees", degrees, 0.2)):
        assert (getattr(found, name) - wanted).abs().max() < within, name
        assert not getattr(found, name).requires_grad


def test_a_joint_agrees_with_itself_and_true_layers_better_than_radiographs():
    shown = [joint for seed in (3, 4, 5) for joint in visits(Phantom(seed, "index", 128), 2)]
    image, masks, layers = (torch.stack([getattr(j, name) for j in shown]) for name in ("image", "masks", "layers"))
    twice = agreements(image.repeat(2, 1, 1, 1), masks.repeat(2, 1, 1, 1), layers.repeat(2, 1, 1, 1), [(0, 6), (3, 9)])
    assert min(float(twice[name].min()) for name in ("lower", "upper", "lower_image")) > 0.999
    found = agreements(image, masks, layers, visit_pairs([joint.joint for joint in shown]))
    assert all(len(values) == 3 for values in found.values())
    torch.testing.assert_close(found["lower_gain"], found["lower"] - found["lower_image"])
    assert found["lower"].min() > 0.8
    noisy = layers + 0.2 * torch.randn(layers.shape, generator=torch.Generator().manual_seed(0))
    worse = agreements(image, masks, noisy.clamp(0, 1), visit_pairs([joint.joint for joint in shown]))
    assert (worse["lower"] < found["lower"]).all() and torch.equal(worse["lower_image"], found["lower_image"])


def test_the_other_bone_and_the_flesh_disturb_radiographs_only():
    """The same bones in other flesh: layers agree wholly, radiographs do not."""
    joint = Phantom(8, "middle", 128).render()
    other = joint.layers.clone()
    other[0] = (other[0] + 0.3 * torch.linspace(0, 1, 128)).clamp(0, 1) * joint.masks[0]
    layers, masks = torch.stack((joint.layers, other)), torch.stack((joint.masks, joint.masks))
    found = agreements(compose(layers), masks, layers, [(0, 1)])
    assert found["lower_gain"] > 0.02 and found["lower"] > 0.9  # registered on the radiographs, a little off
