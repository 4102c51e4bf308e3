"""What needs no training, measured as runs are: on phantoms, whose widths and changes are known."""

import numpy as np
import pytest

from lsn_core.answers import pairs_to_test, read_answers
from lsn_core.coaching import ANSWERS, METRICS
from lsn_core.cohort import TEST, gather_cohort, of_phantoms
from lsn_core.comparators import COMPARATORS, edge_grades, edge_narrowings, edge_widths, write_comparators
from lsn_core.downstream import gather_downstream, narrowing_scores
from lsn_core.files import InputError
from lsn_core.jsw import svdh_like


@pytest.fixture(scope="module")
def cohort():
    """Eight phantoms at three visits, of which two are to test on."""
    return gather_cohort(of_phantoms(8, times=3, size=256), weights="compact", size=64, told=pytest.fail)


@pytest.fixture(scope="module")
def few():
    """Eight phantoms at two visits: intensity registration takes its time."""
    return gather_cohort(of_phantoms(8, times=2, size=256), weights="compact", size=64, told=pytest.fail)


@pytest.fixture(scope="module")
def runs(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_comparators(folder, few, {"phantoms": 8})
    return folder


def test_edges_measure_widths_and_their_changes(cohort):
    rows = edge_widths(cohort)
    index = cohort.of(TEST)
    assert [row["true"] for row in rows] == cohort.jsw_mm[index].tolist()
    assert np.abs([row["found"] - row["true"] for row in rows]).max() < 0.4
    width = {row["name"]: row["found"] for row in rows}
    for row in edge_narrowings(cohort):
        assert row["found"] == pytest.approx(width[row["name"]] - width[row["fixed"]], abs=1e-6)
    assert [row["found"] for row in edge_grades(cohort)] == [svdh_like(row["found"]) for row in rows]


def test_edges_close_but_do_not_scatter(cohort):
    """Differences of widths add up, however wrong they are; asked once, they have no scatter."""
    scores = narrowing_scores(edge_narrowings(cohort))
    assert scores["phase_sigma_mm"] == pytest.approx(0, abs=1e-6) and np.isnan(scores["sigma_mm"])


def test_all_pairs_of_one_joint_are_tested(cohort):
    pairs = pairs_to_test(cohort).tolist()
    assert len(pairs) == 2 * 3 * 2 and len({tuple(pair) for pair in pairs}) == 12
    assert all(cohort.joints[a] == cohort.joints[b] and a != b for a, b in pairs)


def test_they_are_kept_as_runs_are(runs):
    assert {path.name for path in runs.iterdir()} == {f"{name}-untrained-100-0" for name in COMPARATORS}
    found = {one["network"]: one for one in gather_downstream(runs)["settings"] if one["task"] == "jsn"}
    assert found["intensity"]["scores"]["sigma_mm"]["mean"] < 0.05
    assert found["intensity"]["scores"]["mae_mm"]["mean"] < 0.15 and found["edge"]["scores"]["mse"]["mean"] is None


def test_what_is_done_is_not_measured_again(runs, few):
    before = {path: path.stat().st_mtime_ns for path in runs.glob(f"*/{METRICS}")}
    write_comparators(runs, few, {"phantoms": 8})
    assert {path: path.stat().st_mtime_ns for path in runs.glob(f"*/{METRICS}")} == before
    with pytest.raises(InputError, match="was measured on another cohort; give --cohort as before"):
        write_comparators(runs, few, {"phantoms": 9})
    rows = read_answers(runs / "jsn-phase_correlation-untrained-100-0" / ANSWERS)
    assert all(np.isfinite(row["error"]) for row in rows)


def test_one_visit_has_no_pairs():
    once = gather_cohort(of_phantoms(8, times=1, size=128), weights="compact", size=64, told=pytest.fail)
    with pytest.raises(InputError, match="no joint to test on has two radiographs"):
        pairs_to_test(once)
