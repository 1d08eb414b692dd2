"""The link's side of the pipe: requests in, answers and pushes out, each request in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from red_tui.errors import CommandRefused, RedError
from red_tui.protocol.frames import FrameWriter, WireError, read_frame

log = logging.getLogger("red_tui.link")

Handler = Callable[[dict[str, Any]], Any]


class RequestServer:
    """Serves one console.

    Args:
        incoming: Frames of the console.
        outgoing: Where answers and pushes go.
        handlers: What answers each verb.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, handlers: Mapping[str, Handler]) -> None:
        self._incoming = incoming
        self._writer = FrameWriter(outgoing)
        self._steps: dict[str, float] = {}
        self._handlers = dict(handlers)

    def serve(self) -> None:
        """Answer requests until the console is gone."""
        try:
            while (message := read_frame(self._incoming)) is not None:
                threading.Thread(target=self._answer, args=(message,), daemon=True).start()
        except (WireError, OSError) as error:
            log.error("the pipe from the console broke: %s", error)

    def handle(self, verb: object, args: Mapping[str, Any]) -> Any:
        """Do what one request asks, in this thread.

        Args:
            verb: What is asked.
            args: Its arguments.

        Returns:
            The answer, as plain data.

        Raises:
            CommandRefused: If the link does not know the verb, or must not do it.
            RedError: If it cannot be done.
        """
        handler = self._handlers.get(str(verb))
        if handler is None:
            raise CommandRefused(f"the link knows no {verb!r}")
        return handler(dict(args))

    def _answer(self, message: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": message.get("id")}
        try:
            answer["ok"] = self.handle(message.get("verb"), message.get("args") or {})
        except RedError as error:
            answer["error"] = error.to_wire()
        except Exception as error:
            log.exception("%s failed", message.get("verb"))
            answer["error"] = RedError(f"{type(error).__name__}: {error}").to_wire()
        self._push(answer)

    def _push(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._writer.write(message)

    def _step(self, key: str, text: str, state: str) -> None:
        begun = self._steps.setdefault(key, time.monotonic())
        seconds = time.monotonic() - begun
        self._push({"push": "step", "key": key, "text": text, "state": state, "seconds": seconds})
