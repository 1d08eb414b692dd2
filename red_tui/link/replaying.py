"""The link to a journal: a replay in the place of a federation.  It needs no cluster and imports no Ray."""

from __future__ import annotations

from typing import Any, BinaryIO

from red_tui.errors import NotConnected
from red_tui.link.serving import Handler, Serving

LONGEST_WATCH = 10.0


class ReplayLink(Serving):
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

    def _open(self, args: dict[str, Any]) -> dict[str, Any]:
        self._steps.clear()
        self._step("journal", "reading the journal", "running")
        from red_tui.supervisor.replaying import open_replay

        try:
            self._opened = open_replay(
                str(args.get("journal")), at=args.get("at"), speed=args.get("speed"), playing=args.get("playing")
            )
        except Exception:
            self._step("journal", "reading the journal", "failed")
            raise
        self._step("journal", "reading the journal", "done")
        return {"federation": self._opened.nodes.fed_id, "address": "", "embedded": False, "created": False}

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
