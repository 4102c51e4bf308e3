"""The probe: its areas are exact, and it finds bones that are there, on other joints, and nothing that is not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from lsn_core.probe import CANDIDATES, auc, probe_auc, report, train_probe
from lsn_core.results import summarise


def judged(labels: torch.Tensor, scores: torch.Tensor) -> float:
    """The area by scipy: the Mann-Whitney U over the number of pairs."""
    ones, zeros = scores[labels > 0].numpy(), scores[labels == 0].numpy()
    return mannwhitneyu(ones, zeros, method="asymptotic").statistic / (len(ones) * len(zeros))


def plane(values: list[float]) -> torch.Tensor:
    """One image of one row."""
    return torch.tensor(values)[None, None, None]


@pytest.mark.parametrize(
    ("scores", "labels", "area"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([1, 3, 2, 4], [0, 0, 1, 1], 0.75),
        ([1, 1, 1, 1], [0, 0, 1, 1], 0.5),
        ([1, 2, 2, 3], [0, 0, 1, 1], 0.875),
        ([1, 2], [1, 1], float("nan")),
        ([1, 2], [0, 0], float("nan")),
    ],
)
def test_areas_by_hand(scores, labels, area):
    found = auc(plane(scores).float(), plane(labels).float(), torch.ones(1, 1, 1, len(scores)))
    assert float(found) == pytest.approx(area, nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60), st.floats(0.1, 5))
def test_areas_agree_with_scipy_with_ties(pixels, scale):
    scores, labels = [float(score) for score, _ in pixels], [label for _, label in pixels]
    if len(set(labels)) < 2:
        return
    everywhere = torch.ones(1, 1, 1, len(pixels))
    found = float(auc(plane(scores), plane(labels).float(), everywhere))
    assert found == pytest.approx(judged(torch.tensor(labels), torch.tensor(scores)))
    assert found == pytest.approx(float(auc(plane(scores) * scale - 1, plane(labels).float(), everywhere)))
    assert found == pytest.approx(1 - float(auc(-plane(scores), plane(labels).float(), everywhere)))


def test_areas_of_large_images_are_exact_and_leave_out_what_is_not_in_the_hand():
    random = torch.Generator().manual_seed(0)
    scores = torch.randn((3, 1, 256, 256), generator=random)
    labels, hand = (torch.rand(scores.shape, generator=random) < share for share in (0.4, 0.8))
    found = auc(scores + 0.3 * labels, labels.float(), hand.float())
    for k, area in enumerate(found):
        here = hand[k]
        assert float(area) == pytest.approx(judged(labels[k][here], (scores + 0.3 * labels)[k][here]), abs=1e-6)
    assert torch.equal(
        auc(scores + 9.0 * ~hand, labels.float(), hand.float()), auc(scores, labels.float(), hand.float())
    )


def joints(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and masks of a bone 12 px wide that lies anywhere across 32 px, in a hand that fills all but 2 rows."""
    random = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 3, 32, 32)
    masks[:, 0, 2:] = 1
    for k, left in enumerate(torch.randint(0, 21, (count,), generator=random).tolist()):
        masks[k, 1, 4:, left : left + 12] = 1
    return 0.5 + 0.05 * torch.randn((count, 1, 32, 32), generator=random), masks


SMALL = {"size": 32, "steps": 40, "seed": 0}


@pytest.fixture(scope="module", name="found")
def _found():
    """Probes of noise with a faint shadow of the bone, and of the noise alone."""
    (noise, masks), (other, others) = joints(60, seed=0), joints(20, seed=1)
    shadow = 0.15
    return {
        "shadow": probe_auc(noise + shadow * masks[:, 1:2], masks, other + shadow * others[:, 1:2], others, **SMALL),
        "noise": probe_auc(noise, masks, other, others, **SMALL),
    }


def test_a_shadow_is_found_on_other_joints_and_noise_gives_nothing_away(found):
    assert found["shadow"]["probe"].mean() > 0.9 and found["shadow"]["excess"].mean() > 0.1
    assert found["noise"]["excess"].mean() < 0.05


def test_the_prior_is_the_training_masks_mean_and_excess_the_difference(found):
    (_, masks), (_, others) = joints(60, seed=0), joints(20, seed=1)
    usual = masks[:, 1:].amax(dim=1).mean(dim=0)
    for scores in found.values():
        for k in range(len(others)):
            here = others[k, 0] > 0
            expected = judged(others[k, 1][here], usual[here])
            assert float(scores["prior"][k]) == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(scores["excess"], scores["probe"] - scores["prior"])


def test_the_same_seed_trains_the_same_probe_and_the_callers_random_numbers_stay():
    (soft, masks), place = joints(8, seed=2), torch.zeros(1, 1, 32, 32)
    before = torch.get_rng_state()
    first, again, other = (train_probe(soft, masks, place, steps=2, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_brightness_and_size_of_the_frames_change_little():
    """Layers are standardised, so that a faint shadow in a dark layer counts as the same in a bright one."""
    (noise, masks), (other, others) = joints(20, seed=0), joints(10, seed=1)
    few = {"size": 32, "steps": 5, "seed": 0}
    one = probe_auc(noise, masks, other, others, **few)
    darker = probe_auc(noise / 4, masks, other / 4, others, **few)
    torch.testing.assert_close(one["probe"], darker["probe"], atol=5e-3, rtol=0)
    large = [torch.nn.functional.interpolate(planes, scale_factor=2) for planes in (noise, masks, other, others)]
    torch.testing.assert_close(probe_auc(*large, **few)["prior"], one["prior"], atol=0.02, rtol=0)


def test_the_table_has_a_row_for_each_candidate():
    columns = {"probe": [0.9, 0.7], "prior": [0.6, 0.6], "excess": [0.3, 0.1]}
    summaries = {name: {k: summarise(v, ["a", "b"]) for k, v in columns.items()} for name in CANDIDATES}
    told = report(summaries, "phantoms").splitlines()
    assert told[0].endswith("phantoms:") and [line[:8] for line in told[3:8]] == [v[:8] for v in CANDIDATES.values()]
    assert "0.8000 [0.7000, 0.9000]" in told[3] and "0.2000 [0.1000, 0.3000]" in told[3]
