"""Figures of a reader study: what is drawn is what was given, and simulated readers are called so."""

import numpy as np
import pytest

from lsn_core.reader_figures import SIMULATED, accuracy_forest_figure, heat_figure, roc_figure
from lsn_core.reader_study import study_scores, table_scores
from lsn_core.readings import Study
from lsn_core.results import recorded

TRUTH = np.arange(40) % 2 == 0


def scores(*names: str) -> dict:
    """Scores of readers with random ratings."""
    ratings = np.random.default_rng(0).integers(1, 11, (len(names), 40)).astype(float)
    return study_scores(Study(names, tuple(map(str, range(40))), TRUTH, ratings))


def test_a_roc_has_a_curve_a_reader_and_the_diagonal():
    readers = scores("Ann", "Ben")["readers"]
    (axis,) = roc_figure(readers).axes
    chance, *curves = axis.lines
    np.testing.assert_array_equal(chance.get_xydata(), [[0, 0], [1, 1]])
    for curve, (name, one) in zip(curves, readers.items(), strict=True):
        np.testing.assert_allclose(curve.get_xydata().T, (one["roc"]["false_alarms"], one["roc"]["hits"]))
        assert curve.get_label() == f"{name}, AUC {one['auc']['mean']:.2f}"
    assert curves[0].get_linestyle() != curves[1].get_linestyle() and axis.get_title() == ""


def test_a_reader_of_one_kind_has_no_curve():
    ratings = np.where(TRUTH, 7.0, np.nan)[None]
    study = Study(("Ann",), tuple(map(str, range(40))), TRUTH, ratings)
    assert len(roc_figure(study_scores(study)["readers"]).axes[0].lines) == 1


def test_a_forest_has_readers_panels_and_the_band():
    ours, paper = scores("Ann", "Ben"), table_scores(recorded("paper")["metrics"]["table_3"])
    (axis,) = accuracy_forest_figure(ours, paper=paper).axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["Ann", "Ben", "all 2", *(f"paper, R{k}" for k in range(1, 6)), "paper, all 5"]
    guess, *marks = axis.lines
    bars, points = marks[::2], marks[1::2]
    assert list(guess.get_xdata()) == [0.5, 0.5]
    found = [*ours["readers"].values(), ours["panel"], *paper["readers"].values(), paper["panel"]]
    for bar, point, one in zip(bars, points, found, strict=True):
        assert list(bar.get_xdata()) == [one["accuracy"]["low"], one["accuracy"]["high"]]
        assert list(point.get_xdata()) == [one["accuracy"]["mean"]]
    assert points[2].get_marker() == points[8].get_marker() == "D" and points[0].get_marker() == "o"
    band = axis.patches[0].get_extents().transformed(axis.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.4, 0.6)) and axis.get_title() == ""


def test_simulated_readers_are_called_so():
    ours = scores("simulated 1", "simulated 2")
    assert roc_figure(ours["readers"]).axes[0].get_title() == SIMULATED
    (axis,) = accuracy_forest_figure(ours).axes
    assert axis.get_title() == SIMULATED and axis.get_yticklabels()[-1].get_text() == "all 2, simulated"
    assert accuracy_forest_figure(scores("Ann", "simulated 1")).axes[0].get_title() == SIMULATED


def test_a_panel_without_shared_images_is_left_out():
    ratings = np.full((2, 40), np.nan)
    ratings[0, :20], ratings[1, 20:] = 8.0, 3.0
    ours = study_scores(Study(("Ann", "Ben"), tuple(map(str, range(40))), TRUTH, ratings))
    (axis,) = accuracy_forest_figure(ours).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Ann", "Ben"]


def test_each_heat_is_drawn_by_its_own_largest_value():
    figure = heat_figure({"a": [[0.0, 2.0], [1.0, 1.0]], "b": [[1.0, 1.0], [1.0, 4.0]]})
    first, second, bar = figure.axes
    np.testing.assert_allclose(first.images[0].get_array(), [[0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(second.images[0].get_array(), [[0.25, 0.25], [0.25, 1]])
    assert (first.get_title(), second.get_title()) == ("a", "b") and bar.get_ylabel() == "share of the largest"
