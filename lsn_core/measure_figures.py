"""Figures of measurements: where an error is, how far masses agree, what differs, and which numbers rank alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lsn_core.figures import COLOURS, as_plane, finish
from lsn_core.shapes import Image

MARKERS = "osD^v<>"


def error_map_figure(image: Image, recomposed: Mapping[str, Image], *, most: float) -> Figure:
    """A radiograph (1, 1, h, w), and its squared error in what each method gives back, on one logarithmic scale.

    The scale runs over six decades up to `most`; what lies below is drawn in its darkest colour.
    """
    figure = Figure(figsize=(2.3 * (1 + len(recomposed)) + 0.8, 2.7), layout="constrained")
    first, *axes = figure.subplots(1, 1 + len(recomposed), squeeze=False)[0]
    first.imshow(as_plane(image), cmap="gray", vmin=0, vmax=1)
    first.set_title("radiograph", fontsize=10)
    first.set_axis_off()
    for axis, (name, other) in zip(axes, recomposed.items(), strict=True):
        squares = (as_plane(other) - as_plane(image)) ** 2
        high = np.log10(most)
        drawn = axis.imshow(np.log10(squares.clip(1e-30)), cmap="magma", vmin=high - 6, vmax=high)
        axis.set_title(f"{name}\nMSE {squares.mean():.1e}", fontsize=10)
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="log10 of squared error")
    return figure


def bland_altman_figure(
    truth: Sequence[float], measured: Mapping[str, Sequence[float]], limits: Mapping[str, Mapping[str, Any]]
) -> Figure:
    """Relative errors over the true value, one panel a method, with the bias (solid) and 95 % limits (dashed)."""
    figure = Figure(figsize=(2.8 * len(measured), 3.2), layout="constrained")
    axes = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axis, colour, (name, errors) in zip(axes, COLOURS, measured.items(), strict=False):
        axis.plot(truth, 100 * np.asarray(errors), "o", color=colour, markersize=3, alpha=0.6)
        for line, style in (("bias", "-"), ("lower_limit", "--"), ("upper_limit", "--")):
            axis.axhline(100 * limits[name][line]["value"], color="black", linestyle=style, linewidth=1)
        axis.set_title(name, fontsize=10)
        finish(axis, "true mass (absorbance x px)", "", legend=False)
    axes[0].set_ylabel("error, %")
    return figure


def forest_figure(contrasts: Mapping[str, Mapping[str, Any]], panels: Mapping[str, tuple[str, int]]) -> Figure:
    """Differences with their 95 % intervals, one row each and one panel a metric; the better side of 0 is shaded.

    `panels` holds of each metric its heading, and 1 where more is better or -1 where less is.
    """
    figure = Figure(figsize=(3.2 + 2.3 * len(panels), 0.9 + 0.38 * len(contrasts)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (metric, (heading, better)) in zip(axes, panels.items(), strict=True):
        _row_of_intervals(axis, [one[metric] for one in contrasts.values()])
        reach = max(map(abs, axis.get_xlim()))
        axis.set_xlim(-reach, reach)
        axis.axvspan(0, better * reach, color="0.92", zorder=0)
        axis.set_title(heading, fontsize=10)
    axes[0].set_yticks(range(len(contrasts)), [one["tells"] for one in contrasts.values()], fontsize=9)
    axes[0].set_ylim(len(contrasts) - 0.5, -0.5)
    return figure


def _row_of_intervals(axis: Axes, found: Sequence[Mapping[str, Any]]) -> None:
    """A point and a bar for each, from top to bottom, around a line at 0; the values of single seeds are faint."""
    axis.axvline(0, color="black", linewidth=1)
    for y, one in enumerate(found):
        if one["mean"] is not None:
            axis.plot([one["low"], one["high"]], [y, y], color=COLOURS[0], linewidth=2)
            axis.plot(one["mean"], y, "o", color=COLOURS[0], markersize=5)
            axis.plot(one["seeds"], [y] * len(one["seeds"]), "|", color="black", markersize=7, alpha=0.5)
    finish(axis, "", "", legend=False)


def scatter_figure(
    board: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, str], *, judge: str, judge_label: str
) -> Figure:
    """How each number goes with the `judge`, one panel a metric and one point a variant; points share their marks."""
    figure = Figure(figsize=(2.5 * len(metrics), 3.9), layout="constrained")
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, (metric, heading) in zip(axes, metrics.items(), strict=True):
        for k, (name, found) in enumerate(board.items()):
            marks = {"color": COLOURS[k % 7], "marker": MARKERS[(k + k // 7) % 7], "linestyle": ""}
            axis.plot(found[metric]["mean"], found[judge]["mean"], **marks, markersize=6, label=name)
        finish(axis, heading, "", legend=False)
    axes[0].set_ylabel(judge_label)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, loc="outside lower center", fontsize=8, ncols=4)
    return figure
