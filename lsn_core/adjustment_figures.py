"""Figures of adjusted joints: how joint space widths are distributed, before and after synthesis."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lsn_core.figures import COLOURS, finish

BIN_MM = 0.4375 / 2  # half of an SvdH-like class


def histogram_figure(widths_mm: Mapping[str, Sequence[float]], *, cuts_mm: Sequence[float]) -> Figure:
    """Shares of joint space widths in mm, one panel for each set, with dashed lines at the cuts between classes."""
    figure = Figure(figsize=(3.4 * len(widths_mm), 2.9), layout="constrained")
    axes = figure.subplots(1, len(widths_mm), sharex=True, sharey=True, squeeze=False)[0]
    every = np.concatenate([np.asarray(some, dtype=float) for some in widths_mm.values()])
    edges = np.arange(np.floor(every.min() / BIN_MM), np.ceil(every.max() / BIN_MM) + 1) * BIN_MM
    for axis, colour, (name, some) in zip(axes, COLOURS, widths_mm.items(), strict=False):
        axis.hist(some, bins=edges, weights=np.full(len(some), 1 / len(some)), color=colour, alpha=0.7)
        for cut in cuts_mm:
            axis.axvline(cut, color="black", linestyle="--", linewidth=0.8)
        axis.set_title(f"{name}, n = {len(some)}", fontsize=10)
        finish(axis, "joint space width, mm", "", legend=False)
    axes[0].set_ylabel("share of images")
    return figure
