"""The journal of a run: a line of log.jsonl for each step, the same as TensorBoard scalars, and previews."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from lsn_core.batch import Batch
from lsn_core.files import atomic, write_text, writing

LOG, CURVES, PREVIEWS = "log.jsonl", "tensorboard", "previews"
EVERY = 10  # steps between TensorBoard's points: a point of a dozen scalars takes it a millisecond


class Journal:
    """Writes what a training tells of its steps; a context manager, to be opened again where a run goes on."""

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        """`after` is the last step that counts: what the journal holds of later ones will be written again.

        Raises `InputError`, here and later, where the folder cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.folder = Path(folder)
        write_text(self.folder / LOG, "".join(_lines_until(self.folder / LOG, after)))
        with writing(self.folder / LOG):
            self.log = (self.folder / LOG).open("a", encoding="utf-8")
        with writing(self.folder / CURVES):
            self.curves = SummaryWriter(str(self.folder / CURVES), purge_step=after + 1)

    def __enter__(self) -> "Journal":
        """Itself."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the files."""
        with writing(self.folder / LOG):
            self.log.close()
        with writing(self.folder / CURVES):
            self.curves.close()

    def write(self, step: int, line: dict[str, Any], scores: dict[str, float]) -> None:
        """One step: `line` and, where the step was validated, its `scores`; a killed run keeps all it wrote."""
        values = line | {f"held_out_{name}": score for name, score in scores.items()}
        with writing(self.folder / LOG):
            self.log.write(json.dumps({"step": step, **values}) + "\n")
            self.log.flush()
        if scores or step % EVERY == 0:
            with writing(self.folder / CURVES):
                for name, value in values.items():
                    if isinstance(value, float):
                        self.curves.add_scalar(name.replace("held_out_", "held_out/"), value, step)

    def flush(self) -> None:
        """Bring all that was written to the disk, as before a checkpoint."""
        with writing(self.folder / CURVES):
            self.curves.flush()

    @torch.no_grad()
    def preview(self, name: str, generator: nn.Module, joints: Batch) -> None:
        """Draw the layers of some joints; the generator's mode stays."""
        from lsn_core.figures import layers_figure

        trained = generator.training
        layers = generator.eval()(joints.image, joints.masks)
        generator.train(trained)
        with atomic(self.folder / PREVIEWS / f"{name}.png") as part:
            layers_figure(joints.image, layers).savefig(part, dpi=80)


def _lines_until(path: Path, step: int) -> list[str]:
    """The whole lines of a log up to a step."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
