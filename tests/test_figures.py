"""Figures: one function each returns a `Figure` that shows what it was given and can be saved."""

import io

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lsn_core.figures import (
    COLOURS,
    FINGER_RAYS,
    agreement,
    bands,
    curves,
    difference_figure,
    hand_map,
    image_grid,
    image_row,
    labelled,
    layers_figure,
    number_grids,
    outlined,
    section_figure,
    training_curves,
)


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


def test_a_grid_writes_each_value_on_its_pixel_so_that_it_can_be_read():
    grid = torch.tensor([[0.0, 0.25], [0.5, 1.0], [0.75, 0.3]])
    figure = number_grids({"first": grid, "second": 1 - grid})
    assert [axis.get_title() for axis in figure.axes] == ["first", "second"]
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in figure.axes[0].texts}
    assert len(texts) == 6 and texts[1, 0] == ("0.25", "white") and texts[0, 2] == ("0.75", "black")
    assert saved(figure).std() > 10


def test_a_difference_is_the_first_less_the_second_and_white_where_they_agree():
    one, two = torch.full((1, 8, 8), 0.5), torch.full((1, 8, 8), 0.5)
    one[..., :4] += 0.05
    figure = difference_figure({"made": one, "truth": two}, span=0.2)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["made", "truth", "made - truth"]
    np.testing.assert_allclose(shown(figure.axes[2]), (one - two)[0].numpy())
    drawn = figure.axes[2].images[0]
    left, right = (drawn.cmap(drawn.norm(value)) for value in (0.05, 0.0))
    assert drawn.get_clim() == (-0.2, 0.2) and min(right[:3]) > 0.95 and left[0] > left[2] + 0.05
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


def test_training_curves_show_chance_in_one_panel_and_stages_in_all():
    log = [{"step": step, "one": 1.0, "two": 2.0} for step in range(1, 9)]
    one, two = training_curves(log, ["one", "two"], levels={"two": 0.7}, marks=(3, 5)).axes
    assert [line.get_xdata()[0] for line in one.lines[-2:]] == [3, 5] and len(two.lines) == len(one.lines) + 1
    assert [line.get_ydata()[0] for line in two.lines if line.get_linestyle() == "--"] == [0.7]


def test_a_grid_shows_each_row_under_the_columns_titles():
    images = {"clean": [torch.zeros(1, 8, 8), torch.ones(8, 8)], "short": [torch.full((8, 8), 0.5)]}
    figure = image_grid(images, titles=("dark", "bright"))
    assert [axis.get_title() for axis in figure.axes] == ["dark", "bright", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["clean", "", "short", ""]
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 0]
    np.testing.assert_array_equal(shown(figure.axes[1]), np.ones((8, 8)))
    assert saved(figure).std() > 1


def test_every_part_is_named_once_and_outside_the_image():
    places = {"left": (10.0, 50.0), "right": (90.0, 20.0), "low": (30.0, 90.0)}
    figure = labelled(torch.zeros(1, 100, 100), places)
    named = {text.get_text(): text for text in figure.axes[0].texts}
    assert named.keys() == places.keys()
    assert all(tuple(named[name].xy) == place for name, place in places.items())
    assert all(not 0 <= text.xyann[0] <= 100 for text in named.values())
    corners = [text.get_window_extent(FigureCanvasAgg(figure).get_renderer()) for text in named.values()]
    width = figure.get_figwidth() * figure.dpi
    assert saved(figure).std() > 1 and all(box.x0 >= 0 and box.x1 <= width for box in corners)


def test_a_cut_and_its_radiograph_share_their_heights():
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0]])
    figure = section_figure({"bone": square}, {"top": -1.0, "bottom": 1.0}, torch.zeros(1, 8, 8), field_mm=20.0)
    cut, film = figure.axes
    assert cut.get_ylim() == film.get_ylim() == (10, -10)
    assert all([line.get_ydata()[0] for line in axis.lines] == [-1, 1] for axis in (cut, film))
    assert cut.patches[0].get_xy()[:3].tolist() == square.tolist() and saved(figure).std() > 1


def test_outlines_follow_the_mask_and_lines_their_points():
    mask = torch.zeros(8, 8)
    mask[2:6, 2:6] = 1
    points = np.array([[0.0, 1.0], [3.0, 4.0]])
    figure = outlined(torch.zeros(1, 8, 8), {"bone": mask}, lines={"edge": points})
    (axis,) = figure.axes
    drawn = np.concatenate([path.vertices for path in axis.collections[0].get_paths()])
    assert drawn.min() == pytest.approx(1.5) and drawn.max() == pytest.approx(5.5)
    np.testing.assert_array_equal(axis.lines[-1].get_xydata(), points)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bone", "edge"]


def test_agreement_draws_every_pair_and_the_diagonal():
    figure = agreement([0.0, 1.0], {"one": [0.1, 0.9], "two": [1.0, 2.0]}, x_label="true", y_label="measured")
    (axis,) = figure.axes
    diagonal, one, two = axis.lines
    assert diagonal.get_slope() == 1 and one.get_marker() != two.get_marker()
    np.testing.assert_array_equal(two.get_xydata(), [[0, 1], [1, 2]])


def test_bands_are_scaled_by_those_of_b_and_leave_out_what_has_none():
    a, b = {"n": 3, "mean": 6.0, "p5": 4.0, "p95": 7.0}, {"n": 5, "mean": 5.0, "p5": 4.0, "p95": 6.0}
    figure = bands({"width": {"a": a, "b": b}, "absent": {"a": a | {"n": 0}, "b": b}}, a="phantoms", b="real")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["width"]
    span, mean, other = axis.lines
    assert (
        span.get_xdata().tolist() == [0, 1.5] and list(mean.get_xdata()) == [1.0] and list(other.get_xdata()) == [0.5]
    )


def test_the_hand_has_five_fingers_of_nineteen_bones_and_a_frame_around_each_knuckle():
    figure = hand_map(field_mm=21.0)
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["thumb", "index", "middle", "ring", "small"]
    frames = [patch for patch in axis.patches if not patch.get_fill()]
    assert len(frames) == 5 and len(axis.patches) == 5 + 19 + 1
    for frame, joints in zip(frames, FINGER_RAYS.values(), strict=True):
        corners = frame.get_xy()[:4]
        np.testing.assert_allclose(corners.mean(axis=0), joints[1])
        np.testing.assert_allclose(np.linalg.norm(np.diff(corners, axis=0), axis=1), 21.0)
