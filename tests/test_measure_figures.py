"""Figures of measurements: what is drawn is what was given."""

import numpy as np
import torch

from lsn_core.measure_figures import bland_altman_figure, error_map_figure, forest_figure, scatter_figure


def test_error_maps_are_logarithms_of_squares_on_one_scale():
    image = torch.full((1, 1, 8, 8), 0.5)
    figure = error_map_figure(image, {"same": image, "off": image + 0.1}, most=1e-1)
    first, same, off, bar = figure.axes
    np.testing.assert_allclose(off.images[0].get_array(), -2.0, atol=1e-5)
    assert same.images[0].get_clim() == off.images[0].get_clim() == (-7.0, -1.0)
    assert off.get_title() == "off\nMSE 1.0e-02" and bar.get_ylabel() == "log10 of squared error"
    assert first.images[0].get_clim() == (0, 1)


def test_bland_altman_draws_per_cent_and_three_lines():
    limits = {"a": {name: {"value": v} for name, v in (("bias", 0.1), ("lower_limit", -0.1), ("upper_limit", 0.3))}}
    (axis,) = bland_altman_figure([1.0, 2.0], {"a": [0.05, 0.15]}, limits).axes
    points, *lines = axis.lines
    np.testing.assert_allclose(points.get_xydata(), [[1, 5], [2, 15]])
    np.testing.assert_allclose([line.get_ydata()[0] for line in lines], [10, -10, 30])


def test_a_forest_has_a_row_a_difference_and_shades_the_better_side():
    one = {"mean": 1.0, "low": 0.5, "high": 1.5, "seeds": [0.8, 1.2]}
    contrasts = {"c": {"tells": "this against that", "m": one}, "d": {"tells": "none", "m": one | {"mean": None}}}
    (axis,) = forest_figure(contrasts, {"m": ("error", -1)}).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["this against that", "none"]
    zero, bar, point, seeds = axis.lines
    assert list(bar.get_xdata()) == [0.5, 1.5] and list(point.get_xdata()) == [1.0]
    assert list(seeds.get_xdata()) == [0.8, 1.2] and list(zero.get_xdata()) == [0, 0]
    assert axis.patches[0].get_extents().x0 < axis.patches[0].get_extents().x1
    low, high = axis.get_xlim()
    assert low == -high and axis.patches[0].get_bbox().x0 <= 0


def test_scatters_share_marks_over_panels():
    board = {name: {"a": {"mean": k}, "b": {"mean": 2 * k}, "j": {"mean": k**2}} for k, name in enumerate("xyz")}
    figure = scatter_figure(board, {"a": "first", "b": "second"}, judge="j", judge_label="error")
    first, second = figure.axes
    assert [line.get_xydata()[0].tolist() for line in second.lines] == [[0, 0], [2, 1], [4, 4]]
    for one, other in zip(first.lines, second.lines, strict=True):
        assert (one.get_color(), one.get_marker()) == (other.get_color(), other.get_marker())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "y", "z"]
    assert (first.get_xlabel(), first.get_ylabel()) == ("first", "error")
