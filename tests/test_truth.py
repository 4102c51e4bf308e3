"""Layer truth: hand tables, independent judges, and laws of the regions."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from lsn_core.metrics import ssim
from lsn_core.phantom import drawn, phantoms
from lsn_core.radiograph import absorbance, display
from lsn_core.results import summarise
from lsn_core.truth import MEASURES, REGIONS, joint_band, layer_scores, mass_errors, regions, report, truth_table

LAYERS = ("soft", "lower", "upper")
NAMES = [f"{layer}_{region}_{measure}" for layer in LAYERS for region in REGIONS for measure in MEASURES]


@pytest.fixture(scope="module", name="joints")
def _joints():
    """Masks, true layers, and layers that are wrong by smooth errors and noise, of three phantoms at 64 px."""
    known = list(phantoms(3, seed=4, size=64))
    truth = torch.stack([joint.layers for joint in known])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return torch.stack([joint.masks for joint in known]), truth, (truth * 0.95 + 0.02 * noise).clamp(0, 1)


def two_bones(size: int = 64, overlap: int = 0) -> torch.Tensor:
    """Masks (1, 3, h, w) of two bones over the whole width that share `overlap` rows, or are `-overlap` rows apart."""
    masks = torch.ones(1, 3, size, size)
    masks[:, 1, : (size - overlap) // 2] = 0
    masks[:, 2, (size + overlap) // 2 :] = 0
    return masks


def test_regions_by_hand():
    """At 64 px the joint band reaches 2.5 px from each bone: two rows."""
    masks = two_bones(overlap=4)  # lower from row 30 on, upper up to row 33
    found = regions(masks)
    rows = {name: [plane.all(dim=1).nonzero()[:, 0].tolist() for plane in where[0]] for name, where in found.items()}
    assert rows["mask"] == [list(range(64)), list(range(30, 64)), list(range(34))]
    assert rows["overlap"] == [[30, 31, 32, 33]] * 3 and rows["band"] == [list(range(28, 36))] * 3
    apart = regions(two_bones(overlap=-1))  # upper up to row 30, lower from row 32 on
    assert not apart["overlap"].any() and apart["band"][0, 0].all(dim=1).nonzero()[:, 0].tolist() == [30, 31, 32]
    assert not regions(two_bones(overlap=-2))["band"].any()  # rows 31 and 32 are near both, but nothing of a bone


@pytest.mark.parametrize("size", [64, 256])
def test_the_band_is_where_both_bones_are_near(size):
    """scipy measures the distances."""
    masks = torch.stack([phantom.render(0.8).masks for phantom in drawn(2, seed=1, size=size)])
    for found, (hand, *bones) in zip(regions(masks)["band"], masks.numpy(), strict=True):
        near = [ndimage.distance_transform_edt(bone == 0) <= 10 * size / 256 for bone in bones]
        np.testing.assert_array_equal(found[0].numpy() > 0, near[0] & near[1] & (hand > 0))


def test_scores_by_hand():
    """The soft layer is 0.1 too bright in the overlap's 4 rows, the lower bone 0.2 too dark in one of them."""
    masks = two_bones(overlap=4)
    truth = torch.full((1, 3, 64, 64), 0.5)
    layers = truth.clone()
    layers[:, 0, 30:34] += 0.1
    layers[:, 1, 30] -= 0.2
    found = {name: float(value) for name, value in layer_scores(layers, truth, masks).items()}
    table = {  # mean square and mean absolute error
        "soft_mask": (0.01 * 4 / 64, 0.1 * 4 / 64),
        "soft_overlap": (0.01, 0.1),
        "soft_band": (0.01 * 4 / 8, 0.1 * 4 / 8),
        "lower_mask": (0.04 / 34, 0.2 / 34),
        "lower_overlap": (0.04 / 4, 0.2 / 4),
        "lower_band": (0.04 / 8, 0.2 / 8),
    }
    for name, (squares, absolute) in table.items():
        assert found[f"{name}_psnr_db"] == pytest.approx(-10 * math.log10(squares), abs=1e-3)
        assert found[f"{name}_mae"] == pytest.approx(absolute, abs=1e-6)
    for region in REGIONS:
        assert found[f"upper_{region}_psnr_db"] == 160 and found[f"upper_{region}_mae"] == 0
        assert found[f"upper_{region}_ssim"] > 0.9999 > found[f"soft_{region}_ssim"]


def test_local_ssim_agrees_with_scikit_image_inside_the_frame(joints):
    masks, truth, layers = joints
    found = layer_scores(layers, truth, masks)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for k in range(len(masks)):
        for i, layer in enumerate(LAYERS):
            _, local = structural_similarity(truth[k, i].numpy(), layers[k, i].numpy(), full=True, **gaussian)
            for region, where in regions(masks).items():
                inner = where[k, i, 5:-5, 5:-5].numpy() > 0
                expected = local[5:-5, 5:-5][inner].mean() if inner.any() else math.nan
                assert float(found[f"{layer}_{region}_ssim"][k]) == pytest.approx(expected, abs=1e-3, nan_ok=True)


def test_a_region_without_end_gives_the_ssim_of_the_frame(joints):
    _, truth, layers = joints
    everywhere = torch.ones_like(truth)
    found = layer_scores(layers, truth, everywhere)
    for i, layer in enumerate(LAYERS):
        for region in REGIONS:
            expected = ssim(layers[:, i : i + 1], truth[:, i : i + 1])
            torch.testing.assert_close(found[f"{layer}_{region}_ssim"], expected)


def test_the_truth_is_perfect_and_only_errors_inside_a_region_count(joints):
    masks, truth, layers = joints
    perfect = layer_scores(truth, truth, masks)
    assert list(perfect) == NAMES
    for name, values in perfect.items():
        best = {"psnr_db": 160.0, "ssim": 1.0, "mae": 0.0}[next(m for m in MEASURES if name.endswith(m))]
        assert torch.allclose(values[~values.isnan()], torch.tensor(best)), name
    found, where = layer_scores(layers, truth, masks), regions(masks)
    for region in REGIONS:
        spared = torch.where(where[region] > 0, truth, layers)
        for name, values in layer_scores(spared, truth, masks).items():
            if f"_{region}_" in name and not name.endswith("ssim"):
                here = ~values.isnan()
                assert (found[name][here] != values[here]).all()
                assert torch.allclose(values[here], torch.tensor(160.0 if name.endswith("db") else 0.0)), name


def test_an_empty_region_is_not_a_number_and_its_neighbours_are():
    masks = torch.cat((two_bones(overlap=-20), two_bones(overlap=4)))
    truth = torch.full((2, 3, 64, 64), 0.5)
    for name, (apart, together) in layer_scores(truth + 0.1, truth, masks).items():
        assert apart.isnan() == ("_mask_" not in name) and together.isfinite(), name


def test_the_table_has_each_layer_in_each_region_and_says_how_many():
    masks = torch.cat((two_bones(overlap=-20), two_bones(overlap=4)))
    truth = torch.full((2, 3, 64, 64), 0.5)
    columns = layer_scores(truth + 0.1, truth, masks)
    summaries = {name: summarise(values.tolist(), ["a", "b"]) for name, values in columns.items()}
    _, _, *rows = truth_table(summaries).splitlines()
    assert [row.split("  ")[0] for row in rows] == [f"{layer}, {region}" for layer in LAYERS for region in REGIONS]
    assert rows[0].split()[2:6] == ["2", "20.00", "[20.00,", "20.00]"] and rows[1].split()[2] == "1"
    told = report({"clean": summaries, "film": summaries})
    assert told.index("layer truth, clean") < told.index("layer truth, film") and told.count("upper, band") == 2


@pytest.mark.parametrize(
    ("shown", "relative"),  # of the bone's two pixels, of which each has absorbance ln 2; and its mass
    [
        ([0.5, 0.5], 0.0),
        ([0.75, 0.75], 1.0),
        ([0.75, 0.5], 0.5),
        ([0.5, 0.0], -0.5),
        ([0.0, 0.75], 0.0),
        ([1 - 0.5**0.5, 1 - 0.5**0.5], -0.5),
        ([0.0, 0.0], -1.0),
        ([0.875, 0.9375], 2.5),
    ],
)
def test_mass_errors_by_hand(shown, relative):
    truth = torch.tensor([0.3, 0.5, 0.5])[None, :, None, None].repeat(1, 1, 1, 2)
    for i, name in ((1, "lower_mass"), (2, "upper_mass")):
        layers = truth.clone()
        layers[0, i, 0], layers[0, 0] = torch.tensor(shown), 0.9  # soft tissue is no bone
        errors = mass_errors(layers, truth)
        assert float(errors.pop(name)) == pytest.approx(relative, abs=1e-5)
        assert [float(error) for error in errors.values()] == pytest.approx([0])


def test_mass_is_what_a_bone_absorbs_wherever(joints):
    """Twice as much is one too many, one half is missing of half as much; nothing is where it only went elsewhere."""
    _, truth, _ = joints
    doubled, halved = display(2 * absorbance(truth[:, 1:2])), display(absorbance(truth[:, 2:]) / 2)
    found = mass_errors(torch.cat((truth[:, :1], doubled, halved), dim=1), truth)
    torch.testing.assert_close(found["lower_mass"], torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(found["upper_mass"], torch.full((3,), -0.5), atol=1e-3, rtol=0)
    for moved in (truth.flip(-1), truth.roll((7, 20), dims=(-1, -2))):
        for error in mass_errors(moved, truth).values():
            torch.testing.assert_close(error, torch.zeros(3), atol=1e-5, rtol=0)


def test_a_wider_band_holds_the_narrower(joints):
    masks = joints[0]
    near, far = joint_band(masks), joint_band(masks, px=20.0)
    assert (far >= near).all() and far.sum() > near.sum()
