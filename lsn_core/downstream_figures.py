"""Figures of the downstream chapters: annotation curves, arms against the control, confusion, agreement, coverage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from lsn_core.downstream import CONTROL, PRETRAINED
from lsn_core.downstream_tables import chosen
from lsn_core.figures import COLOURS, finish

LOOKS = {CONTROL: (COLOURS[0], "-", "o"), PRETRAINED: (COLOURS[1], "--", "s")}
NAMES = {CONTROL: "radiographs alone", PRETRAINED: "pre-trained on synthetic joints"}


def annotation_curves(found: Mapping[str, Mapping[str, Any]], task: str, error: str, *, y_label: str) -> Figure:
    """One panel a cohort: the error of both arms of the compact network over the share of annotated joints.

    Bands are 95 % intervals; the dotted line is what the control reaches with all joints.
    """
    figure = Figure(figsize=(4.4 * len(found), 3.5), layout="constrained")
    for axis, (cohort, results) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for arm, (colour, style, marker) in LOOKS.items():
            some = chosen(results["settings"], task=task, network="compact", arm=arm)
            some = sorted(some, key=lambda one: one["share"])
            shares = [100 * one["share"] for one in some]
            mean, low, high = ([one["errors"][error][key] for one in some] for key in ("mean", "low", "high"))
            axis.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(shares, mean, color=colour, linestyle=style, marker=marker, markersize=4, label=NAMES[arm])
            if arm == CONTROL:
                axis.axhline(mean[-1], color="black", linestyle=":", linewidth=1)
        _log_percent(axis, shares)
        axis.set_title(cohort, fontsize=10)
        finish(axis, "annotated joints, %", y_label, legend=axis is figure.axes[0])
    return figure


def _log_percent(axis: Axes, shares: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each share."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(shares)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def arms_figure(found: Mapping[str, Sequence[Mapping[str, Any]]], *, x_label: str) -> Figure:
    """One panel a cohort: each arm's error less the control's, with its 95 % interval; left of 0 is better."""
    names = list(dict.fromkeys(one["arm"] for some in found.values() for one in some))
    figure = Figure(figsize=(4.4 * len(found), 0.9 + 0.33 * len(names)), layout="constrained")
    for axis, (cohort, some) in zip(
        figure.subplots(1, len(found), squeeze=False, sharey=True)[0], found.items(), strict=True
    ):
        for one in some:
            place = names.index(one["arm"])
            axis.plot([one["low"], one["high"]], [place, place], color=COLOURS[0], linewidth=2)
            axis.plot(one["mean"], place, "o", color=COLOURS[0], markersize=5)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(cohort, fontsize=10)
        finish(axis, x_label, "", legend=False)
    return figure


def confusion_figure(tables: Mapping[str, Sequence[Sequence[int]]]) -> Figure:
    """One grid a table: of each true class (row) the share that is graded as each (column), in percent."""
    figure = Figure(figsize=(3.0 * len(tables), 3.1), layout="constrained")
    for axis, (title, counts) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        table = np.array(counts, float)
        shares = 100 * table / table.sum(axis=1, keepdims=True).clip(1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (row, place), share in np.ndenumerate(shares):
            colour = "white" if share > 50 else "black"
            axis.text(place, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(table)))
        axis.set_yticks(range(len(table)))
        axis.set_title(title, fontsize=10)
        finish(axis, "graded as", "true class", legend=False)
        axis.grid(False)
    return figure


def differences_figure(true: Sequence[float], found: Mapping[str, Sequence[float]]) -> Figure:
    """Bland and Altman's plot of each measurement in mm: the difference over the mean, bias and 95 % limits."""
    figure = Figure(figsize=(3.6 * len(found), 3.2), layout="constrained")
    for axis, (name, values) in zip(
        figure.subplots(1, len(found), squeeze=False, sharey=True)[0], found.items(), strict=True
    ):
        values, truth = np.asarray(values), np.asarray(true)
        away = values - truth
        axis.scatter((values + truth) / 2, away, s=9, color=COLOURS[0], alpha=0.6, linewidths=0)
        for level, style in ((away.mean(), "-"), *((away.mean() + k * away.std(ddof=1), "--") for k in (-1.96, 1.96))):
            axis.axhline(level, color="black", linestyle=style, linewidth=1)
        axis.set_title(name, fontsize=10)
        finish(axis, "mean of both, mm", "measured less true, mm" if axis is figure.axes[0] else "", legend=False)
    return figure


def coverage_figure(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """One panel a cohort: how joint space widths are distributed in test and synthetic images, in percent a bin."""
    figure = Figure(figsize=(4.4 * len(found), 3.0), layout="constrained")
    for axis, (cohort, one) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for k, (name, style) in enumerate({"train": ":", "test": "-", "synthetic": "--"}.items()):
            axis.stairs(100 * np.array(one[name]), one["edges"], color=COLOURS[k], linestyle=style, label=name)
        axis.set_title(f"{cohort}: overlap {one['overlap']:.2f}", fontsize=10)
        finish(axis, "joint space width, mm", "images, %", legend=True)
    return figure
