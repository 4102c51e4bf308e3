"""Figures: one function each, tensors in, a matplotlib `Figure` out; nothing is shown or saved here."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor

from lsn_core.shapes import Image, Layers

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)  # Okabe and Ito: colour-blind safe
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))  # a second cue beside colour


def image_row(images: Mapping[str, Tensor], *, low: float = 0.0, high: float = 1.0, width: float = 2.4) -> Figure:
    """Grey images side by side, (h, w) or (1, h, w) each, titled by their keys, all in one grey scale."""
    figure = Figure(figsize=(width * len(images), width * 1.12), layout="constrained")
    for axis, (title, image) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        axis.imshow(as_plane(image), cmap="gray", vmin=low, vmax=high)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    return figure


def layers_figure(images: Image, layers: Layers) -> Figure:
    """One row a joint: radiograph, soft tissue, lower bone, upper bone, and the recomposed radiograph."""
    titles = ("radiograph", "soft tissue", "lower bone", "upper bone", "recomposed")
    figure = Figure(figsize=(10, 2.1 * len(images)), layout="constrained")
    for k, row in enumerate(figure.subplots(len(images), 5, squeeze=False)):
        recomposed = 1 - (1 - layers[k]).prod(dim=0)
        for axis, title, plane in zip(row, titles, (images[k, 0], *layers[k], recomposed), strict=True):
            axis.imshow(as_plane(plane), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
            if k == 0:
                axis.set_title(title, fontsize=10)
    return figure


def number_grids(grids: Mapping[str, Tensor]) -> Figure:
    """Small grey images side by side, (h, w) or (1, h, w) each, with the value of each pixel written on it."""
    figure = Figure(figsize=(2.6 * len(grids), 2.9), layout="constrained")
    for axis, (title, grid) in zip(figure.subplots(1, len(grids), squeeze=False)[0], grids.items(), strict=True):
        axis.imshow(as_plane(grid), cmap="gray", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(as_plane(grid)):
            colour = "black" if value > 0.5 else "white"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    return figure


def difference_figure(images: Mapping[str, Tensor], *, span: float = 0.1) -> Figure:
    """Two images side by side, and the first less the second in blue (below 0) and red, white at 0, to +-`span`."""
    figure = Figure(figsize=(9.4, 3.2), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    (name, image), (other, against) = ((title, as_plane(tensor)) for title, tensor in images.items())
    for axis, title, plane in ((first, name, image), (second, other, against)):
        axis.imshow(plane, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=10)
    drawn = third.imshow(image - against, cmap="RdBu_r", vmin=-span, vmax=span)
    third.set_title(f"{name} - {other}", fontsize=10)
    figure.colorbar(drawn, ax=third, shrink=0.8)
    for axis in (first, second, third):
        axis.set_axis_off()
    return figure


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    markers: bool = False,
) -> Figure:
    """Lines over one x axis, told apart by colour and dash; NaN leaves a gap."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for k, (name, y) in enumerate(series.items()):
        colour, style = COLOURS[k % 7], STYLES[(k + k // 7) % 7]  # no two alike among 49
        axis.plot(x, y, color=colour, linestyle=style, marker="o" if markers else None, markersize=3.5, label=name)
    finish(axis, x_label, y_label, legend=len(series) > 1)
    return figure


def training_curves(
    log: Sequence[Mapping[str, float]],
    terms: Sequence[str],
    *,
    smooth: int = 10,
    levels: Mapping[str, float] | None = None,
    marks: Sequence[float] = (),
) -> Figure:
    """One small panel for each logged term over steps, three in a row: raw values faint, their running mean strong.

    `levels` draws a dashed line in the panel of a term, as where chance lies; `marks` are steps, dotted in every panel.
    """
    columns, lines = min(3, len(terms)), -(-len(terms) // 3)
    figure = Figure(figsize=(2.9 * columns, 2.5 * lines), layout="constrained")
    for k, (term, colour) in enumerate(zip(terms, cycle(COLOURS), strict=False)):
        axis = figure.add_subplot(lines, columns, k + 1)
        rows = [(row["step"], row[term]) for row in log if term in row]
        steps, values = np.array(rows, dtype=float).reshape(-1, 2).T
        span = max(1, min(smooth, len(values) // 5))  # a handful of values is drawn as it is
        axis.plot(steps, values, color=colour, alpha=0.3 if span > 1 else 1.0)
        if span > 1:
            axis.plot(steps[span - 1 :], np.convolve(values, np.ones(span) / span, "valid"), color=colour)
        if term in (levels or {}):
            axis.axhline(levels[term], color="black", linestyle="--", linewidth=1)
        for step in marks:
            axis.axvline(step, color="grey", linestyle=":", linewidth=1)
        axis.set_title(term.replace("_", " "), fontsize=10)
        finish(axis, "step", "", legend=False)
    return figure


def image_grid(images: Mapping[str, Sequence[Tensor]], *, titles: Sequence[str] = (), width: float = 1.35) -> Figure:
    """A contact sheet: one row of grey images (h, w) or (1, h, w) a key, all in one grey scale; titles for columns."""
    columns = max(map(len, images.values()))
    height = width * len(images) + (0.25 if titles else 0.0)
    figure = Figure(figsize=(width * columns + 0.25, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, (name, some) in zip(axes, images.items(), strict=True):
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, image in zip(row, some, strict=False):
            axis.imshow(as_plane(image), cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(name, fontsize=10)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=10)
    return figure


def labelled(image: Tensor, places: Mapping[str, tuple[float, float]]) -> Figure:
    """A grey image (1, h, w) whose places, (x, y) in px, are named in its margins."""
    plane, figure = as_plane(image), Figure(figsize=(7.8, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.imshow(plane, cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()
    axis.set_xlim(-0.45 * plane.shape[1], 1.45 * plane.shape[1])
    across = sorted(places, key=lambda name: places[name][0])
    half, (height, width) = len(across) // 2, plane.shape
    for names, x, side in ((across[:half], -0.08 * width, "right"), (across[half:], 1.08 * width, "left")):
        ordered = sorted(names, key=lambda name: places[name][1])
        for name, y in zip(ordered, np.linspace(0.06, 0.94, len(ordered)) * height, strict=True):
            arrow = {"arrowstyle": "-|>", "color": COLOURS[4], "shrinkA": 2, "shrinkB": 0}
            axis.annotate(name, places[name], (x, y), arrowprops=arrow, ha=side, va="center", annotation_clip=False)
    return figure


def section_figure(
    bones: Mapping[str, Tensor], levels: Mapping[str, float], image: Tensor, *, field_mm: float
) -> Figure:
    """A cut from the back of the hand to the palm, (n, 2) mm, beside the radiograph (1, h, w) that rays make of it."""
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    cut, film = figure.subplots(1, 2, sharey=True)
    for (name, outline), colour in zip(bones.items(), COLOURS, strict=False):
        cut.fill(*outline.T.numpy(), color=colour, alpha=0.35, linewidth=0, label=name)
    half = field_mm / 2
    film.imshow(as_plane(image), cmap="gray", vmin=0, vmax=1, extent=(-half, half, half, -half))
    ordered = sorted(levels, key=lambda name: levels[name])
    for k, name in enumerate(ordered):
        for axis in (cut, film):
            axis.axhline(levels[name], color=COLOURS[4], linestyle=STYLES[k], linewidth=1.3)
        apart = np.mean([*levels.values()]) + 0.13 * half * (k - (len(levels) - 1) / 2)
        arrow = {"arrowstyle": "-", "color": COLOURS[4]}
        film.annotate(name, (half, levels[name]), (1.1 * half, apart), arrowprops=arrow, va="center")
    for y in np.linspace(-0.9, 0.9, 7) * half:
        cut.annotate("", (half, y), (0.8 * half, y), arrowprops={"arrowstyle": "->", "color": "grey"})
    cut.set(xlim=(-half, half), ylim=(half, -half), aspect="equal", ylabel="mm", xlabel="back of the hand → palm, mm")
    film.set_xlabel("across the finger, mm")
    figure.legend(frameon=False, loc="outside lower left", fontsize=9, ncols=2)
    return figure


def outlined(image: Tensor, masks: Mapping[str, Tensor], *, lines: Mapping[str, np.ndarray] | None = None) -> Figure:
    """A grey image (1, h, w) with the outlines of masks (h, w), and lines given as (n, 2) points x, y in px."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.imshow(as_plane(image), cmap="gray", vmin=0, vmax=1)
    for k, (name, mask) in enumerate(masks.items()):
        axis.contour(as_plane(mask), levels=[0.5], colors=COLOURS[k + 4], linewidths=1.4, linestyles=["--"])
        axis.plot([], [], color=COLOURS[k + 4], linestyle="--", label=name)
    for k, (name, points) in enumerate((lines or {}).items()):
        axis.plot(*np.asarray(points).T, color=COLOURS[k + 1], linewidth=2.2, label=name)
    axis.set_axis_off()
    figure.legend(frameon=False, loc="outside right center")
    return figure


def agreement(truth: Sequence[float], measured: Mapping[str, Sequence[float]], *, x_label: str, y_label: str) -> Figure:
    """Measured values over the true ones, a point each, with the diagonal on which they would agree."""
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.axline((0, 0), slope=1, color="grey", linewidth=1)
    for colour, marker, (name, values) in zip(COLOURS, "osD^v<>", measured.items(), strict=False):
        axis.plot(truth, values, marker, color=colour, markersize=4, alpha=0.6, label=name)
    finish(axis, x_label, y_label, legend=True)
    return figure


def bands(comparisons: Mapping[str, Mapping[str, Any]], *, a: str, b: str) -> Figure:
    """Where the radiographs of `a` lie on the 5-95 % band of `b`, for each statistic of a `lsn data compare`.

    Every row is scaled by the band of `b`, which then runs from 0 to 1; a row beyond 3 bands is cut.
    """
    some = {name: one for name, one in comparisons.items() if one["a"]["n"] and one["b"]["n"]}
    shown = {name: one for name, one in some.items() if one["b"]["p95"] > one["b"]["p5"]}  # else there is no scale
    figure = Figure(figsize=(6.4, 0.8 + 0.26 * len(shown)), layout="constrained")
    axis = figure.subplots()
    axis.axvspan(0, 1, color="0.88", label=f"{b}: nine in ten")
    for y, one in enumerate(shown.values()):
        low, high = one["b"]["p5"], one["b"]["p95"]
        first, middle, last = ((one["a"][key] - low) / (high - low) for key in ("p5", "mean", "p95"))
        axis.plot([first, last], [y, y], color=COLOURS[0], linewidth=2, label=f"{a}: nine in ten" if y == 0 else None)
        axis.plot(middle, y, "o", color=COLOURS[0], markersize=5, label=f"{a}: mean" if y == 0 else None)
        axis.plot(
            (one["b"]["mean"] - low) / (high - low), y, "|", color="black", label=f"{b}: mean" if y == 0 else None
        )
    axis.set(yticks=range(len(shown)), yticklabels=shown, xlim=(-1, 2), ylim=(len(shown) - 0.5, -0.5))
    finish(axis, f"place on the band of {b}", "", legend=False)
    figure.legend(frameon=False, loc="outside right center", fontsize=9)
    return figure


FINGER_RAYS = {  # joints of a left hand seen from the back, from the wrist to the fingertip; mm right and up
    "thumb": ((18, 14), (45, 48), (62, 74), (74, 94)),
    "index": ((8, 18), (22, 84), (28, 126), (31, 150), (32, 168)),
    "middle": ((1, 18), (3, 86), (4, 132), (4, 160), (4, 178)),
    "ring": ((-6, 17), (-14, 81), (-19, 122), (-21, 148), (-22, 166)),
    "small": ((-13, 15), (-30, 71), (-39, 103), (-43, 121), (-45, 137)),
}


def hand_map(*, field_mm: float) -> Figure:
    """A drawn left hand, palm down: its finger bones, and a frame of `field_mm` around every joint of this book."""
    figure = Figure(figsize=(4.6, 5.6), layout="constrained")
    axis = figure.subplots()
    axis.fill([-26, 26, 46, 24, 3, -15, -32], [0, 0, 46, 88, 92, 86, 74], color="0.85", linewidth=0)
    for name, joints in FINGER_RAYS.items():
        axis.plot(*np.array(joints).T, color="0.85", linewidth=24, solid_capstyle="round", solid_joinstyle="round")
        for start, end in pairwise(np.array(joints, dtype=float)):
            axis.fill(*_bone(start, end).T, color="white", edgecolor="0.35", linewidth=0.8, zorder=2)
        axis.add_patch(_frame(np.array(joints[:3], dtype=float), field_mm))
        axis.annotate(name, joints[-1], (0, 17), textcoords="offset points", ha="center")
    axis.set(aspect="equal", xlim=(-66, 98), ylim=(-2, 200))
    axis.set_axis_off()
    return figure


def _bone(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Outline (n, 2) of a drawn bone between two joints: wide at its ends, narrow in its middle."""
    along = np.linspace(-1, 1, 41)
    half = (2.6 + 2.6 * along**4) * (1 - np.abs(along) ** 24).clip(0) ** 0.5
    length = np.linalg.norm(end - start)
    direction = (end - start) / length
    spine = (start + end) / 2 + np.outer(along * (length / 2 - 1.2), direction)
    aside = np.outer(half, direction[::-1] * (-1, 1))
    return np.concatenate((spine + aside, (spine - aside)[::-1]))


def _frame(joints: np.ndarray, side: float) -> Polygon:
    """The square frame around the second of three joints, turned to the finger."""
    direction = (joints[2] - joints[1]) / np.linalg.norm(joints[2] - joints[1])
    aside = direction[::-1] * (-1, 1)
    corners = [joints[1] + side / 2 * (i * aside + j * direction) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return Polygon(corners, fill=False, edgecolor=COLOURS[1], linewidth=1.8, zorder=3)


def finish(axis: Axes, x_label: str, y_label: str, *, legend: bool) -> None:
    """Labels, a light grid, no box."""
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False)


def as_plane(image: Tensor) -> np.ndarray:
    """An image as a (h, w) array."""
    return image.detach().cpu().reshape(image.shape[-2:]).numpy()
