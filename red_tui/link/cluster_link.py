"""The link to a cluster: what a console asks, done by a Ray driver."""

from __future__ import annotations

from typing import Any, BinaryIO

from red_tui.errors import CommandRefused, NotConnected
from red_tui.layout import find_layouts, load, resolve
from red_tui.link.request_server import Handler, RequestServer
from red_tui.protocol.commands import READING, check_protocol


class ClusterLink(RequestServer):
    """Serves one console with what lives in a cluster.

    Args:
        incoming: Frames of the console.
        outgoing: Where answers and pushes go.
        client: Of the federation, where the link is attached to it already; None: the request `open` attaches it.
        read_only: Whether the console may only look; `open` says it too.
        embedded: Whether the cluster was started by red-console; `open` finds it out too.
    """

    def __init__(
        self,
        incoming: BinaryIO,
        outgoing: BinaryIO,
        *,
        client: Any = None,
        read_only: bool = False,
        embedded: bool = False,
    ) -> None:
        handlers: dict[str, Handler] = {
            "open": self._open,
            "watch": self._watch,
            "command": self._command,
            "federations": self._federations,
            "leave": self._leave,
            "down": self._down,
        }
        super().__init__(incoming, outgoing, handlers)
        self._client = client
        self._namespace = "red"
        self._embedded = embedded
        self._read_only = read_only
        self._lost = False

    # -- verbs -----------------------------------------------------------------------------------

    def _open(self, args: dict[str, Any]) -> dict[str, Any]:
        check_protocol(args.get("protocol"), "this console", "the link that it started")
        self._steps.clear()
        self._namespace = str(args.get("namespace") or "red")
        self._read_only = bool(args.get("read_only"))
        # A layout that cannot be used is refused before anything is started for it.
        layout, federation = args.get("layout"), args.get("federation")
        path = resolve(layout) if layout else None
        parsed = load(path) if path else None

        self._step("ray", "loading Ray", "running")
        from red_tui.supervisor import launch
        from red_tui.supervisor.connect import connect
        from red_tui.supervisor.registry import listed

        self._step("ray", "loading Ray", "done")
        if parsed is not None:
            launch.check_files(parsed.federation)
        default = resolve("digits")
        wanted = path or default
        given = args.get("working_dir")
        if parsed is not None and path is not None:
            launch.working_folder(parsed, path, given)
        connection = connect(
            args.get("address"),
            namespace=self._namespace,
            working_dir=launch.working_dir_of(wanted, given) if (path or given) else None,
            # Who asks for a federation by name wants that one: an empty cluster would not hold it.
            start=(federation is None or parsed is not None) and not self._read_only,
            cpus=args.get("cpus"),
            step=self._step,
        )
        self._embedded = connection.embedded
        # Found rather than named, it may turn out to be one that the operator protects: nothing is launched there.
        self._read_only = self._read_only or connection.address in (args.get("read_only_clusters") or ())
        result = {"address": connection.address, "embedded": connection.embedded, "created": False}
        running = listed(self._namespace)
        if federation is not None and parsed is not None:
            # A name that both may have: what runs goes first.
            if any(row["id"] == federation for row in running):
                parsed = path = None
            else:
                federation = None
        if federation is None and parsed is None:
            if running:
                alone = [row for row in running if not row["orphan"]]
                if len(running) == 1 and alone:
                    federation = alone[0]["id"]
                else:
                    return {"choose": {"federations": running, "layouts": _shipped()}}
            elif not connection.embedded:
                # Somebody else's cluster, be it only found on this machine: nothing is launched there unasked.
                return {"choose": {"federations": [], "layouts": _shipped()}}
            else:
                path, parsed = default, load(default)
        if federation is None:
            assert parsed is not None and path is not None
            federation = parsed.federation
            if not any(row["id"] == federation and not row["orphan"] for row in running):
                if self._read_only:
                    raise CommandRefused(f"{federation} does not run, and a read-only console launches nothing")
                self._client = launch.start_supervisor(
                    parsed, path, connection, namespace=self._namespace, step=self._step
                )
                return {**result, "federation": federation, "created": True}
            differs = launch.differences(parsed, self._namespace)
            if differs:
                launch.refuse_taken(parsed, self._namespace)
        self._step("attach", f"attaching to {federation}", "running")
        self._client = launch.attach(federation, namespace=self._namespace, read_only=self._read_only, connected=True)
        self._step("attach", f"attaching to {federation}", "done")
        return {**result, "federation": federation}

    def _connected(self) -> Any:
        if self._client is None:
            raise NotConnected("the link is not attached to a federation yet", address="")
        return self._client

    def _watch(self, args: dict[str, Any]) -> dict[str, Any]:
        client = self._connected()
        try:
            update: dict[str, Any] = client.watch(args.get("cursor"), min(float(args.get("timeout", 2.0)), 10.0))
        except NotConnected as error:
            if not self._lost:
                self._lost = True
                self._push({"push": "lost", "text": error.message})
            raise
        if self._lost:
            self._lost = False
            self._push({"push": "back"})
        if update.get("full"):
            update["read_only"] = self._read_only
        return update

    def _command(self, args: dict[str, Any]) -> dict[str, Any]:
        client, verb = self._connected(), str(args.get("verb"))
        if self._read_only and verb not in READING:
            raise CommandRefused(f"{verb}: this console is read-only")
        given = dict(args.get("args") or {})
        done: dict[str, Any] = client.command(verb, given, wait=False, command_id=args.get("command_id"))
        return done

    def _federations(self, args: dict[str, Any]) -> dict[str, Any]:
        from red_tui.supervisor.registry import listed

        return {"federations": listed(self._namespace), "layouts": _shipped()}

    def _leave(self, args: dict[str, Any]) -> dict[str, Any]:
        if args.get("stop_cluster"):
            if self._read_only:
                raise CommandRefused("this console is read-only: it stops no cluster")
            if not self._embedded:
                raise CommandRefused("this cluster was not started by red-console: end it with `ray stop` on its hosts")
            from red_tui.supervisor.local_cluster import stop_cluster

            ended = stop_cluster()
            return {"text": f"{ended.processes} processes ended" + (f"; {ended.left}" if ended.left else "")}
        return {}

    def _down(self, args: dict[str, Any]) -> dict[str, Any]:
        client = self._connected()
        if self._read_only:
            raise CommandRefused("this console is read-only: it ends no federation")
        self._client = None
        client.down()
        return {"text": f"federation {client.fed_id} is down"}


def _shipped() -> list[dict[str, str]]:
    return [{"path": str(path), "title": title} for path, title in find_layouts()]
