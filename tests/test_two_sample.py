"""The two-sample test: it never tests on a joint it has seen, finds what differs, and nothing where nothing does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lsn_core import two_sample
from lsn_core.appearance import FRAME_REGIONS
from lsn_core.compare import Sample
from lsn_core.files import InputError
from lsn_core.two_sample import null, report, scored, split


def sample(
    seed: int, joints: list[str], *, brightness: float = 0.0, texture: float = 0.0, frames: bool = False
) -> Sample:
    """Radiographs of these joints with drawn statistics; frames of noise on the regions' quadrants."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "name": f"{seed} {k}",
            "joint": joint,
            "finger": None,
            "soft_mean": random.normal(brightness),
            "bone_texture": random.normal(texture),
            "overlap_mean": random.normal() if random.random() < 0.5 else np.nan,
            "gap_mm": np.nan,
        }
        for k, joint in enumerate(joints)
    ]
    size = len(rows) if frames else 1
    noise = 0.4 + 0.05 * random.standard_normal((size, 1, 256, 256)) + 0.1 * brightness
    pixels = torch.from_numpy(noise).half().expand(len(rows), 1, 256, 256)
    regions = torch.zeros(len(rows), 256, 256, dtype=torch.uint8)
    regions[:, :, 128:] = 1
    return Sample(rows, pixels, regions, [])


def visits(prefix: str, count: int, each: int = 2) -> list[str]:
    """Names of joints, each so many times."""
    return [f"{prefix}{k}" for k in range(count) for _ in range(each)]


@pytest.fixture(name="quick")
def _quick(monkeypatch):
    """A short training."""
    monkeypatch.setattr(two_sample, "STEPS", 12)
    monkeypatch.setattr(two_sample, "BATCH", 8)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=80),
    st.lists(st.integers(20, 60), min_size=1, max_size=80),
    st.integers(0, 100),
)
def test_no_joint_is_on_both_sides(first, second, seed):
    """Joints 20 to 40 may be in both sets, at any number of visits."""
    a, b = sample(0, [f"j{k}" for k in first]), sample(1, [f"j{k}" for k in second])
    try:
        halves = split(a, b, seed=seed)
    except InputError:
        return
    trained = {joint for s, half in zip((a, b), halves, strict=True) for joint in s.joints[half.train]}
    for one, half in zip((a, b), halves, strict=True):
        tested = one.joints[half.test]
        assert len(set(tested)) == len(tested) and not trained & set(tested)
    assert len(halves[0].test) == len(halves[1].test) >= two_sample.MIN_JOINTS


def test_three_joints_in_ten_are_held_out():
    a, b = sample(0, visits("a", 100)), sample(1, visits("b", 100))
    first, second = split(a, b, seed=0)
    assert 22 <= len(first.test) <= 30 and len(first.train) + len(second.train) == 2 * (200 - 60)
    assert not np.array_equal(first.test, split(a, b, seed=1)[0].test)
    np.testing.assert_array_equal(first.test, split(a, b, seed=0)[0].test)


def test_too_few_joints_are_refused():
    with pytest.raises(InputError, match="5 and 300 joints are too few"):
        split(sample(0, visits("a", 5)), sample(1, visits("b", 300)), seed=0)


def test_halves_of_the_null_share_no_joint(monkeypatch):
    seen = []

    def spy(a: Sample, b: Sample, *, seed: int) -> dict:
        seen.append((set(a.joints), set(b.joints)))
        return {}

    monkeypatch.setattr(two_sample, "two_sample", spy)
    for seed in range(3):
        null(sample(0, visits("a", 41, 3)), seed=seed)
    for one, other in seen:
        assert not one & other and len(one | other) == 41 and abs(len(one) - len(other)) == 1
    assert seen[0][0] != seen[1][0]


def test_score_by_hand():
    """8 of 10: 45 + 10 + 1 of 1024 outcomes are as good; Wilson's interval solves (p - q)^2 = z^2 q (1 - q) / n."""
    found = scored([True] * 8 + [False] * 2)
    z2 = stats.norm.ppf(0.975) ** 2
    roots = np.roots([1 + z2 / 10, -(1.6 + z2 / 10), 0.64])
    assert found["accuracy"] == 0.8 and found["n"] == 10 and found["p"] == pytest.approx(56 / 1024)
    assert [found["low"], found["high"]] == pytest.approx(sorted(roots))


def by_statistics(a: Sample, b: Sample, names: list[str], seed: int = 0) -> dict:
    """The logistic regression alone."""
    return two_sample._by_statistics(a, b, *split(a, b, seed=seed), names)


def test_what_differs_has_the_largest_weight():
    a, b = sample(0, visits("a", 150), texture=3.0), sample(1, visits("b", 150))
    found = by_statistics(a, b, ["soft_mean", "bone_texture", "overlap_mean", "gap_mm"])
    best = stats.norm.cdf(1.5)  # of the best rule between two unit normals 3 apart
    assert found["accuracy"] == pytest.approx(best, abs=0.08)
    assert next(iter(found["weights"])) == "bone_texture" and found["weights"]["bone_texture"] > 0
    assert by_statistics(a, b, ["soft_mean"])["accuracy"] < 0.7


def test_the_null_is_near_one_half_and_its_interval_honest():
    """40 data sets without a difference: the mean accuracy is 0.5, nearly all intervals hold it."""
    found = [
        by_statistics(sample(k, visits("a", 60)), sample(k + 99, visits("b", 60)), ["soft_mean", "bone_texture"], k)
        for k in range(40)
    ]
    assert np.mean([one["accuracy"] for one in found]) == pytest.approx(0.5, abs=0.04)
    assert sum(one["low"] <= 0.5 <= one["high"] for one in found) >= 34


def test_the_regression_is_at_its_optimum():
    """The penalised gradient is zero, computed by hand."""
    random = np.random.default_rng(0)
    a, b = (torch.from_numpy(random.normal(mean, 1.0, (50, 3))) for mean in (0.5, -0.5))
    weights = two_sample._logistic(a, b).numpy()
    x, y = (np.column_stack((part.numpy(), np.ones(50))) for part in (a, b))
    gradient = -x.T @ (1 / (1 + np.exp(x @ weights))) / 50 + y.T @ (1 / (1 + np.exp(-y @ weights))) / 50
    gradient[:3] += 2 * two_sample.PENALTY * weights[:3]
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_the_network_sees_a_shift_of_brightness_and_repeats_itself(quick):
    a = sample(0, visits("a", 20, 1), brightness=2.0, frames=True)
    b = sample(1, visits("b", 20, 1), frames=True)
    found, again = (two_sample.two_sample(a, b, seed=0) for _ in range(2))
    assert found["frames"]["accuracy"] == 1.0 and found["frames"]["p"] < 0.05
    assert found == again
    told = report({"A against B": found, "B against B": found})
    assert "soft_mean" in told and "frame border" in told and told.count("1.00 [") >= 2


def test_training_leaves_the_callers_random_state_alone(quick):
    before = torch.get_rng_state()
    network = two_sample._network(torch.Generator().manual_seed(0))
    assert torch.equal(network[-1].weight, torch.zeros_like(network[-1].weight))
    assert torch.equal(before, torch.get_rng_state())


def test_attention_is_a_share_of_the_gradient_over_a_share_of_the_pixels():
    regions = torch.zeros(2, 256, 256, dtype=torch.uint8)
    regions[:, :64] = 3
    gradients = torch.ones(2, 256, 256)
    even = two_sample.attention(gradients, regions)
    assert even["air"] == pytest.approx({"share": 0.75, "per_area": 1.0})
    assert even[FRAME_REGIONS[3]] == pytest.approx({"share": 0.25, "per_area": 1.0})
    assert even["bone"] == {"share": 0.0, "per_area": 0.0}
    gradients[:, :64] *= 9
    assert two_sample.attention(gradients, regions)[FRAME_REGIONS[3]] == pytest.approx({"share": 0.75, "per_area": 3.0})


def test_every_pixel_is_judged_and_its_gradient_counted_once():
    """A network that sums its input has gradient 1 at every pixel, in however many crops it lies."""

    class Sum(torch.nn.Module):
        def forward(self, crops):
            return crops.sum(dim=(1, 2, 3))[:, None]

    logits, gradients = two_sample._judge(
        Sum(), two_sample.contrast, torch.full((2, 1, 256, 256), 0.5, dtype=torch.float16)
    )
    torch.testing.assert_close(gradients, torch.full((2, 256, 256), 6.0))
    torch.testing.assert_close(logits, torch.full((2,), 0.1 * 6 * 128**2))
