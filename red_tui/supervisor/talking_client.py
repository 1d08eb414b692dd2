"""A client's verbs for sessions, messages and topologies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.errors import SessionError
from red_tui.federation.session_args import Arguments
from red_tui.federation.sessions import STOP_TIMEOUT, SessionResult


class TalkingClient:
    """What a client does with nodes that talk: as the federation does it, only from another process."""

    def command(
        self, verb: str, args: Mapping[str, Any] | None = None, *, wait: bool = True, command_id: str | None = None
    ) -> dict[str, Any]:
        """Send a command."""
        raise NotImplementedError

    def train(
        self, server_args: Mapping[str, Any] | None = None, client_args: Arguments | None = None, blocking: bool = True
    ) -> SessionResult | None:
        """A session: builds the train nodes that are not built, links them and lets each run its `train`.

        It goes on when this client leaves; `running` says for how long, `stop` ends it.

        Args:
            server_args: Reach the server's `train`, where its template has one.
            client_args: For all alike (a dict), one a node (a list), or by id (a dict of dicts).
            blocking: False returns at once.

        Returns:
            What came of it; None if not `blocking`.

        Raises:
            CommandRefused: If rounds or a session run already, or nobody can take part.
            SessionError: If nodes could not be built or linked, or the supervisor was started anew meanwhile.
        """
        told = client_args if client_args is None or isinstance(client_args, Mapping) else list(client_args)
        args = {"server_args": dict(server_args or {}), "client_args": told}
        done = self.command("train", args, wait=blocking)
        if not blocking:
            return None
        if "results" not in done:
            raise SessionError(
                "the supervisor was started anew in the middle of the session: what its nodes gave is lost", failed={}
            )
        return SessionResult(done["results"], done["failures"], done["seconds"], done["stopped"])

    def stop_session(self, timeout: float = STOP_TIMEOUT) -> str:
        """End a session: STOP reaches each node; one that does not come back within `timeout` seconds is ended."""
        return str(self.command("stop_session", {"timeout": timeout})["text"])

    def test(self, phase: str = "test", aggregate: bool = True, **kwargs: Any) -> Any:
        """Let the nodes with the role test judge: their weighted mean, or (`aggregate=False`) (value, weight) by id.

        Raises:
            CommandRefused: If no node has the role test.
            SessionError: If nodes could not be built, or failed.
        """
        done = self.command("test", {"phase": phase, "aggregate": aggregate, "kwargs": kwargs})
        if aggregate:
            return done["value"]
        return {node_id: (value, weight) for node_id, (value, weight) in done["values"].items()}

    def send(self, header: str, body: Any = None, to: str | Sequence[str] | None = None) -> int:
        """Send a message from outside (sender `supervisor`) to nodes, by a query or ids; None: to all that are built.

        Returns:
            To how many it went.

        Raises:
            MessageError: If a receiver that was named is not built, or the body cannot be sent.
        """
        receivers = to if to is None or isinstance(to, str) else list(to)
        return int(self.command("send", {"header": header, "body": body, "to": receivers})["count"])

    def pull_version(self, ids: str | Sequence[str], timeout: float = 5.0) -> Any:
        """What nodes published last with `update_version`: of one node itself, of several by id.

        Raises:
            SessionError: If one is not built or publishes nothing within `timeout` seconds.
        """
        names = ids if isinstance(ids, str) else list(ids)
        return self.command("pull_version", {"ids": names, "timeout": timeout})["version"]

    def traffic(self) -> dict[str, dict[str, Any]]:
        """What the nodes of the session sent and received, by id; empty if there was none."""
        return dict(self.command("traffic", {"most": None})["nodes"])

    def set_topology(self, topology: str, **options: Any) -> str:
        """Change who is whose neighbour, by the name of a rule and its options; says what it is now.

        Raises:
            TopologyError: If the rule, its options and the nodes do not go together.
        """
        return str(self.command("topology", {"rule": {"name": topology, **options}})["text"])

    def neighbors(self, node_id: str) -> list[str]:
        """Ids of the neighbours of a node."""
        return list(self.command("graph", {"node": node_id, "most": None})["neighbors"])
