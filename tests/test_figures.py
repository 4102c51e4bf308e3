"""Figures: one function each returns a `Figure` that shows what it was given and can be saved."""

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from lsn_core.figures import COLOURS, curves, image_row, layers_figure, training_curves


def saved(figure: Figure) -> np.ndarray:
    """The figure as pixels of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("L"))


def shown(axis) -> np.ndarray:
    return np.asarray(axis.images[0].get_array())


def test_a_row_shows_each_image_under_its_title_in_one_grey_scale():
    bright, dark = torch.full((1, 8, 8), 0.9, requires_grad=True), torch.full((8, 8), 0.1)
    figure = image_row({"bright": bright, "dark": dark}, high=2.0)
    assert [axis.get_title() for axis in figure.axes] == ["bright", "dark"]
    assert all(axis.images[0].get_clim() == (0, 2) for axis in figure.axes)
    np.testing.assert_array_equal(shown(figure.axes[1]), dark.numpy())
    pixels = saved(figure)
    left, right = pixels[:, : pixels.shape[1] // 2], pixels[:, pixels.shape[1] // 2 :]
    assert np.median(left) == pytest.approx(0.45 * 255, abs=3) and np.median(right) == pytest.approx(0.05 * 255, abs=3)


def test_layers_are_drawn_a_row_a_joint_and_recomposed():
    layers = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    figure = layers_figure(torch.rand(2, 1, 8, 8), layers)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:5] == ["radiograph", "soft tissue", "lower bone", "upper bone", "recomposed"] and len(titles) == 10
    np.testing.assert_array_equal(shown(figure.axes[7]), layers[1, 1].numpy())
    np.testing.assert_allclose(shown(figure.axes[9]), 1 - np.prod(1 - layers[1].numpy(), axis=0), atol=1e-6)
    assert saved(figure).std() > 10


def test_curves_are_told_apart_by_colour_and_dash_and_labelled():
    figure = curves(
        [0.0, 1.0, 2.0], {"ours": [1.0, np.nan, 3.0], "theirs": [2.0, 2.0, 2.0]}, x_label="step", y_label="dB"
    )
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("step", "dB")
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["ours", "theirs"]
    one, two = axis.lines
    assert one.get_color() != two.get_color() and one.get_linestyle() != two.get_linestyle()
    np.testing.assert_array_equal(one.get_ydata(), [1, np.nan, 3])
    assert saved(figure).std() > 1
    assert curves([0.0, 1.0], {"alone": [0.0, 1.0]}, x_label="", y_label="").axes[0].get_legend() is None


def test_every_series_is_drawn_however_many_there_are():
    names = [f"series {k}" for k in range(len(COLOURS) + 2)]
    figure = curves([0.0, 1.0], {name: [0.0, float(k)] for k, name in enumerate(names)}, x_label="x", y_label="y")
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == names
    assert (lines[0].get_color(), lines[0].get_linestyle()) != (lines[7].get_color(), lines[7].get_linestyle())
    log = [{"step": 0.0} | dict.fromkeys(names, 1.0), {"step": 1.0} | dict.fromkeys(names, 2.0)]
    assert all(axis.lines for axis in training_curves(log, names).axes)


def test_training_curves_show_each_term_where_it_was_logged_and_its_running_mean():
    log = [
        {"step": float(step), "loss_g": float(step % 2)} | ({"psnr": 30.0} if step == 3 else {}) for step in range(40)
    ]
    figure = training_curves(log, ["loss_g", "psnr", "never"], smooth=4)
    assert [axis.get_title() for axis in figure.axes] == ["loss g", "psnr", "never"]
    raw, mean = figure.axes[0].lines
    np.testing.assert_array_equal(raw.get_xdata(), range(40))
    np.testing.assert_allclose(mean.get_ydata(), 0.5)  # over an even number of alternating values
    np.testing.assert_array_equal(mean.get_xdata(), range(3, 40))
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[3.0, 30.0]]
    assert saved(figure).std() > 1
