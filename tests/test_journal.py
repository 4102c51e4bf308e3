"""A journal: every step once, whatever was killed and written again."""

import json

import pytest
import torch
from torch import nn

from lsn_core.batch import stack
from lsn_core.files import InputError
from lsn_core.images import read_image
from lsn_core.journal import CURVES, EVERY, LOG, PREVIEWS, Journal
from lsn_core.phantom import phantoms


def lines(folder) -> list[dict]:
    """Of the log."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def curve(folder, name: str) -> list[tuple[int, float]]:
    """Steps and values of a TensorBoard scalar, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / CURVES)).Reload()
    return [(event.step, event.value) for event in reader.Scalars(name)]


def write(folder, first: int, last: int, *, after: int, scored: int = 0) -> None:
    """Journal the steps from `first` to `last`, half their number as the loss."""
    with Journal(folder, after=after) as journal:
        for step in range(first, last + 1):
            journal.write(step, {"stage": "real", "loss": step / 2}, {"criterion": 0.25} if step == scored else {})


def test_every_step_is_a_line_and_some_are_points(tmp_path):
    write(tmp_path, 1, 2 * EVERY + 1, after=0, scored=3)
    assert lines(tmp_path)[0] == {"step": 1, "stage": "real", "loss": 0.5}
    assert lines(tmp_path)[2] == {"step": 3, "stage": "real", "loss": 1.5, "held_out_criterion": 0.25}
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 2 * EVERY + 2))
    assert curve(tmp_path, "loss") == [(step, step / 2) for step in (3, EVERY, 2 * EVERY)]
    assert curve(tmp_path, "held_out/criterion") == [(3, 0.25)]


def test_what_came_after_the_checkpoint_is_written_once(tmp_path):
    """Killed after step 25 with a checkpoint of step 15."""
    write(tmp_path, 1, 25, after=0)
    with (tmp_path / LOG).open("a") as log:
        log.write('{"step": 26, "lo')  # a line that was being written
    write(tmp_path, 16, 40, after=15, scored=38)
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 41))
    assert [step for step, _ in curve(tmp_path, "loss")] == [10, 20, 30, 38, 40]


def test_a_new_journal_forgets_an_old_one_without_checkpoint(tmp_path):
    write(tmp_path, 1, 30, after=0)
    write(tmp_path, 1, 10, after=0)
    assert len(lines(tmp_path)) == 10 and [step for step, _ in curve(tmp_path, "loss")] == [10]


def test_each_step_is_on_the_disk_at_once(tmp_path):
    with Journal(tmp_path) as journal:
        journal.write(10, {"loss": 1.0}, {})
        assert len(lines(tmp_path)) == 1
        journal.flush()
        assert curve(tmp_path, "loss") == [(10, 1.0)]


def test_a_preview_draws_and_changes_nothing(tmp_path):
    class Grey(nn.Module):
        def forward(self, image, masks):
            assert not self.training and not torch.is_grad_enabled()
            return torch.cat((image, torch.zeros_like(image), torch.zeros_like(image)), dim=1)

    generator = Grey().train()
    with Journal(tmp_path) as journal:
        journal.preview("selected", generator, stack(phantoms(2, seed=0, size=32), size=32, dilate_px=4.0))
    picture = read_image(tmp_path / PREVIEWS / "selected.png")
    assert generator.training and picture.shape[1] > picture.shape[0] > 100 and picture.std() > 0.1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file/log.jsonl: cannot be written"):
        Journal(tmp_path / "file")
