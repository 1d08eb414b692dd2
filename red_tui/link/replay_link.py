"""The link to a journal: a replay in the place of a federation.  It needs no cluster and imports no Ray."""

from __future__ import annotations

import time
from typing import Any, BinaryIO

from red_tui.errors import NotConnected
from red_tui.link.request_server import Handler, RequestServer
from red_tui.protocol.commands import check_protocol

LONGEST_WATCH = 10.0
PATIENCE, TELL_EVERY = 0.3, 0.25
"""Seconds until it is told how far a long way is, and between two such words."""


class ReplayLink(RequestServer):
    """Serves one console with what a journal tells."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        handlers: dict[str, Handler] = {
            "open": self._open,
            "watch": self._watch,
            "command": self._command,
            "federations": lambda args: {"federations": [], "layouts": []},
            "leave": lambda args: {},
        }
        super().__init__(incoming, outgoing, handlers)
        self._opened: Any = None
        self._told = 1 << 62
        self._begun = self._spoken = 0.0

    def _open(self, args: dict[str, Any]) -> dict[str, Any]:
        check_protocol(args.get("protocol"), "this console", "the link that it started")
        self._steps.clear()
        self._step("journal", "reading the journal", "running")
        from red_tui.replay.replay_commands import open_replay

        try:
            self._opened = open_replay(
                str(args.get("journal")),
                at=args.get("at"),
                speed=args.get("speed"),
                playing=args.get("playing"),
                idle=args.get("idle"),
                progress=self._progress,
            )
        except Exception:
            self._step("journal", "reading the journal", "failed")
            raise
        self._step("journal", "reading the journal", "done")
        return {"federation": self._opened.nodes.fed_id, "address": "", "embedded": False, "created": False}

    def _progress(self, done: int, of: int) -> None:
        """Tell how far a long way is, after a while and then now and again."""
        now = time.monotonic()
        if done < self._told:
            self._begun = self._spoken = now
        self._told = done
        if now - self._begun > PATIENCE and now - self._spoken > TELL_EVERY:
            self._spoken = now
            left = (now - self._begun) / done * (of - done)
            if self._opened is None:
                self._step("journal", f"going there: {done:,} of {of:,} events", "running")
            else:
                self._push({"push": "progress", "done": done, "of": of, "left": left})

    def _replay(self) -> Any:
        if self._opened is None:
            raise NotConnected("the link has no journal open yet", address="")
        return self._opened

    def _watch(self, args: dict[str, Any]) -> dict[str, Any]:
        timeout = min(float(args.get("timeout", 2.0)), LONGEST_WATCH)
        update: dict[str, Any] = self._replay().feed.watch(args.get("cursor"), timeout)
        return update

    def _command(self, args: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._replay().verbs.command(str(args.get("verb")), dict(args.get("args") or {}))
        return answer
