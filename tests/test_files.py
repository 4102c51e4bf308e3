"""Files: a write is whole or absent, and what goes wrong is one sentence that names the file."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lsn_core.checkpoint import save_checkpoint
from lsn_core.files import InputError, atomic, read_bytes, read_json, read_yaml, write_json, write_text
from lsn_core.images import write_image, write_mask
from lsn_core.networks import Recipe, save_generator

RECIPE = Recipe("compact", "sigmoid", 64, 1.0)
WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"a": 1}),
    "image": lambda path: write_image(path, np.zeros((2, 2))),
    "mask": lambda path: write_mask(path, np.eye(2, dtype=bool)),
    "checkpoint": lambda path: save_checkpoint(path, {"net": torch.nn.Linear(1, 1)}, {}, {}),
    "generator": lambda path: save_generator(path, torch.nn.Linear(1, 1), RECIPE, {}),
}


def fail(number: int):
    """A function that fails as the system does."""

    def write(*_, **__) -> None:
        raise OSError(number, os.strerror(number))

    return write


def test_a_block_that_ends_well_replaces_the_file(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with atomic(path) as part:
            part.write_text(text)
            assert not path.exists() or path.read_text() == "first"  # until the block has ended
        assert path.read_text() == text and os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_what_was_there(tmp_path, error):
    path = write_text(tmp_path / "a.txt", "old")

    def give_up_halfway() -> None:
        with atomic(path) as part:
            part.write_text("half of the n")
            raise error

    with pytest.raises(error):
        give_up_halfway()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_writer_writes_whole_files_or_none(tmp_path, monkeypatch, kind):
    path = WRITERS[kind](tmp_path / "a.png")
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", fail(errno.ENOSPC))  # everything is written, and then it fails
    with pytest.raises(InputError, match=rf"{path}: cannot be written \(No space left on device\); free some space"):
        WRITERS[kind](path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("method", ["write_text", "write_bytes"])
def test_no_space_left_while_writing(tmp_path, monkeypatch, method):
    monkeypatch.setattr(Path, method, fail(errno.ENOSPC))
    with pytest.raises(InputError, match=r"a.png: cannot be written \(No space left on device\)"):
        WRITERS["text" if method == "write_text" else "mask"](tmp_path / "a.png")
    assert not os.listdir(tmp_path)


def test_a_full_disk(tmp_path):
    """The system itself refuses, after the first kilobytes of the file are written."""
    write_text(tmp_path / "a.txt", "old")
    code = "from pathlib import Path; from lsn_core.files import write_text; write_text(Path('a.txt'), 'new' * 9999)"
    limit = (9999, 9999)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1].startswith(
        "lsn_core.files.InputError: a.txt: cannot be written (File too large"
    )
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made(tmp_path):
    write_text(tmp_path / "file", "")
    with pytest.raises(InputError, match=r"file/a.txt: cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path, "")  # a folder is there


def test_json_and_its_limits(tmp_path):
    value = {"a": [1, 0.1, None, "ä"]}
    assert read_json(write_json(tmp_path / "a.json", value)) == value
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "b.json", [number])
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("read", [read_bytes, read_json, read_yaml])
def test_what_cannot_be_read(tmp_path, read):
    with pytest.raises(InputError, match=rf"{tmp_path}/absent: no such file; check the path"):
        read(tmp_path / "absent")
    with pytest.raises(InputError, match=rf"{tmp_path}: cannot be read \(Is a directory\); check"):
        read(tmp_path)
    if read is not read_bytes:
        (tmp_path / "bad").write_bytes(b'{"a": [\xff')
        with pytest.raises(InputError, match=rf"{tmp_path}/bad: not valid .*; ") as refusal:
            read(tmp_path / "bad")
        assert "\n" not in str(refusal.value)
