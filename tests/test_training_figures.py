"""A training on a board: its schedule, its players, and curves that are drawn while it runs."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lsn_core.stage import CODE, PAPER, Stage, Weights
from lsn_core.training_figures import Live, game_figure, schedule


def columns(text: str) -> dict[str, list[str]]:
    """The rows of a printed table, by their first word."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}


def test_the_schedule_has_a_column_for_each_regime_of_the_paper():
    rows = columns(schedule(PAPER))
    assert rows["epochs"] == ["1-200", "201-300", "1-100"] and rows["N_D"] == ["waits", "plays", "plays"]
    assert rows["joints"] == ["apart", "apart", "all"]
    assert rows["softness"] == ["0", "0.2", "0.1"] and rows["bones"] == ["0.4", "0.1", "0"]
    assert "anchor" not in rows, "what no stage weighs has no row"
    assert columns(schedule(CODE))["overlap"] == ["0.2", "0.2"]


def test_a_discriminator_that_never_joins_waits():
    stage = Stage("first", epochs=3, switch=5, before=Weights(truth=1.0), after=Weights(softness=1.0))
    rows = columns(schedule([stage]))
    assert rows["epochs"] == ["1-3"] and rows["N_D"] == ["waits"] and "softness" not in rows


def test_in_each_step_of_the_game_one_network_learns():
    figure = game_figure()
    FigureCanvasAgg(figure).draw()
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    for step, (learner, frozen) in zip(texts, (("$G$", 2), ("$N_S$", 0), ("$N_D$", 0)), strict=True):
        assert [text.split()[0] for text in step if "learns" in text] == [learner]
        assert sum("frozen" in text for text in step) == frozen
    assert all(any(f"$L_{k}$" in text for text in texts[0]) for k in range(4))


def test_boxes_stand_apart():
    """No box covers another, or the arrow between them could not be seen."""
    figure = game_figure()
    FigureCanvasAgg(figure).draw()
    boxes = [t.get_bbox_patch().get_window_extent() for axis in figure.axes for t in axis.texts if t.get_text()]
    pairs = [(a, b) for k, a in enumerate(boxes) for b in boxes[:k]]
    assert len(boxes) == 17 and not any(a.overlaps(b) for a, b in pairs)


@pytest.fixture
def screen(monkeypatch):
    """What IPython was given to show, and to show in its place."""
    shown = []

    class Handle:
        def update(self, figure):
            shown.append(("again", figure))

    def display(figure, *, display_id):
        assert display_id
        shown.append(("first", figure))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    return shown


def test_live_curves_take_the_place_of_one_another_and_the_log_keeps_all(screen):
    live = Live(("loss", "held_out_shadow"), every=2, measure=lambda: {"shadow": 0.5}, levels={"loss": 3}, marks=(2,))
    for step in range(1, 6):
        assert live(step, {"loss": float(step)}) is None, "or the training would stop"
    assert [row["loss"] for row in live.log] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in live.log if "held_out_shadow" in row] == [2, 4]
    assert [how for how, _ in screen] == ["first", "again"]
    live.draw()
    loss, shadow = screen[-1][1].axes
    assert list(loss.lines[0].get_ydata()) == [1, 2, 3, 4, 5] and list(shadow.lines[0].get_xdata()) == [2, 4]


def test_live_without_a_step_to_draw_only_listens(screen):
    live = Live((), every=100)
    live(1, {"loss": 1.0})
    assert live.log == [{"step": 1, "loss": 1.0}] and screen == []
