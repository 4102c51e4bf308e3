"""Files, and the errors a user can act on: writes are atomic, messages name file, value and remedy."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml


class InputError(Exception):
    """What the user gave cannot be used; the message says which file or value, and what to do about it."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, renamed to `path` if the block succeeds and removed if it does not.

    Raises `InputError` where the folder or the file cannot be written (a full disk, no permission).
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `InputError` naming `path` where the system refuses to write in the block."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason}); free some space or choose another folder") from error


def write_text(path: Path, text: str) -> Path:
    """Write `text` atomically and return the path."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically; NaN is refused because it is not JSON."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """Read a file whole. Raises `InputError` where it is missing or unreadable."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path, or remove it from the list that names it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check what it is and who may read it") from error


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises `InputError` where it is missing or malformed."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); restore it from its source") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file. Raises `InputError` where it is missing or malformed."""
    try:
        return yaml.safe_load(read_bytes(path))
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise InputError(f"{path}: not valid YAML ({where}); correct that line") from error


@contextmanager
def held(lock: Path, *, wait: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold the file `lock` against other processes; yield whether it is held, which `wait` makes sure of.

    It is free again when the block or this process ends; `shared` lets processes started with `close_fds=False` hold it
    on until they end, too.
    """
    import fcntl

    with writing(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        os.set_inheritable(file.fileno(), shared)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
