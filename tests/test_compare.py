"""Comparison: bands, differences and intervals against numpy and by simulation; what the command prints and writes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lsn_core.appearance import joint_statistics
from lsn_core.compare import compare, compare_values, measure, report
from lsn_core.files import InputError
from lsn_core.phantom import phantoms

RANDOM = np.random.default_rng(3)
NAMES = np.array([f"j{k}" for k in range(200)])
A, B = RANDOM.normal(1.0, 0.5, 200), RANDOM.normal(0.0, 2.0, 200)


@pytest.fixture(scope="module", name="joints")
def _joints():
    """Ten phantoms, two visits of each joint."""
    drawn = list(phantoms(10, seed=0, size=64))
    return [replace(one, joint=f"j{k // 2}", name=f"visit {k}") for k, one in enumerate(drawn)]


def test_summaries_and_bands_are_numpys():
    found = compare_values(A, NAMES, B, NAMES)
    for key, x in (("a", A), ("b", B)):
        assert found[key]["mean"] == pytest.approx(x.mean()) and found[key]["sd"] == pytest.approx(x.std(ddof=1))
        assert [found[key]["p5"], found[key]["p95"]] == pytest.approx(np.percentile(x, [5, 95]))
        assert found[key]["n"] == 200
    low, high = np.percentile(B, [5, 95])
    assert found["inside"]["mean"] == pytest.approx(np.mean(np.clip(A, low, high) == A))
    assert found["difference"]["value"] == pytest.approx((A.mean() - B.mean()) / B.std(ddof=1))
    assert found["difference"]["low"] < found["difference"]["value"] < found["difference"]["high"]


def test_a_set_is_like_itself():
    found = compare_values(B, NAMES, B, NAMES)
    assert found["difference"]["value"] == 0 and found["inside"]["mean"] == pytest.approx(0.9)


def test_the_interval_of_a_difference_holds_the_truth():
    """Two visits a joint, alike within the joint: 95 of 100 intervals hold the true difference of one SD."""
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        a, b = (np.repeat(random.normal(mean, 1.0, 40), 2) for mean in (1.0, 0.0))
        names = np.repeat(np.arange(40), 2).astype(str)
        interval = compare_values(a, names, b, names)["difference"]
        held += interval["low"] <= 1.0 <= interval["high"]
    assert 88 <= held <= 99


def test_absent_values_do_not_count():
    x = np.array([np.nan, 1.0, 2.0, 3.0])
    names = np.array(["a", "b", "c", "d"])
    assert compare_values(x, names, x, names)["a"]["n"] == 3
    for first, second in ((x, x * np.nan), (x * np.nan, x), (x * np.nan, x * np.nan)):
        found = compare_values(first, names, second, names)
        assert found["difference"]["value"] is None and found["inside"]["mean"] is None


def test_no_difference_in_units_of_no_spread():
    assert compare_values(B, NAMES, np.ones(200), NAMES)["difference"]["value"] is None


def test_rows_are_the_statistics_of_each_joint(joints):
    sample = measure(joints)
    assert [row["name"] for row in sample.rows] == [joint.name for joint in joints] and not sample.left_out
    for row, joint in zip(sample.rows, joints, strict=True):
        expected = joint_statistics(joint)
        assert {key: row[key] for key in expected} == pytest.approx(expected, nan_ok=True)
    assert sample.frames.shape == (10, 1, 256, 256) and sample.regions.shape == (10, 256, 256)


def test_parts_keep_rows_and_frames_together(joints):
    sample = measure(joints)
    some = sample.take(np.array([7, 2]))
    assert [row["name"] for row in some.rows] == ["visit 7", "visit 2"] and list(some.joints) == ["j3", "j1"]
    assert torch.equal(some.frames, sample.frames[[7, 2]]) and torch.equal(some.regions, sample.regions[[7, 2]])
    assert {row["finger"] for row in sample.of("thumb").rows} == {"thumb"} and len(sample.of("thumb").rows) == 2


def test_masks_on_one_bone_are_left_out_and_told(joints):
    wrong = replace(joints[0], masks=joints[0].masks[[0, 1, 1]], name="both lower")
    swapped = replace(joints[1], masks=joints[1].masks[[0, 2, 1]], name="swapped")
    sample = measure([*joints, wrong, swapped])
    assert len(sample.rows) == 10 and sample.left_out == ["both lower", "swapped"]
    told = report(compare(sample, measure(joints)), by_finger=False)
    assert "2 of A and 0 of B" in told
    with pytest.raises(InputError, match="lsn data check"):
        measure([wrong, swapped])


def test_comparison_by_finger_is_that_of_the_fingers_radiographs(joints):
    sample, other = measure(joints), measure(joints[:9])
    found = compare(sample, other)
    assert list(found["by_finger"]) == ["thumb", "index", "middle", "ring", "small"]
    alone = compare(measure(joints[4::5]), measure(joints[4:9:5]))["overall"]
    assert found["by_finger"]["small"] == alone
    assert json.dumps(found, allow_nan=False)


def test_a_brighter_set_is_seen_where_it_is_brighter(joints):
    sample = measure(joints)
    brighter = measure([replace(joint, image=(joint.image + 0.1 * joint.masks[1]).clamp(0, 1)) for joint in joints])
    found = compare(brighter, sample)["overall"]
    means = {region: found[f"{region}_mean"] for region in ("soft", "lower", "upper")}
    raised = {region: one["a"]["mean"] - one["b"]["mean"] for region, one in means.items()}
    assert raised == pytest.approx({"soft": 0.0, "lower": 0.1, "upper": 0.0}, abs=0.01)


def test_the_command_prints_and_writes(lsn, phantom_folder, tmp_path):
    out = tmp_path / "metrics.json"
    words = ("--no-classifier", "--by-finger", "--split-a", "test", "--limit", "6", "--seed", "4")
    told = lsn("data", "compare", phantom_folder, phantom_folder, *words, "--out", out)
    assert told.code == 0 and told.out.endswith(f"written to {out}\n")
    stored = json.loads(out.read_text())
    assert {"a", "b", "seed", "commit", "date"} <= stored["provenance"].keys()
    assert (stored["provenance"]["a"]["radiographs"], stored["provenance"]["b"]["radiographs"]) == (2, 6)
    assert "two_sample" not in stored["metrics"]
    for name in (*stored["metrics"]["overall"], *stored["metrics"]["by_finger"]):
        assert name in told.out
