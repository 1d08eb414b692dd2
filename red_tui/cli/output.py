"""Standard output of the verbs: data and nothing else, on a stream that may be closed or full."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

from red_tui.errors import CommandRefused, RedError, WrongUse
from red_tui.plain_text import indented_lines, plain, plain_lines

AGAIN = 0.02
"""Seconds after which it is tried again."""

UNHEARD = 0.5
"""Seconds after which a signal that nobody has heard is sent once more."""

LONGEST = 10.0
"""Seconds that an import may keep an interrupt waiting: one that hangs can be ended."""

IMPORTING = "<frozen importlib._bootstrap>"


@contextlib.contextmanager
def interrupts_after_imports() -> Iterator[None]:
    """Within it Ctrl+C raises `KeyboardInterrupt` between imports, never inside of one.

    It changes nothing where interrupts are ignored or handled already, and outside of the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    handler = _Handler()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Handler:
    """Raises, or sends the signal again a moment later."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._heard = threading.Event()

    def _send_until_heard(self, number: int, heard: threading.Event) -> None:
        """Send a signal; again, if it came just before the main thread went to sleep, which then sleeps on."""
        while True:
            os.kill(os.getpid(), number)
            if heard.wait(UNHEARD) or signal.getsignal(number) is not self:
                return

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._heard.set()
        self._heard = threading.Event()
        now = time.monotonic()
        if _is_importing(frame) and (self._first is None or now - self._first < LONGEST):
            self._first = now if self._first is None else self._first
            timer = threading.Timer(AGAIN, self._send_until_heard, (number, self._heard))
            timer.daemon = True
            timer.start()
            return
        self._first = None
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


class OutputError(RedError):
    """Standard output cannot be written."""


class DataOutput:
    """Where data goes.  While it is reserved, what else is printed in this process goes to standard error.

    Ray and the libraries of templates print to standard output as they like, also from C++.
    """

    def __init__(self) -> None:
        self._reserved: TextIO | None = None

    @property
    def stream(self) -> TextIO:
        """What data is written to."""
        return self._reserved or sys.stdout

    @property
    def is_reserved(self) -> bool:
        """Whether file descriptor 1 is free to be pointed elsewhere."""
        return self._reserved is not None

    def write(self, text: str) -> None:
        """Write text at once.

        Raises:
            BrokenPipeError: If nobody reads any more.
            OutputError: If it cannot be written.
        """
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            raise unwritable(error) from error

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Keep standard output for what is written here."""
        stdout = sys.stdout
        if not _is_descriptor_1(stdout):  # a test's, or a caller's of its own
            self._reserved = stdout
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    yield
            finally:
                self._reserved = None
            return
        stdout.flush()
        kept = os.dup(1)
        self._reserved = os.fdopen(kept, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False)
        os.dup2(2, 1)
        try:
            yield
        finally:
            reserved, self._reserved = self._reserved, None
            with contextlib.suppress(OSError, ValueError):
                stdout.flush()
            os.dup2(kept, 1)
            with contextlib.suppress(OSError):
                reserved.close()
            os.close(kept)


OUTPUT = DataOutput()
"""This process's."""


def unwritable(error: Exception) -> OutputError:
    """The error for a standard output that cannot be written."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OutputError(f"standard output cannot be written: {why}")


def open_missing_streams() -> bool:
    """Give this process the standard streams that it was started without; gives whether standard output was there.

    The next file that is opened would otherwise become standard input, output or error of all that is started.
    """
    had_output = sys.stdout is not None
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
        setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115  # for good
    return had_output


def discard_stdout() -> None:
    """Drop what is still to be written, so that the interpreter does not try it again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return False


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


NAMED = 20
"""Ids that a question names at most."""


def confirm(options: argparse.Namespace, question: str, what: str) -> None:
    """Return if the operator says yes, or has said so with `--yes`.

    Args:
        options: With `yes`.
        question: The question, with targets and number.
        what: What would be done, for the refusal.

    Raises:
        CommandRefused: If the answer is not yes.
        WrongUse: If nobody can be asked.
    """
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise WrongUse(f"{question} Nobody can be asked here, as standard input is no terminal: add --yes to {what}")
    say(f"{question} [y/N]")
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes"):
        raise CommandRefused("nothing was done")


def named(ids: Sequence[str]) -> str:
    """`3 nodes: a, b, c`, with the first of many."""
    shown = ", ".join(ids[:NAMED])
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return f"{len(ids):,} node{'' if len(ids) == 1 else 's'}: {shown}{more}"
