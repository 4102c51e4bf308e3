"""Stopping what takes long: signals are collected until a step is done, and lines are told at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Tell = Callable[[str], None]


def tell(text: str) -> None:
    """Write a line to stderr at once, from a signal handler too, where a buffered stream may be in use."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


@contextmanager
def stop_signals(tell: Tell) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying of them; a second Ctrl-C interrupts at once."""
    caught: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if number == signal.SIGINT and number in caught:
            raise KeyboardInterrupt
        if not caught:
            tell("stopping after this step...")
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
