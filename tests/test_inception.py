"""FID and KID: pytorch-fid and torchmetrics as judges, hand formulas, and laws of the estimates."""

import hashlib
import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score, inception
from scipy.sparse.linalg import svds
from torchmetrics.image.kid import poly_mmd
from torchvision.models import Inception3

from lsn_core.files import InputError
from lsn_core.inception import features, fid, inception_distances, kid, small, weights_file
from lsn_core.phantom import phantoms

NAME = Path(inception.FID_WEIGHTS_URL).name


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home of torch whose hub has random weights under the name of the published ones, and answers of order one."""
    home = tmp_path_factory.mktemp("torch")
    with (
        torch.random.fork_rng(),
        patch.object(inception, "load_state_dict_from_url"),
        patch.object(Inception3, "load_state_dict"),
    ):
        torch.manual_seed(0)
        state = inception.fid_inception_v3().state_dict()
    path = home / "hub" / "checkpoints" / NAME
    path.parent.mkdir(parents=True)
    torch.save({k: v * 6**0.5 if v.ndim == 4 else v for k, v in state.items()}, path)
    return home


@pytest.fixture
def hub(home, monkeypatch) -> Path:
    """The file of random weights, where torch looks for it."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    return home / "hub" / "checkpoints" / NAME


def radiographs(count: int, seed: int) -> torch.Tensor:
    """Phantoms (count, 1, 48, 48) of 8 bits."""
    images = torch.stack([joint.image for joint in phantoms(count, seed=seed, size=48)])
    return (images * 255).round() / 255


def write_folder(folder: Path, images: torch.Tensor) -> str:
    """Write images as PNG files; returns the folder."""
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{k}.png")
    return str(folder)


def low_rank_root(matrix: np.ndarray, disp: bool) -> tuple[np.ndarray, float]:
    """What scipy.linalg.sqrtm(disp=False) gives, of a matrix of low rank: in no time instead of half a minute."""
    u, s, v = svds(matrix, k=2, random_state=0)
    values, vectors = np.linalg.eig((s[:, None] * v) @ u)
    inverse_root = (vectors / np.sqrt(values)) @ np.linalg.inv(vectors)
    return (u @ inverse_root @ (s[:, None] * v)).real, 0.0


def test_features_and_fid_are_those_of_pytorch_fid(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("lsn_core.inception.CHUNK", 3)
    images, others = radiographs(3, seed=1), radiographs(3, seed=2)
    folders = [write_folder(tmp_path / "a", images), write_folder(tmp_path / "b", others)]
    seen, look = [], fid_score.get_activations
    monkeypatch.setattr(fid_score, "get_activations", lambda *a: seen.append(look(*a)) or seen[-1])
    with patch.object(fid_score.linalg, "sqrtm", low_rank_root):
        expected = fid_score.calculate_fid_given_paths(folders, 2, "cpu", 2048, num_workers=0)
    state = torch.get_rng_state()
    ours = [features(images, progress=False), features(others, weights=hub, progress=False)]
    assert torch.equal(torch.get_rng_state(), state)
    for found, judged in zip(ours, seen, strict=True):
        np.testing.assert_allclose(found.numpy(), judged, rtol=1e-4, atol=1e-5)
    assert fid(*ours) == pytest.approx(expected, rel=1e-4) and expected > 0.01


def diagonal(mean: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    """Features (2 d, d) of exactly this mean and a diagonal covariance of these SDs."""
    n = 2 * len(sd)
    offsets = torch.diag(sd) * ((n - 1) / 2) ** 0.5
    return mean + torch.cat((offsets, -offsets))


def test_fid_by_hand_for_diagonal_covariances():
    random = torch.Generator().manual_seed(0)
    means, sds = (torch.rand((2, 12), generator=random, dtype=torch.float64) for _ in range(2))
    sds[1, :5] = 0  # what does not vary is no obstacle
    found = fid(diagonal(means[0], sds[0]), diagonal(means[1], sds[1]))
    by_hand = ((means[0] - means[1]) ** 2).sum() + ((sds[0] - sds[1]) ** 2).sum()
    assert found == pytest.approx(float(by_hand), rel=1e-5)


def sample(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated features (n, d) in double precision."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn((d, d), generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return torch.randn((n, d), generator=random, dtype=torch.float64) @ mix / d**0.5 + shift


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_fid_is_pytorch_fids_where_covariances_are_regular():
    a, b = sample(60, 24, 1).numpy(), sample(80, 24, 2, shift=0.3).numpy()
    gaussians = [part for x in (a, b) for part in (x.mean(axis=0), np.cov(x, rowvar=False))]
    expected = fid_score.calculate_frechet_distance(*gaussians)
    assert fid(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-6)


def frechet_by_singular_values(a: torch.Tensor, b: torch.Tensor) -> float:
    """The distance without a matrix root, exact for any rank: see metrics.row_frechet."""
    offset = ((a.mean(dim=0) - b.mean(dim=0)) ** 2).sum()
    a, b = ((x - x.mean(dim=0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    return float(offset + (a**2).sum() + (b**2).sum() - 2 * torch.linalg.svdvals(a @ b.T).sum())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])  # of features; pytorch-fid's tolerances have one of their own
@pytest.mark.parametrize("n", [2, 5, 30])
def test_fid_of_small_sets_in_many_dimensions(n, scale, capsys):
    a, b = scale * sample(n, 512, 1), scale * sample(9, 512, 2, shift=0.1)
    same = a[:1].repeat(n, 1)  # a set that does not vary
    copies = torch.cat((b, b, b[:2]))
    spread = float(b.var(dim=0).sum() + a.var(dim=0).sum())
    for one, two in ((a, b), (b, a), (same, b), (a, copies), (same, same + scale)):
        assert fid(one, two) == pytest.approx(frechet_by_singular_values(one, two), abs=1e-5 * spread)
    assert fid(a, a) == pytest.approx(0, abs=1e-5 * spread) and fid(same, same) == 0
    assert capsys.readouterr().out == ""


def test_kid_is_that_of_torchmetrics():
    a, b = sample(20, 16, 1), sample(20, 16, 2, shift=0.5)
    found = kid(a, b)
    assert found["mean"] == pytest.approx(float(poly_mmd(a, b)), rel=1e-9)
    assert found["low"] < found["mean"] < found["high"] and found["sd"] > 0
    assert (found["n"], found["groups"]) == ([20, 20], [20, 20])
    again, other = kid(a, b, seed=0), kid(a, b, seed=1)
    assert again == found and other["mean"] == found["mean"] and other["low"] != found["low"]


def visits(joints: int, random: np.random.Generator, mean: float) -> tuple[torch.Tensor, list[int]]:
    """One normal feature, of SD 0.5, of each of 1 to 3 alike visits of joints, and the joint of each."""
    of = np.repeat(np.arange(joints), random.integers(1, 4, joints))
    x = 0.9**0.5 * random.normal(size=joints)[of] + 0.1**0.5 * random.normal(size=len(of))
    return torch.from_numpy(mean + 0.5 * x)[:, None], of.tolist()


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_kid_is_right_on_average_and_its_interval_covers_the_truth(mean):
    """For one feature the kernel compares three moments, which a normal distribution has by hand."""
    truth = 3 * mean**2 + 3 * mean**4 + (mean**3 + 3 * mean * 0.5**2) ** 2
    random, found = np.random.default_rng(3), []
    for _ in range(150):
        (a, of_a), (b, of_b) = visits(25, random, 0.0), visits(30, random, mean)
        found.append(kid(a, b, groups=([f"a{k}" for k in of_a], [f"b{k}" for k in of_b])))
    means = np.array([one["mean"] for one in found])
    assert means.mean() == pytest.approx(truth, abs=4 * means.std() / len(means) ** 0.5)
    assert np.mean([one["low"] <= truth <= one["high"] for one in found]) > 0.88
    assert mean > 0 or np.mean([one["low"] > 0 for one in found]) < 0.05  # alike sets are not told apart


def test_a_second_identical_visit_changes_nothing_where_joints_are_known():
    a, b = sample(12, 8, 1), sample(10, 8, 2, shift=0.3)
    once, twice = kid(a, b), torch.cat((a, a))
    names, others = [f"a{k:02}" for k in range(12)], [f"b{k:02}" for k in range(10)]
    known = kid(twice, b, groups=(names + names, others))
    assert [known[key] for key in ("mean", "low", "high")] == pytest.approx(
        [once[key] for key in ("mean", "low", "high")], rel=1e-9
    )
    assert (known["n"], known["groups"]) == ([24, 10], [12, 10])
    assert kid(twice, b)["mean"] > once["mean"]


def test_a_set_beside_itself_is_at_zero_where_joints_are_known():
    a = sample(12, 8, 1)
    names = [f"{k // 2}" for k in range(12)] + [f"{k}" for k in range(12, 18)]
    a = torch.cat((a, sample(6, 8, 5)))
    found = kid(a, a, groups=(names, names))
    assert [found[key] for key in ("mean", "low", "high", "sd")] == pytest.approx([0] * 4, abs=1e-9)
    assert kid(a, a)["mean"] < 0  # each image beside itself, taken for two


def test_few_joints_have_no_interval_and_one_has_no_distance():
    a, b = sample(8, 8, 1), sample(7, 8, 2)
    assert kid(a, a + 1)["low"] is not None
    assert [kid(a, b)[key] for key in ("sd", "low", "high")] == [None] * 3
    with pytest.raises(InputError, match="1 and 7 joints"):
        kid(a, b, groups=(["one"] * 8, list("abcdefg")))
    with pytest.raises(InputError, match="8 and 1 images"):
        fid(a, b[:1])


def test_both_distances_come_with_what_makes_them_quotable(hub):
    images, others = radiographs(2, seed=3), radiographs(3, seed=4)
    found = inception_distances(images, others, progress=False)
    assert found["fid"] > 0 and found["kid"]["n"] == found["n"] == [2, 3]
    assert found["resize"].startswith("48 x 48 px to 299 x 299 px")
    digest = hashlib.sha256(hub.read_bytes()).hexdigest()
    assert found["weights"] == {"file": NAME, "sha256": digest, "published": False}
    assert "fewer than 2,048" in found["small"] and "here 2" in found["small"]
    json.dumps(found, allow_nan=False)


def test_sets_are_small_below_as_many_images_as_features():
    assert small(2048, 5000) is None
    assert "here 2,047" in small(5000, 2047)


def test_weights_that_are_missing_or_wrong_are_named_and_never_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: pytest.fail("reached for the network"))
    images = torch.zeros(2, 1, 8, 8)
    with pytest.raises(InputError, match=rf"{NAME}: no such weights.*FID_WEIGHTS_URL.*--inception"):
        features(images)
    with pytest.raises(InputError, match=r"other\.pth: no such weights"):
        weights_file(tmp_path / "other.pth")
    wrong = tmp_path / "wrong.pth"
    for content in (b"", b"no weights", None):
        torch.save({"a": torch.zeros(1)}, wrong) if content is None else wrong.write_bytes(content)
        with pytest.raises(InputError, match=r"wrong\.pth: not the weights"):
            features(images, weights=wrong)
