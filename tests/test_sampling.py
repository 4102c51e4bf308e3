"""Sampling plans: the histogram that each promises, for every source and for all together; reading widths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lsn_core.files import InputError
from lsn_core.jsw import svdh_like
from lsn_core.movement import MOVING
from lsn_core.sampling import HIGH_MM, LOW_MM, PLANS, Plan, read_widths

FAR = 100.0  # mm of reach: no movement is cut


def widths(plan: Plan, source: str = "a", own_mm: float = 1.5) -> np.ndarray:
    return np.array([own_mm + by.delta_mm for by in plan.movements(source, own_mm, reach_mm=FAR)])


NAMES = [f"joint_{k}" for k in range(40)]


@given(source=st.text(st.characters(exclude_categories=["Cs"]), max_size=9), own=st.floats(-1, 4))
def test_each_source_is_spread_over_the_whole_of_a_uniform_plan(source, own):
    """One copy in each eighth of the span, whatever its own width is."""
    found = widths(Plan(), source, own)
    eighth = (HIGH_MM - LOW_MM) / 8
    assert np.floor((found - LOW_MM) / eighth + 1e-9).tolist() == list(range(8))


def test_a_uniform_plan_gives_each_class_a_fifth():
    """Ten copies: exactly two of each class from every source, because five classes share ten strata."""
    classes = [[svdh_like(width) for width in widths(Plan(copies=10), name)] for name in NAMES]
    assert all(np.bincount(each, minlength=5).tolist() == [2] * 5 for each in classes)


def test_a_uniform_plan_is_uniform_over_all_sources():
    found = np.concatenate([widths(Plan(low_mm=-0.5, high_mm=2.5), name) for name in NAMES])
    assert stats.kstest(found, "uniform", args=(-0.5, 3.0)).statistic < 0.04
    assert found.min() >= -0.5 and found.max() <= 2.5


def test_a_matched_plan_has_the_histogram_that_it_is_to_match():
    """Two humps, which no default has; 320 copies of 40 sources, and the eight of each source are spread over both."""
    random = np.random.default_rng(1)
    like = np.concatenate((random.normal(0.4, 0.1, 300), random.normal(1.9, 0.15, 700)))
    plan = Plan("matched", like=tuple(like.tolist()))
    found = [widths(plan, name) for name in NAMES]
    assert stats.ks_2samp(np.concatenate(found), like).statistic < 0.03
    assert all(1 <= np.sum(each < 1) <= 4 for each in found)
    np.testing.assert_allclose(
        np.quantile(np.concatenate(found), [0.1, 0.5, 0.9]), np.quantile(like, [0.1, 0.5, 0.9]), atol=0.06
    )


def test_a_plan_around_stays_around_each_joints_own():
    for own in (0.3, 2.0):
        change = widths(Plan("around", spread_mm=0.25), "a", own) - own
        assert np.floor((change + 0.25) / 0.0625).tolist() == list(range(8))


@pytest.mark.parametrize("name", PLANS)
def test_a_movement_depends_on_seed_and_name_alone(name):
    like = (0.5, 1.0, 2.0) if name == "matched" else ()
    plan = Plan(name, like=like, seed=4)
    first = plan.movements("b", 1.2, reach_mm=FAR)
    for other in "cde":
        assert plan.movements(other, 1.2, reach_mm=FAR) != first
    assert Plan(name, like=like, seed=4).movements("b", 1.2, reach_mm=FAR) == first
    assert Plan(name, like=like, seed=5).movements("b", 1.2, reach_mm=FAR) != first


@given(moving=st.sampled_from(list(MOVING)), reach=st.floats(0.1, 3), own=st.floats(-1, 4))
def test_no_bone_goes_further_than_it_is_known(moving, reach, own):
    for by in Plan(moving=moving).movements("a", own, reach_mm=reach):
        assert by.share == MOVING[moving]
        assert max(by.share, 1 - by.share) * abs(by.delta_mm) <= reach + 1e-12


def test_slides_and_turns_fill_their_spans_and_are_none_where_none_is_asked_for():
    plan = Plan(copies=500, slide_mm=0.3, degrees=4.0)
    movements = plan.movements("a", 1.0, reach_mm=FAR)
    for key, most in (("slide_mm", 0.3), ("degrees", 4.0)):
        values = np.array([getattr(by, key) for by in movements])
        assert stats.kstest(values.ravel() / most, "uniform", args=(-1, 2)).pvalue > 0.01
        assert abs(np.corrcoef(values.T)[0, 1]) < 0.15  # the two bones move by themselves
    still = Plan(slide_mm=0.0, degrees=0.0).movements("a", 1.0, reach_mm=FAR)
    assert {(*by.slide_mm, *by.degrees) for by in still} == {(0.0, 0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"name": "even"}, "plan 'even', moving 'both': choose of"),
        ({"moving": "none"}, "plan 'uniform', moving 'none': choose of"),
        ({"copies": 0}, "copies 0: give 1 or more"),
        ({"slide_mm": -1.0}, "slide -1: give 0 to 5"),
        ({"slide_mm": float("nan")}, "slide nan: give 0 to 5"),
        ({"degrees": float("inf")}, "degrees inf: give 0 to 45"),
        ({"spread_mm": 6.0}, "spread 6: give 0 to 5"),
        ({"low_mm": 3.0, "high_mm": 1.0}, "widths from 3.0 to 1.0 mm: give two between -2 and 5, lower first"),
        ({"low_mm": 1.0, "high_mm": 1.0}, "widths from 1.0 to 1.0 mm"),
        ({"low_mm": float("nan")}, "widths from nan to"),
        ({"high_mm": 100.0}, "widths from 0.0 to 100.0 mm"),
        ({"name": "matched"}, "plan 'matched' needs the widths to match, as --like FILE; other plans take none"),
        ({"like": (1.0, 2.0)}, "plan 'matched' needs the widths to match"),
    ],
)
def test_plans_that_cannot_be_carried_out(asked, told):
    with pytest.raises(InputError) as refusal:
        Plan(**asked)
    assert str(refusal.value).startswith(told)


def test_widths_are_read_from_any_table_with_their_column(tmp_path):
    path = tmp_path / "widths.csv"
    path.write_text("name,jsw_mm\na,1.25\nb,-0.5\n", encoding="utf-8-sig")
    assert read_widths(path) == (1.25, -0.5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column jsw_mm; name the column of the widths so"),
        ("width\n1\n", "no column jsw_mm"),
        ("jsw_mm\n1\nwide\n", "line 3: jsw_mm 'wide' is no number"),
        ("a,jsw_mm\n1,1\n2\n", "line 3: jsw_mm None is no number"),
        ("jsw_mm\n", "holds 0 widths; give two or more finite ones to match"),
        ("jsw_mm\n1\n", "holds 1 widths"),
        ("jsw_mm\n1\nnan\n", "holds 2 widths; give two or more finite ones"),
        ("\x89PNG\x00\xff", "no column jsw_mm"),
    ],
)
def test_tables_without_widths(tmp_path, text, told):
    path = tmp_path / "widths.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"widths.csv:? .*{told}|widths.csv: {told}"):
        read_widths(path)
