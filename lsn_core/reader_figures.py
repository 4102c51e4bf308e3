"""Figures of a reader study: how ratings tell real from synthetic, and accuracies beside what guessing would bring."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lsn_core.figures import COLOURS, STYLES, finish

MARKERS = "osD^v<>"
SIMULATED = "simulated: random numbers, nobody has looked at an image"


def roc_figure(readers: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Hit over false alarm rate at every threshold of each reader's ratings, with the diagonal of chance.

    `readers` are those of `study_scores`; one who saw images of one kind only has no curve.
    """
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="chance")
    for k, (name, one) in enumerate(readers.items()):
        if one["roc"]["hits"]:
            marks = {"color": COLOURS[k % 7], "linestyle": STYLES[(k + k // 7) % 7], "marker": MARKERS[k % 7]}
            label = f"{name}, AUC {one['auc']['mean']:.2f}"
            axis.plot(one["roc"]["false_alarms"], one["roc"]["hits"], **marks, markersize=4, label=label)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    finish(axis, "false alarms: real called synthetic", "hits: synthetic called synthetic", legend=True)
    _warn(axis, any(one["simulated"] for one in readers.values()))
    return figure


def accuracy_forest_figure(ours: Mapping[str, Any], *, paper: Mapping[str, Any] | None = None) -> Figure:
    """Accuracy and 95 % interval of each reader, and of all together (diamond); the paper's below, if given.

    `ours` are `study_scores`, `paper` are `table_scores`. The band shaded is where accuracy equals guessing for all
    practical purposes: equivalence is shown by a 90 % interval inside it, not by one that holds 0.5.
    """
    rows = [*_rows(ours, 0), *([] if paper is None else _rows(paper, 1))]
    figure = Figure(figsize=(6.4, 1.3 + 0.32 * len(rows)), layout="constrained")
    axis = figure.subplots()
    margin = next(iter(ours["readers"].values()))["equivalence"]["margin"]
    axis.axvspan(0.5 - margin, 0.5 + margin, color="0.9", zorder=0)
    axis.axvline(0.5, color="black", linewidth=1)
    for y, (_, accuracy, colour, marker) in enumerate(rows):
        axis.plot([accuracy["low"], accuracy["high"]], [y, y], color=colour, linewidth=2)
        axis.plot(accuracy["mean"], y, marker, color=colour, markersize=7 if marker == "D" else 5)
    axis.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=9)
    axis.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1))
    finish(axis, f"accuracy; shaded: within {margin:.2f} of guessing", "", legend=False)
    _warn(axis, bool(ours["panel"]["simulated"]))
    return figure


def _rows(scores: Mapping[str, Any], which: int) -> list[tuple[str, Mapping[str, Any], str, str]]:
    """Label, accuracy, colour and marker of every reader of a study, and of its panel; `which` is 1 of the paper's."""
    prefix, panel = ("paper, " if which else ""), scores["panel"]
    rows = [(f"{prefix}{name}", one["accuracy"], COLOURS[which], "o") for name, one in scores["readers"].items()]
    if panel["accuracy"] is None:
        return rows
    simulated = ", simulated" if panel.get("simulated") else ""
    return [*rows, (f"{prefix}all {panel['readers']}{simulated}", panel["accuracy"], COLOURS[which], "D")]


def _warn(axis: Axes, simulated: bool) -> None:
    """Say over the panel that readers are simulated, where they are."""
    if simulated:
        axis.set_title(SIMULATED, fontsize=10, color=COLOURS[1])


def heat_figure(heats: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Where classifiers look: mean size of the answers' gradient over the frame, each map by its largest value."""
    figure = Figure(figsize=(2.9 * len(heats) + 0.7, 2.9), layout="constrained")
    axes = figure.subplots(1, len(heats), squeeze=False)[0]
    for axis, (name, heat) in zip(axes, heats.items(), strict=True):
        plane = np.asarray(heat)
        drawn = axis.imshow(plane / plane.max(), cmap="magma", vmin=0, vmax=1)
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the largest")
    return figure
