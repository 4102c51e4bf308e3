"""Figures of adjusted joints hold what they are given."""

import matplotlib.pyplot as plt
import pytest

from lsn_core.adjustment_figures import BIN_MM, histogram_figure


def test_histograms_are_shares_and_cuts_are_where_they_are_told():
    figure = histogram_figure({"a": [0.1, 0.1, 1.0, 1.6], "b": [0.05, 0.3, 0.6, 0.9]}, cuts_mm=(0.4375, 1.75))
    for axis, name in zip(figure.axes, ("a, n = 4", "b, n = 4"), strict=True):
        assert axis.get_title() == name
        assert sum(bar.get_height() for bar in axis.patches) == pytest.approx(1)
        assert [line.get_xdata()[0] for line in axis.lines] == [0.4375, 1.75]
    tallest = max(figure.axes[0].patches, key=lambda bar: bar.get_height())
    assert tallest.get_height() == 0.5 and tallest.get_x() <= 0.1 <= tallest.get_x() + BIN_MM
    plt.close(figure)
