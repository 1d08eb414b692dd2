"""What verbs say: data on stdout, narration on stderr, and nothing in either that a terminal would act upon."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from red_tui.plain_text import indented_lines, plain, plain_lines
from red_tui.verbs.output import OUTPUT


def say(text: str) -> None:
    """Narration: what is done goes on where it cannot be written, unless its reader has gone."""
    for line in indented_lines(text):
        try:
            print(line, file=sys.stderr, flush=True)
        except BrokenPipeError:
            raise
        except (OSError, ValueError):
            return


def tell(text: str) -> None:
    """Data for people: one line."""
    OUTPUT.write(f"{plain(text)}\n")


def tell_table(text: str) -> None:
    """Data for people in several lines, whose values were made `one_line` where the table was made."""
    for line in plain_lines(text):
        OUTPUT.write(f"{line}\n")


def tell_json(data: Any) -> None:
    """Data for programs: one line of JSON, ASCII only; numbers that JSON has not are null."""
    try:
        text = json.dumps(data, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(data), allow_nan=False)
    OUTPUT.write(text + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def narrate(key: str, text: str, state: str) -> None:
    """A step, on stderr."""
    if state != "running":
        say(f"{'✓' if state == 'done' else '✗'} {text}")


@contextlib.contextmanager
def quiet_driver() -> Iterator[None]:
    """Keep what Ray's core prints about dead workers off the terminal.

    Its C++ part writes to file descriptor 2, and some of it to 1 where that is not what data goes to: both go to a
    file, while `sys.stderr` keeps the terminal.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as sink, _instead_of_1(sink.fileno()):
        old = sys.stderr
        os.dup2(sink.fileno(), 2)
        sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding=old.encoding, errors="replace")
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            sys.stderr.close()
            sys.stderr = old


@contextlib.contextmanager
def _instead_of_1(descriptor: int) -> Iterator[None]:
    if not OUTPUT.is_reserved:
        yield
        return
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)


@contextlib.contextmanager
def ending_in_order() -> Iterator[Callable[[], None]]:
    """Let SIGTERM and SIGHUP end what is done here as Ctrl+C does.

    Gives a function that sees to that again: Ray has taken SIGTERM for itself by the time it is connected.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def take_signals() -> None:
        for number in before:
            signal.signal(number, interrupt)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    take_signals()
    try:
        yield take_signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
