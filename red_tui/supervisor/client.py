"""A client of a federation that lives in the cluster: the verbs of a federation, from another process.

It is one long file on purpose, as `federation/base.py` is: whoever looks for a verb finds it here, with all that is
said of it.  A verb itself is a few lines that ask the supervisor and turn its plain data into the type that the
federation gives.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from red_tui.errors import NotConnected, SessionError, from_wire
from red_tui.federation.argument_checks import (
    amounts,
    bundle,
    changes,
    checked,
    condition,
    count,
    flag,
    names,
    seconds,
    words,
)
from red_tui.federation.explain import Description, Explanation
from red_tui.federation.reports import BuildReport, NodeFailure, NodeReport
from red_tui.federation.selections import Selectable, Selection, select_of
from red_tui.federation.sessions import STOP_TIMEOUT, Arguments, SessionResult
from red_tui.layout.round_settings import Change, Several, one_of_each
from red_tui.messaging import Topology, TopologyRule
from red_tui.nodes.ids import check_id
from red_tui.nodes.table import NodeTable
from red_tui.nodes.template import Parameters
from red_tui.placement.build_plan import BuildPlan, split_waves
from red_tui.protocol.commands import PROTOCOL, check_protocol, live_command
from red_tui.protocol.events import Event
from red_tui.rounds.history import History, RoundResult
from red_tui.runtime.node_actor import NAMESPACE
from red_tui.runtime.virtual_node import VirtualNode
from red_tui.selection.stop_condition import portable
from red_tui.state_folder import operator_name
from red_tui.supervisor.client_nodes import ClientNodes

CALL_TIMEOUT = 30.0
RETRY = 0.2
POLL = 20.0
"""Seconds that one call waits for the outcome of a command before it asks again."""

UNVERSIONED = frozenset({"hello", "shutdown"})
"""What a client of any version may ask: how a federation is, and to end it."""

Names = str | Sequence[str] | Selection | None
"""A query, ids, or a selection."""


class Client:
    """Speaks with a federation's supervisor.  Leaving it changes nothing for the federation."""

    def __init__(self, supervisor: Any, fed_id: str, *, namespace: str = NAMESPACE, read_only: bool = False) -> None:
        self._supervisor = supervisor
        self._namespace = namespace
        self.fed_id = check_id(fed_id, "federation id")
        self._read_only = read_only
        self._who = operator_name()

    # -- calls -----------------------------------------------------------------------------------

    def call(self, method: str, *args: Any, timeout: float = CALL_TIMEOUT) -> Any:
        """Call a method of the supervisor.

        Raises:
            NotConnected: If it does not answer within `timeout` seconds, or is gone.
            RedError: What the supervisor refuses with.
        """
        answer = self._ask(method, args, timeout)
        if "error" in answer:
            raise from_wire(answer["error"])
        return answer.get("ok", answer)

    def _ask(self, method: str, args: tuple[Any, ...], timeout: float) -> dict[str, Any]:
        import ray

        give_up = time.monotonic() + timeout
        try:
            while True:
                call = getattr(self._supervisor, method)
                if method == "watch":
                    # Long polls have threads of their own: many watchers never keep a command waiting.
                    call = call.options(concurrency_group="watch")
                left = max(0.1, give_up - time.monotonic())
                told = {} if method in UNVERSIONED else {"protocol": PROTOCOL}
                try:
                    asked = call.remote(*args, **told)
                except TypeError:  # it knows of no version
                    check_protocol(None, f"the supervisor of {self.fed_id!r}", "this client")
                    raise
                try:
                    return self._checked(method, ray.get(asked, timeout=left))
                except ray.exceptions.ActorUnavailableError:
                    # It is being restarted.  Looking does no harm twice, and commands have ids.
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(RETRY)
        except ray.exceptions.GetTimeoutError as error:
            raise NotConnected(
                f"the supervisor of {self.fed_id!r} did not answer {method} within {timeout:g} s", address=""
            ) from error
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise NotConnected(
                f"the supervisor of {self.fed_id!r} is gone ({type(error).__name__}): give it a new one with"
                f" `red-console adopt {self.fed_id}`, or end what is left with `red-console down {self.fed_id}`",
                address="",
            ) from error

    def _checked(self, method: str, answer: Any) -> dict[str, Any]:
        """An answer, seen to be one."""
        given = answer.get("ok") if isinstance(answer, dict) else answer
        if isinstance(answer, dict) and (isinstance(given, (dict, list)) or "ok" not in answer):
            return answer
        raise NotConnected(
            f"the actor {self.fed_id}/supervisor answers {method} with {type(given).__name__}: it is no supervisor of"
            " red-tui, or one of another version",
            address="",
        )

    def command(
        self, verb: str, args: Mapping[str, Any] | None = None, *, wait: bool = True, command_id: str | None = None
    ) -> dict[str, Any]:
        """Send a command of `protocol.commands`; with `wait`, give its outcome however long it takes.

        Raises:
            CommandRefused: If there is no such command, or it does not take one of the arguments.
        """
        live_command(verb).check(args or {})
        name = command_id or uuid.uuid4().hex
        answer = self._ask(
            "command", (name, verb, dict(args or {}), self._who, wait, self._read_only), CALL_TIMEOUT * 3
        )
        while answer.get("pending"):
            answer = self._ask("outcome", (name, POLL), POLL + CALL_TIMEOUT)
        if "error" in answer:
            raise from_wire(answer["error"])
        return cast("dict[str, Any]", answer["ok"])

    # -- looking ---------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Ask what the federation is and how it is, in short.

        Returns:
            Plain data: layout, count of nodes, counts by state, round, whether rounds or a session run.

        Raises:
            NotConnected: If the supervisor does not answer, or is gone.
        """
        return cast("dict[str, Any]", self.call("hello"))

    def snapshot(self) -> dict[str, Any]:
        """Fetch everything as it is now.

        Returns:
            Plain data: table, bundles, rounds, the last events, and the `cursor` for `watch`.

        Raises:
            NotConnected: If the supervisor does not answer, or is gone.
        """
        return cast("dict[str, Any]", self.call("watch", None, 0.0))

    def watch(self, since: Mapping[str, Any] | list[Any] | None = None, timeout: float = 10.0) -> dict[str, Any]:
        """Wait until something has changed.

        Args:
            since: An update, or its cursor; None: give everything now.
            timeout: Seconds after which nothing is given, if nothing changes.

        Returns:
            What changed, as plain data, with the `cursor` for the next call.

        Raises:
            NotConnected: If the supervisor does not answer, or is gone.
        """
        cursor = since["cursor"] if isinstance(since, Mapping) else since
        return cast("dict[str, Any]", self.call("watch", cursor, timeout, timeout=timeout + CALL_TIMEOUT))

    def table(self) -> NodeTable:
        """The nodes' table, as it is now."""
        table = NodeTable()
        table.apply_wire(self.snapshot()["table"])
        return table

    @property
    def nodes(self) -> Selection:
        """The client nodes, in order.  The server is `client["server"]`."""
        return self.select()

    def select(self, what: Selectable = None) -> Selection:
        """Choose nodes, as `FederatedBase.select` does; the server only where it is named.

        Args:
            what: A query (`role:train state:virtual`), ids, nodes, a function of a node; None: all client nodes.

        Returns:
            The nodes, in the order of the table, as they are now: a node keeps the state that it had when it was
            selected until one of its own verbs is used.  `Selection.ids` is plain text.

        Raises:
            SelectionError: If a query cannot be read.
            CommandRefused: If an id is not in the federation.
        """
        owner = ClientNodes(self)
        return select_of(owner, what.ids if isinstance(what, Selection) else what)

    def __getitem__(self, node_id: str) -> VirtualNode:
        owner = ClientNodes(self)
        row = owner.table.row_of(node_id)
        if row is None:
            raise KeyError(f"{node_id!r} is no node of federation {self.fed_id!r}")
        return VirtualNode.view(owner, row)

    @property
    def node_ids(self) -> list[str]:
        """Ids of the client nodes."""
        return cast("list[str]", self.command("select", {"query": None})["ids"])

    @property
    def namespace(self) -> str:
        """Ray's namespace of its actors."""
        return self._namespace

    @property
    def num_nodes(self) -> int:
        """Number of client nodes."""
        return int(self.status()["nodes"])

    @property
    def running(self) -> bool:
        """Whether rounds or a session run."""
        return bool(self.status()["running"])

    @property
    def history(self) -> History:
        """All finished rounds."""
        return self._history(0)

    def _history(self, after: int) -> History:
        """The finished rounds after one."""
        rounds: list[RoundResult] = []
        more = True
        while more:
            told = self.command("history", {"after": rounds[-1].number if rounds else after})
            rounds += [RoundResult.from_wire(one) for one in told["rounds"]]
            more = told["more"]
        return History(tuple(rounds), self._nodes_of_round)

    def _nodes_of_round(self, number: int) -> dict[str, dict[str, float]]:
        """The figures of every node in a round; see `History.nodes`."""
        return dict(self.command("history", {"nodes": number})["nodes"])

    def round_spread(self, number: int) -> dict[str, Any]:
        """How the nodes of a round did: distributions of what they took and reported, and why nodes failed.

        As `RoundResult.spread` has it, of any finished round; empty for one that is not known.
        """
        return dict(self.command("spread", {"number": number})["spread"])

    def node(self, node_id: str) -> dict[str, Any]:
        """Give all that is known of one node.

        Args:
            node_id: Its id.

        Returns:
            Plain data: state, bundle, counters, last metrics, last log lines, last error.
        """
        return self.command("detail", {"id": node_id})

    def events(self, before: int | None = None, limit: int = 100) -> list[Event]:
        """Read events from the journal.

        Args:
            before: Number of an event; None: the last ones are given.
            limit: Max events; 1000 at most are given.

        Returns:
            The last `limit` events before that one, oldest first.

        Raises:
            NotConnected: If the supervisor does not answer, or is gone.
        """
        return list(map(Event.from_wire, self.command("events", {"before": before, "limit": limit})["events"]))

    def explain(self, node_id: str) -> Explanation:
        """Say why a node is as it is: what it asks, what each host has, and what would make it fit.

        Args:
            node_id: Its id.

        Returns:
            The explanation: print it.

        Raises:
            CommandRefused: If there is no such node.
        """
        return Explanation.from_wire(node_id, self.command("explain", {"id": node_id}))

    def describe(self) -> Description:
        """Ask for the layout in effect: `print(client.describe())`.

        Returns:
            The layout with all defaults, and where it differs from the one that the federation was launched from.

        Raises:
            LayoutError: If no layout can say what the federation is.
        """
        return Description.from_wire(self.command("describe"))

    @checked(what=names)
    def plan(self, what: Names = None) -> BuildPlan:
        """Plan a build: which node would go to which bundle, what does not fit and why.  Builds nothing.

        Args:
            what: A query, or ids; None: the nodes that are virtual or released.

        Returns:
            The plan: print it.

        Raises:
            SelectionError: If the query cannot be read.
            CommandRefused: If an id is not in the federation.
        """
        return BuildPlan.from_wire(self.command("plan", {**_named(what), "most": None}))

    def traffic(self) -> dict[str, dict[str, Any]]:
        """Ask what nodes sent and received.

        Returns:
            Counts of the nodes of the last session, by id; empty if there was none.

        Raises:
            NotConnected: If the supervisor does not answer, or is gone.
        """
        return dict(self.command("traffic", {"most": None})["nodes"])

    @property
    def topology(self) -> Topology:
        """Who is whose neighbour now: `client.topology.neighbors("client_1")`."""
        answer = self.command("graph", {"rule": True})
        return Topology(TopologyRule(**answer["rule"]), answer["ids"])

    def neighbors(self, node_id: str) -> list[str]:
        """Ask who is a node's neighbour now.

        Args:
            node_id: Its id.

        Returns:
            Ids of its neighbours.

        Raises:
            RedError: If there is no such node.
        """
        return list(self.command("graph", {"node": node_id, "most": None})["neighbors"])

    # -- acting ----------------------------------------------------------------------------------

    @checked(what=names, wait=flag, timeout=seconds)
    def build(self, what: Names = "state:virtual", *, wait: bool = True, timeout: float | None = 120.0) -> BuildReport:
        """Build nodes; see `FederatedBase.build`.

        Args:
            what: A query or ids; by default all that are virtual.
            wait: Wait until they are ready; False: until they are submitted.
            timeout: Seconds to wait; what is not ready then is `waiting` and goes on.  None: no limit.

        Returns:
            Ids of the nodes that were `built`, that `failed` with causes, that are `waiting` or `left_out`.

        Raises:
            PlacementError: If the pool's bundles do not fit the cluster.
            BuildError: If every node failed.
            CommandRefused: If every node was left out.
        """
        return _report(self.command("build", {**_named(what), "timeout": timeout}, wait=wait))

    @checked(what=names, available=amounts, skip_large=flag, wait=flag, timeout=seconds)
    def build_within(
        self,
        what: Names,
        available: Mapping[str, float],
        *,
        skip_large: bool = False,
        wait: bool = True,
        timeout: float | None = 120.0,
    ) -> BuildReport:
        """Build nodes in order while `available` lasts.

        Args:
            what: A query or ids.
            available: Amounts by resource that the nodes may use together, such as `{"CPU": 2}`.
            skip_large: Pass over a node that does not fit and go on; False: stop at the first.
            wait: As for `build`.
            timeout: As for `build`.

        Returns:
            As `build` gives; its `left_out` says who did not fit and why.
        """
        limits = {"available": dict(available), "skip_large": skip_large, "timeout": timeout}
        return _report(self.command("build", {**_named(what), **limits}, wait=wait))

    def waves(
        self, count: int | None = None, size: int | None = None, what: str = "state:virtual,released"
    ) -> Iterator[list[str]]:
        """Split nodes into waves for `build`; nobody is left out.

        Args:
            count: How many waves; their sizes differ by one at most.
            size: Nodes of a wave instead.
            what: A query; by default the nodes that have no process.

        Returns:
            The ids of each wave.

        Raises:
            ValueError: Unless exactly one of `count` and `size` is given and at least 1.
        """
        ids = self.select(what).ids
        waves = split_waves(np.arange(len(ids)), count=count, size=size)
        return iter([[ids[position] for position in wave.tolist()] for wave in waves])

    def wave(self, size: int | None = None, *, wait: bool = True) -> BuildReport:
        """Build the next nodes that have no process.

        Args:
            size: How many; None: as many as there are bundles.
            wait: As for `build`.

        Returns:
            As `build` gives.
        """
        return _report(self.command("wave", {"size": size}, wait=wait))

    @checked(what=names)
    def release(self, what: Names) -> NodeReport:
        """Give processes and their resources back; states are kept.

        Args:
            what: A query or ids.

        Returns:
            Ids of the nodes that were released (`done`), and why others were not (`refused`, by id).
        """
        done = self.command("release", _named(what))
        return NodeReport(tuple(done["done"]), done["refused"])

    @checked(what=names, wait=flag, timeout=seconds)
    def rebuild(self, what: Names = None, *, wait: bool = True, timeout: float | None = 120.0) -> BuildReport:
        """Replace failed nodes, or bring released ones back, with their last state.

        Args:
            what: A query or ids; None: all that failed.
            wait: As for `build`.
            timeout: As for `build`.

        Returns:
            As `build` gives.

        Raises:
            CommandRefused: If no node of them failed or was released.
        """
        return _report(self.command("rebuild", {**_named(what), "timeout": timeout}, wait=wait))

    @checked(count=count, role=words)
    def add_nodes(self, count: int = 1, role: str = "train") -> list[str]:
        """Add virtual nodes.

        Args:
            count: How many.
            role: Roles joined by dashes, such as `train-eval`.

        Returns:
            Their ids.
        """
        return cast("list[str]", self.command("add", {"count": count, "role": role})["ids"])

    @checked(what=names, keep_state=flag, timeout=seconds)
    def remove_nodes(self, what: Names, *, keep_state: bool = False, timeout: float | None = 60.0) -> NodeReport:
        """Forget nodes, after the round in which they are at work.

        Args:
            what: A query or ids.
            keep_state: Keep their states for nodes that are added later under the same ids.
            timeout: Seconds to let them finish their round; 0 refuses those at work.

        Returns:
            Ids of the nodes that were removed (`done`), and why others were not (`refused`, by id).
        """
        done = self.command("remove", {**_named(what), "keep_state": keep_state, "timeout": timeout})
        return NodeReport(tuple(done["done"]), done["refused"])

    @checked(what=names, bundle_idx=bundle)
    def move(self, what: Names, bundle_idx: int) -> BuildReport:
        """Move idle nodes to another bundle, with their state.

        Args:
            what: A query or ids.
            bundle_idx: Index of the bundle, from 1.

        Returns:
            As `build` gives.
        """
        return _report(self.command("move", {**_named(what), "bundle": bundle_idx}))

    @checked(count=count, resources=amounts)
    def add_bundles(self, count: int, resources: Mapping[str, float]) -> list[int]:
        """Grow the pool.

        Args:
            count: How many bundles.
            resources: What each of them has, such as `{"CPU": 1}`.

        Returns:
            The indices of the new bundles.

        Raises:
            PlacementError: If they do not fit; nothing stays reserved.
        """
        return cast("list[int]", self.command("grow", {"count": count, "resources": dict(resources)})["bundles"])

    def remove_bundles(self) -> list[int]:
        """Give the bundles back that were added last.

        Returns:
            Their indices.
        """
        return cast("list[int]", self.command("shrink")["bundles"])

    def release_bundles(self) -> NodeReport:
        """Release all nodes and give the federation's bundles back; the next build reserves them again.

        Returns:
            Ids of the nodes that were released.

        Raises:
            CommandRefused: If rounds or a session run.
        """
        done = self.command("release_bundles")
        return NodeReport(tuple(done["done"]), done["refused"])

    def run_round(self, *, nodes: Names = None) -> RoundResult:
        """Run one round.

        Args:
            nodes: A query or ids of those that may take part; None: all that are eligible.

        Returns:
            The round.

        Raises:
            RoundError: If nobody could take part or too few answered; parameters stay as they were.
        """
        return cast("RoundResult", self.run(1, nodes=nodes)[-1])

    @checked(rounds=count, until=condition, nodes=names)
    def run(self, rounds: int = 1, until: str | None = None, *, nodes: Names = None) -> History:
        """Run rounds, and wait for them.

        Args:
            rounds: How many.
            until: What ends the run before: a measure (`accuracy>0.95`), a time (`14:30`), a span (`+20m`).
            nodes: A query or ids of those that may take part; None: all that are eligible.

        Returns:
            The history of this run.

        Raises:
            RoundError: If a round failed, and no round of this run counts.
            SelectionError: If `until` or `nodes` cannot be read.
            CommandRefused: If rounds or a session run already.
        """
        until = portable(until) if until else None
        before = int(self.status()["round"])
        done = self.command("run", {"rounds": rounds, "until": until, **_named(nodes)})
        if "rounds" not in done:
            # The supervisor was restarted meanwhile: it goes on with the run, and its journal has the rounds.
            cursor = None
            while self.running:
                cursor = self.watch(cursor)
            return self._history(before)
        return History(tuple(RoundResult.from_wire(one) for one in done["rounds"]), self._nodes_of_round)

    @checked(rounds=count, until=condition, nodes=names)
    def start_run(self, rounds: int, until: str | None = None, *, nodes: Names = None) -> None:
        """Run rounds and do not wait: the supervisor ends them by itself.

        Args:
            rounds: How many.
            until: What ends the run before; see `run`.
            nodes: See `run`.

        Raises:
            SelectionError: If `until` or `nodes` cannot be read.
            CommandRefused: If rounds or a session run already.
        """
        until = portable(until) if until else None
        self.command("run", {"rounds": rounds, "until": until, **_named(nodes)}, wait=False)

    @property
    def round_settings(self) -> dict[str, Any]:
        """What `set_round` can change, with its value in the next rounds, by name."""
        values = self.snapshot()["next_rounds"]["values"]
        return {name: value[0] if len(value) == 1 else Several(value) for name, value in values.items()}

    @checked(changes=changes)
    def set_round(self, changes: Mapping[str, Any] | None = None, /, **values: Any) -> list[Change]:
        """Change the next rounds: `set_round(learning_rate=0.1, deadline=30)`; a round in hand stays as it is.

        Gives what changed, with what it was before.  Names and values are those of the federation's `set_round`.

        Raises:
            CommandRefused: If a name or a value cannot be; then nothing changes.
        """
        done = self.command("set", {"values": one_of_each(changes or {}, values)})
        return [Change(*one) for one in done.get("changes", ())]

    @checked(now=flag)
    def stop(self, now: bool = False) -> str:
        """End a session; or a run of rounds after its present round.

        Args:
            now: End the round in hand too; it then does not count.

        Returns:
            What is ended, in words.
        """
        return str(self.command("stop", {"now": now})["text"])

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
            The result; None if not `blocking`.

        Raises:
            CommandRefused: If rounds or a session run already, or nobody can take part.
            SessionError: If nodes could not be built or linked, or the supervisor was restarted meanwhile.
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
        """End a session: STOP reaches each node.

        Args:
            timeout: Seconds that a node has to come back; the process of one that does not is ended.

        Returns:
            What is ended, in words.
        """
        return str(self.command("stop_session", {"timeout": timeout})["text"])

    def test(self, phase: str = "test", aggregate: bool = True, **kwargs: Any) -> Any:
        """Let the nodes with the role test judge; those that are not built are built.

        Args:
            phase: Reaches each node's `test`, such as `test` or `validation`.
            aggregate: Give the mean weighted by the nodes' weights; False: value and weight of each node.
            **kwargs: Reach each node's `test`.

        Returns:
            The weighted mean, or (value, weight) by id.

        Raises:
            CommandRefused: If no node has the role test.
            SessionError: If nodes could not be built, or failed.
        """
        done = self.command("test", {"phase": phase, "aggregate": aggregate, "kwargs": kwargs})
        if aggregate:
            return done["value"]
        return {node_id: (value, weight) for node_id, (value, weight) in done["values"].items()}

    def send(self, header: str, body: Any = None, to: str | Sequence[str] | None = None) -> int:
        """Send a message from outside to nodes; they read `supervisor` as its sender.

        Args:
            header: What the message is about.
            body: What it brings: anything that can be pickled.
            to: A query or ids; None: all that are built.

        Returns:
            To how many it went.

        Raises:
            MessageError: If a receiver that was named is not built, or the body cannot be sent.
        """
        receivers = to if to is None or isinstance(to, str) else list(to)
        return int(self.command("send", {"header": header, "body": body, "to": receivers})["count"])

    def pull_version(self, ids: str | Sequence[str], timeout: float = 5.0) -> Any:
        """Give what nodes published last with `update_version`.

        Args:
            ids: Id of one node, or ids of several.
            timeout: Seconds to wait for a node that has published nothing yet.

        Returns:
            The version of the one node, or versions by id.

        Raises:
            SessionError: If one is not built or publishes nothing within `timeout` seconds.
        """
        names = ids if isinstance(ids, str) else list(ids)
        return self.command("pull_version", {"ids": names, "timeout": timeout})["version"]

    def set_topology(self, topology: str, **options: Any) -> Topology:
        """Change who is whose neighbour.

        Args:
            topology: Name of a rule, such as `ring`.
            **options: Of the rule.

        Returns:
            The topology as it is now.

        Raises:
            TopologyError: If the rule, its options and the nodes do not go together.
        """
        self.command("topology", {"rule": {"name": topology, **options}})
        return self.topology

    @checked(timeout=seconds)
    def parameters(self, timeout: float = 60.0) -> Parameters:
        """Fetch the current global parameters from the cluster's object store into this process.

        Args:
            timeout: Seconds to wait for them.

        Returns:
            Arrays by name.

        Raises:
            CommandRefused: If there are none before the first round.
        """
        import ray

        (reference,) = self.call("parameters")
        return cast("Parameters", ray.get(reference, timeout=timeout))

    def down(self) -> None:
        """End the federation: its nodes, its bundles, its supervisor.  Its journal stays on disk.

        Raises:
            NotConnected: If the supervisor does not answer.
        """
        import ray

        from red_tui.supervisor.registry import wait_until_gone

        self.call("shutdown", self._who, self._read_only, timeout=90.0)
        ray.kill(self._supervisor, no_restart=True)
        wait_until_gone(self.fed_id, time.monotonic() + 10.0, self._namespace)


def _named(what: Names) -> dict[str, Any]:
    if what is None:
        return {}
    return (
        {"query": what} if isinstance(what, str) else {"ids": what.ids if isinstance(what, Selection) else list(what)}
    )


def _report(answer: Mapping[str, Any]) -> BuildReport:
    wire = answer["report"]
    failed = {name: NodeFailure(name, why, traceback) for name, (why, traceback) in wire["failed"].items()}
    return BuildReport(
        tuple(wire["built"]),
        failed,
        tuple(wire["waiting"]),
        wire["left_out"],
        wire["seconds"],
        tuple(wire.get("already", ())),
    )
