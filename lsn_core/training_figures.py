"""A training on a board: its schedule as a table, its three players drawn, and its curves while it runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from lsn_core.figures import COLOURS, training_curves
from lsn_core.results import table
from lsn_core.stage import Stage

LEARNS = {"facecolor": COLOURS[4], "edgecolor": "black", "boxstyle": "round,pad=0.5"}
FROZEN = {"facecolor": "0.88", "edgecolor": "0.5", "boxstyle": "round,pad=0.5"}
PICTURE = {"facecolor": "white", "edgecolor": COLOURS[0], "boxstyle": "square,pad=0.4"}
ANSWER = {"facecolor": "white", "edgecolor": "white", "boxstyle": "square,pad=0.1"}
CRITICS = {  # what each is shown, and what it is to answer
    "S": ("image that no\nnetwork made", "$N_S$\nlearns", "flesh, lower and\nupper bone: where?"),
    "D": ("soft tissue\nfrom step 1", "$N_D$\nlearns", "bones: where?"),
}
TERMS = {  # height at which it stands: the way from the layers, the critic on it, the terms at its end
    3.4: ("bones moved,\nrecomposed", "$N_S$\nfrozen", "$L_1$: each bone found\nwhere it was moved to"),
    2.0: ("recomposed", None, "$L_0$: the image again\n$L_3$: each bone as known"),
    0.6: ("soft tissue\nalone", "$N_D$\nfrozen", "$L_2$: no bone found"),
}


def schedule(stages: Sequence[Stage]) -> str:
    """Algorithm 1 as a table: a column for each stage, or two where N_D joins during it; epochs count from 1."""
    columns = [column for stage in stages for column in _columns(stage)]
    used = [name for name in columns[0] if any(column[name] != "0" for column in columns)]
    return table([[name, *(column[name] for column in columns)] for name in used])


def _columns(stage: Stage) -> Iterator[dict[str, str]]:
    """What stands in the columns of a stage, by row."""
    switch = min(stage.switch, stage.epochs)
    for first, last, weights in ((0, switch, stage.before), (switch, stage.epochs, stage.after)):
        if first < last:
            plain = {
                "epochs": f"{first + 1}-{last}",
                "joints": stage.joints,
                "N_D": "plays" if first == stage.switch else "waits",
            }
            yield {"": stage.name} | plain | {name: f"{weight:g}" for name, weight in vars(weights).items()}


def game_figure() -> Figure:
    """Algorithm 1's three steps: who learns, who is frozen, and what flows between them."""
    figure = Figure(figsize=(9.4, 5.6), layout="constrained")
    axes = figure.subplot_mosaic([["G", "G"], ["S", "D"]], height_ratios=[4, 1.6])
    _generator_step(_board(axes["G"], "step 1: the generator learns; gradients run back along the arrows", 10, 4))
    for name, step in (("S", "step 2: the segmentation network learns"), ("D", "step 3: the discriminator learns")):
        _critic_step(_board(axes[name], step, 5, 1.6), CRITICS[name])
    return figure


def _generator_step(axis: Axes) -> None:
    """G's layers go three ways, each to terms of its loss."""
    image = _box(axis, 0.9, 2, "image and\noutlines", PICTURE)
    network = _box(axis, 2.6, 2, "$G$\nlearns", LEARNS)
    layers = _box(axis, 4.1, 2, "three\nlayers", PICTURE)
    _arrows(axis, image, network, layers)
    for height, (made, critic, term) in TERMS.items():
        way = [_box(axis, 5.7, height, made, PICTURE)]
        way += [_box(axis, 7.3, height, critic, FROZEN)] if critic else []
        _arrows(axis, layers, *way, _box(axis, 9.1, height, term, ANSWER))


def _critic_step(axis: Axes, words: tuple[str, str, str]) -> None:
    """A critic looks at a picture and answers; the outlines tell it whether it is right."""
    looks = zip((0.9, 2.6, 4.2), words, (PICTURE, LEARNS, ANSWER), strict=True)
    _arrows(axis, *[_box(axis, x, 0.8, text, look) for x, text, look in looks])


def _board(axis: Axes, title: str, width: float, height: float) -> Axes:
    """Empty axes of that many units."""
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_axis_off()
    return axis


def _box(axis: Axes, x: float, y: float, text: str, look: Mapping[str, Any]) -> Text:
    """Text in a box around a place."""
    return axis.text(x, y, text, ha="center", va="center", fontsize=10, bbox=look)


def _arrows(axis: Axes, *boxes: Text) -> None:
    """An arrow from each box to the next, from edge to edge."""
    for first, second in pairwise(boxes):
        ends = {"patchA": first.get_bbox_patch(), "patchB": second.get_bbox_patch()}
        look = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 2, "shrinkB": 2, **ends}
        axis.annotate("", second.get_position(), first.get_position(), arrowprops=look, zorder=4)


class Live:
    """The log of a training, whose curves a notebook draws anew every few steps: a report for `train`.

    `measure` gives the numbers of held-out joints, which join the log as held_out_NAME; `levels` and `marks` are those
    of `training_curves`.
    """

    def __init__(
        self,
        terms: Sequence[str],
        *,
        every: int,
        measure: Callable[[], Mapping[str, float]] | None = None,
        levels: Mapping[str, float] | None = None,
        marks: Sequence[float] = (),
    ) -> None:
        """Draw the `terms` that are logged, `every` so many steps."""
        self.terms, self.every, self.measure = terms, every, measure
        self.drawing = {"levels": levels, "marks": marks}
        self.log: list[dict[str, float]] = []
        self._shown: Any = None  # where IPython shows the figure

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Hear of a step."""
        due = step % self.every == 0
        scores = self.measure() if due and self.measure else {}
        self.log.append({"step": step, **values, **{f"held_out_{name}": score for name, score in scores.items()}})
        if due:
            self.draw()

    def draw(self) -> None:
        """Show the curves, in place of those that were shown before."""
        from IPython.display import display

        figure = training_curves(self.log, self.terms, **self.drawing)
        if self._shown is None:
            self._shown = display(figure, display_id=True)
        else:
            self._shown.update(figure)
