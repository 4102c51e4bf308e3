"""Figures: one function each, tensors in, a matplotlib `Figure` out; nothing is shown or saved here."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
        axis.imshow(_plane(image), cmap="gray", vmin=low, vmax=high)
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
            axis.imshow(_plane(plane), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
            if k == 0:
                axis.set_title(title, fontsize=10)
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
    _finish(axis, x_label, y_label, legend=len(series) > 1)
    return figure


def training_curves(log: Sequence[Mapping[str, float]], terms: Sequence[str], *, smooth: int = 10) -> Figure:
    """One small panel for each logged term over steps: raw values faint, their running mean strong."""
    figure = Figure(figsize=(2.9 * len(terms), 2.6), layout="constrained")
    for axis, term, colour in zip(
        figure.subplots(1, len(terms), squeeze=False)[0], terms, cycle(COLOURS), strict=False
    ):
        rows = [(row["step"], row[term]) for row in log if term in row]
        steps, values = np.array(rows, dtype=float).reshape(-1, 2).T
        span = max(1, min(smooth, len(values) // 5))  # a handful of values is drawn as it is
        axis.plot(steps, values, color=colour, alpha=0.3 if span > 1 else 1.0)
        if span > 1:
            axis.plot(steps[span - 1 :], np.convolve(values, np.ones(span) / span, "valid"), color=colour)
        axis.set_title(term.replace("_", " "), fontsize=10)
        _finish(axis, "step", "", legend=False)
    return figure


def _finish(axis: Axes, x_label: str, y_label: str, *, legend: bool) -> None:
    """Labels, a light grid, no box."""
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False)


def _plane(image: Tensor) -> np.ndarray:
    """An image as a (h, w) array."""
    return image.detach().cpu().reshape(image.shape[-2:]).numpy()
