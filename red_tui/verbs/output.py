"""Standard output of the verbs: data and nothing else, on a stream that may be closed or full."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from red_tui.errors import RedError


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
