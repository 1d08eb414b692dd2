"""Frames on the pipe between the console and its link: a length in four bytes, then msgpack.

Requests are `{"id", "verb", "args"}`, answers `{"id", "ok"}` or `{"id", "error"}`, and what the link
says unasked is `{"push": kind, ...}`.  This module imports neither ray nor textual: both ends use it.
"""

from __future__ import annotations

import struct
import threading
from typing import Any, BinaryIO

import msgpack

from red_tui.errors import RedError

_HEADER = struct.Struct(">I")
MAX_FRAME = 256 * 1024 * 1024
"""Bytes; a larger length means that something else than a link wrote to the pipe."""


class WireError(RedError):
    """What came through the pipe is not a frame."""


class FrameWriter:
    """Writes whole frames to a binary stream; threads may share it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, message: dict[str, Any]) -> None:
        """Send one message.

        Raises:
            OSError: If the other end is gone.
        """
        try:
            body = _packed(message)
        except Exception as error:  # also what the text of a stranger's object raises
            # Who asked would wait for an answer that never comes.
            refused = RedError(f"the answer cannot be sent: {type(error).__name__}: {error}")
            body = _packed({"id": message["id"], "error": refused.to_wire()} if "id" in message else {"push": "unsent"})
        with self._lock:
            self._stream.write(_HEADER.pack(len(body)) + body)
            self._stream.flush()


def _packed(message: dict[str, Any]) -> bytes:
    """A message as bytes; halves of signs, as in names of files that are no text, become `?`."""
    body: bytes = msgpack.packb(message, use_bin_type=True, default=str, unicode_errors="replace")
    return body


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message, or None at the end of the stream.

    Raises:
        WireError: If the bytes are no frame.
    """
    header = _read_exactly(stream, _HEADER.size)
    if header is None:
        return None
    (length,) = _HEADER.unpack(header)
    if length > MAX_FRAME:
        raise WireError(f"a frame of {length} bytes was announced: the pipe carries something that is no link message")
    body = _read_exactly(stream, length)
    if body is None:
        return None
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=False)
    except Exception as error:
        raise WireError(f"a frame could not be read: {error}") from error
    if not isinstance(message, dict):
        raise WireError(f"a frame held {type(message).__name__}, not a message")
    return message


def _read_exactly(stream: BinaryIO, count: int) -> bytes | None:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
