"""The host of a bundle: one actor that holds many nodes.  This is the side inside its process."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from red_tui.aggregation.weighted_sum import Mixture
from red_tui.messaging.mailbox import ReadLog
from red_tui.messaging.messenger import Messenger
from red_tui.node_states.host_states import ElsewhereError, HostStates, columns_of, places_of, state_of
from red_tui.node_states.packed_state import PackedState, opened, state_size
from red_tui.node_states.state_files import StateDamageError, StatePlace, Stored
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.node_log import NodeLog, NodeLogger
from red_tui.nodes.table import NO_ROWS, IntArray
from red_tui.nodes.template import FederatedNode
from red_tui.nodes.user_code import called, check_fork, containing, failure_report, forks, wait_for_exit
from red_tui.runtime.batch import RECORD_SECONDS, BatchRunner, Failure, Order, Results, WorkSlots, packed, unpacked
from red_tui.runtime.node_runtime import BundleKeys, NodeRuntime, keeps_state, mixed, shared_of


class HostedNode(NodeRuntime):
    """The framework's half of a node inside a host: what a node seldom needs is made when it is asked for."""

    red_host: BundleActor
    red_group: int
    red_position: int

    @property
    def config(self) -> FederationConfig:
        """What the node is told."""
        made = self.__dict__.get("_config")
        if made is None:
            made = self.__dict__["_config"] = self.red_host.config_of(self.red_group, self.red_position)
        return cast("FederationConfig", made)

    @config.setter
    def config(self, value: FederationConfig) -> None:
        self.__dict__["_config"] = value

    @property
    def log(self) -> logging.Logger:
        """The node's logger; its last lines are kept from its first use on."""
        made = self.__dict__.get("_log")
        if made is None:
            # Not one of the logging module's own: those live for ever, and there may be thousands.
            made = NodeLogger(f"red_tui.node.{self.node_id}", logging.INFO)
            self._red_log = NodeLog()
            made.addHandler(self._red_log)
            self.__dict__["_log"] = made
        return cast("logging.Logger", made)

    @log.setter
    def log(self, value: logging.Logger) -> None:
        self.__dict__["_log"] = value

    def red_read_log(self) -> ReadLog:
        """The host's: its nodes live and die together."""
        return self.red_host.read_log

    def red_near(self, handle: Any) -> Messenger | None:
        """The `Messenger` of a node of the same host: messages between them do not leave the process."""
        return self.red_host.talk_of(handle)

    def red_detail(self) -> dict[str, Any]:
        """What only the host knows of the node."""
        captured = self.__dict__.get("_red_log")
        lines = [list(line) for line in captured.lines] if captured is not None else []
        return {"pid": os.getpid(), "host": socket.gethostname(), "log": lines}


def hosted_class(template: type, host: BundleActor) -> type[HostedNode]:
    """The class of a template's nodes inside a host."""
    members = {"red_keeps_state": keeps_state(template), "red_host": host, "__module__": template.__module__}
    return cast("type[HostedNode]", type(template.__name__, (HostedNode, template), members))


IN_LANE = frozenset({"fit", "evaluate", "test", "initial_parameters", "red_initial_parameters"})
"""Methods that compute: called through a node's handle, they take their turn in the host's lane like a round's work."""

TOKENS_KEPT = 64
"""Max calls that a host remembers after they ended or were cut."""

BUILD_RECORD_ROWS = 4096
"""Nodes in one record of a build at most."""


class BundleActor:
    """Holds the nodes of one bundle, builds them, lets them work and gives their state back.

    Nodes are known by their row in the federation's table.  What a template does wrong is reported,
    never raised, so that one node never takes the others with it.

    Args:
        concurrency: Nodes that work at a time.
    """

    def __init__(self, concurrency: int = 1) -> None:
        forks.watch()
        self._nodes: dict[int, HostedNode] = {}
        self._lane = WorkSlots(concurrency)
        self._classes: dict[type, type[HostedNode]] = {}
        self._groups: dict[int, dict[str, Any]] = {}
        self._common = FederationConfig()
        self._works: dict[str, BatchRunner] = {}
        self._begun_works: dict[str, Iterator[Any]] = {}
        """What `quick` has begun and `more` has not been asked for yet."""
        self._tokens = threading.Lock()
        """Calls come to an end in one thread, and are cut in another."""
        self._ended: deque[str] = deque(maxlen=TOKENS_KEPT)
        self._cut_before: deque[str] = deque(maxlen=TOKENS_KEPT)
        self._name = ""
        self._keys = BundleKeys()
        self.read_log = ReadLog()
        self._states = HostStates()
        self._least: dict[int, int] = {}
        """The oldest build that may still make a row."""

    def hello(self) -> dict[str, Any]:
        """Answered as soon as the process is up."""
        return {"pid": os.getpid(), "host": socket.gethostname()}

    def lifeline(self) -> dict[str, Any]:
        """The call fails when the process dies, and says why; it is answered only when `os._exit` was called."""
        return wait_for_exit()

    def adopted(self) -> dict[str, Any]:
        """A supervisor has found this host by its name: what the one before asked for is cut short.

        Returns:
            What `hello` says, and the rows of the nodes that it holds.
        """
        for work in list(self._works.values()):
            work.cut()
        for token in list(self._begun_works):
            # Nobody is left who would ask for more.
            self._begun_works.pop(token, None)
            self._over(token)
        self._least.clear()
        self._states.roll()
        rows = np.fromiter(sorted(self._nodes), dtype=np.int64, count=len(self._nodes))
        return {**self.hello(), "rows": rows}

    def snapshot(self, known: IntArray = NO_ROWS) -> tuple[dict[str, Any], list[Any]]:
        """States of the nodes whose template keeps one, without letting go of them: the rows, and the states.

        Args:
            known: Rows whose states are left out: they lie in files.
        """
        rows, states = [], []
        skipped = set(known.tolist())
        for row, node in list(self._nodes.items()):
            if node.red_keeps_state and row not in skipped:
                try:
                    state = state_of(node)
                except BaseException as error:
                    failure_report(error, "get_state")
                else:
                    states.append(state)
                    rows.append(row)
        sizes = [state_size(state) for state in states]
        return {"rows": np.asarray(rows, dtype=np.int64), "state_bytes": sizes}, states

    def read_ahead(self, place: StatePlace, columns: Mapping[str, Any]) -> None:
        """Have states in the machine's memory that nodes are going to be built with soon."""
        self._states.read_ahead(place, places_of(columns).values())

    def config_of(self, group: int, position: int) -> FederationConfig:
        """What a node is told: its group's keys and its place among the client nodes."""
        return self._common.updated(**{"node_index": position, **self._groups[group]})

    # -- building ----------------------------------------------------------------------------------

    def build(
        self, batch: Mapping[str, Any], kwargs: Mapping[str, Any], *states: Sequence[Any]
    ) -> Iterator[dict[str, Any]]:
        """Make nodes and build them, one after another; tells of them in records.

        Args:
            batch: `rows`, `ids`, `roles` (role of each), `groups` (index of each), `positions` (place among
                the clients), `templates` and `configs` by group, `common` (the federation's config) and
                `kept` (row → (block of `states`, index)), `stored` (where the states of others lie in files) and
                `state_place` (where these are).
            kwargs: Reach each node's `build`.
            *states: Blocks of kept states.

        `batch["epoch"]` is the number of the build: what was released later is not made any more.
        """
        record = _BuildRecord()
        ready = self._prepare(batch)
        kept, stored, place = batch["kept"], places_of(batch.get("stored")), batch.get("state_place")
        rows, groups, positions = (batch[name].tolist() for name in ("rows", "groups", "positions"))
        for row, node_id, role, group, position in zip(
            rows, batch["ids"], batch["roles"], groups, positions, strict=True
        ):
            made = ready[group]
            if batch["epoch"] < self._least.get(row, 0):
                continue
            if isinstance(made, dict):
                record.failed.append((row, made["error"], made["where"], made["traceback"]))
            else:
                block, index = kept.get(row, (-1, 0))
                try:
                    state = self._read(row, stored[row], place, record) if row in stored else None
                except ElsewhereError:
                    record.elsewhere.append(row)
                    continue
                made_one = self._make(
                    made,
                    row,
                    node_id,
                    role,
                    group,
                    position,
                    kwargs,
                    states[block] if block >= 0 else (state,),
                    index,
                )
                if batch["epoch"] < self._least.get(row, 0):
                    # Released, or rebuilt, while it was built.
                    continue
                if isinstance(made_one, tuple):
                    record.failed.append(made_one)
                else:
                    self._nodes[row], self._least[row] = made_one, batch["epoch"]
                    record.rows.append(row)
            if record.due():
                yield record.told()
                record = _BuildRecord()
        yield record.told()

    def _read(self, row: int, stored: Stored, place: StatePlace | None, record: _BuildRecord) -> PackedState | None:
        """A state from its file; None, and a note in the record, if it cannot be read.

        Raises:
            ElsewhereError: If the file is not on this machine.
        """
        assert place is not None
        try:
            return PackedState(self._states.read(row, stored, place))
        except StateDamageError as error:
            record.lost.append((row, error.message))
            return None

    def _prepare(self, batch: Mapping[str, Any]) -> dict[int, Any]:
        """Class of each group, with what its nodes share; a failure report where that raised."""
        ready: dict[int, Any] = {}
        for group, template in batch["templates"].items():
            self._groups[group] = self._keys.of_group(group, batch["configs"][group])
            self._common = batch["common"]
            if template not in self._classes:
                self._classes[template] = hosted_class(template, self)
            made = self._classes[template]
            try:
                self._lane.enter()
                try:
                    made.shared = shared_of(made, batch["common"])
                finally:
                    self._lane.leave()
            except BaseException as error:
                ready[group] = failure_report(error, "build_shared")
            else:
                check_fork()
                ready[group] = made
        return ready

    def _make(
        self,
        made: type[HostedNode],
        row: int,
        node_id: str,
        role: Any,
        group: int,
        position: int,
        kwargs: Mapping[str, Any],
        states: Sequence[Any],
        index: int,
    ) -> HostedNode | Failure:
        try:
            node = made.__new__(made)
            node.red_group, node.red_position = group, position
            if made.__init__ is FederatedNode.__init__:
                node.node_id, node.role = node_id, role
            else:
                node.node_id = node_id
                called("constructor", made.__init__, node, node_id, role, self.config_of(group, position), node.log)
            if made.build is not FederatedNode.build:
                self._lane.enter()
                try:
                    node.build(**kwargs)
                finally:
                    self._lane.leave()
            state = states[index]
            if state is not None:
                called("set_state", node.set_state, opened(state))
        except BaseException as error:
            report = failure_report(error, "build")
            return row, report["error"], report["where"], report["traceback"]
        check_fork()
        return node

    # -- working -----------------------------------------------------------------------------------

    def work(self, order: Order, parameters: Any, *blocks: Any) -> Iterator[Any]:
        """Let nodes fit or evaluate; what comes back is `BatchRunner.run`'s.

        Nodes with a model of their own (gossip) start from it: it lies in one of `blocks`.
        """
        yield from self._to_its_end(order.token, self._begun(order, parameters, blocks))

    def quick(self, order: bytes, parameters: Any, *blocks: Any) -> tuple[Any, Any, bytes]:
        """As `work`, for nodes that are likely to be done soon: a plain answer costs a fraction of a stream.

        Args:
            order: What `packed` makes of an `Order`.
            parameters: See `work`.
            *blocks: See `work`.

        Returns:
            Payload and states of the first record, and the record (packed).  If it is not the last, `more` gives the
            others.  The payload stands first, for Ray hands it to the server before anybody here looks at the record.
        """
        asked: Order = unpacked(order)
        told = self._begun(asked, parameters, blocks)
        record, payload, states = next(told), None, None
        if not record["late"]:
            payload = next(told) if record["payload"] else None
            states = next(told) if record["states"] else None
        if record["last"]:
            self._over(asked.token)
        else:
            self._begun_works[asked.token] = told
        return payload, states, packed(record)

    def more(self, token: str) -> Iterator[Any]:
        """What comes after the first record of a call of `quick`."""
        told = self._begun_works.pop(token, None)
        if told is not None:
            yield from self._to_its_end(token, told)

    def _begun(self, order: Order, parameters: Any, blocks: Sequence[Any]) -> Iterator[Any]:
        if parameters is None:
            # They were promised, and could not be made: nobody begins.
            return iter([Results().record(order.phase, late=True)])
        self._keys.take(order.config, self._groups, self._nodes.values())
        nodes = [(row, self._nodes.get(row)) for row in order.rows.tolist()]
        places = (order.places or {}).items()
        own = {row: blocks[at] if place is None else blocks[at][place] for row, (at, place) in places}
        states = self._states, order.state_place
        work = BatchRunner(
            order.phase, nodes, parameters, order.config, order.each, self._lane, own, order.exact, *states
        )
        with self._tokens:
            self._works[order.token] = work
            cut = order.token in self._cut_before
        if cut:
            work.cut()
        return work.run()

    def _to_its_end(self, token: str, told: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from told
        finally:
            self._over(token)

    def _over(self, token: str) -> None:
        with self._tokens:
            self._works.pop(token, None)
            self._ended.append(token)

    def mix(self, plan: Sequence[Mixture], *blocks: Any) -> tuple[list[Any] | None, dict[str, Any]]:
        """Models of some nodes after a round's gossip, and a report."""
        return mixed(plan, blocks)

    def cut(self, token: str) -> tuple[dict[str, Any], Any, Any]:
        """End a call of `work` for its round; see `BatchRunner.cut`."""
        with self._tokens:
            work, ended = self._works.get(token), token in self._ended
            if work is None and not ended:
                # The call is still on its way: when it comes, nobody begins.
                self._cut_before.append(token)
        if work is not None:
            return work.cut()
        return {"gone": True, "ended": ended}, None, None

    def call(self, row: int, node_id: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of one node, as its own actor would.

        Raises:
            LookupError: If the node has been released or has failed.
        """
        act = containing(getattr(self.node_of(row, node_id), method))
        if method not in IN_LANE:
            return act(*args, **kwargs)
        self._lane.enter()
        try:
            return act(*args, **kwargs)
        finally:
            self._lane.leave()

    def deliver(self, row: int, node_id: str, method: str, *args: Any) -> Any:
        """A message for one node, or word of its neighbours; in order."""
        if method == "red_link":
            *told, self._name = args
            return self.node_of(row, node_id).red_link(*told)
        return getattr(self.node_of(row, node_id), method)(*args)

    def talk_of(self, handle: Any) -> Messenger | None:
        """The `Messenger` of a node that lives here, or None."""
        place = getattr(handle, "red_place", None)
        if place is None or place[0] != self._name:
            return None
        node = self._nodes.get(place[1])
        return node.red_talk if node is not None else None

    def train(self, rows: IntArray, arguments: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Let nodes `train` at the same time, each in a thread; (row, report) as they come back."""
        done: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()

        def one(row: int, node: HostedNode) -> None:
            done.put((row, node.red_train(arguments[row])))

        todo = [(row, self._nodes.get(row)) for row in rows.tolist()]
        for row, node in todo:
            if node is None:
                done.put((row, {"error": "it has no place in this host any more", "where": "train", "traceback": ""}))
            else:
                threading.Thread(target=one, args=(row, node), name=f"red-train-{row}", daemon=True).start()
        for _ in todo:
            yield done.get()

    def control(self, row: int, node_id: str, method: str) -> Any:
        """Call a method of the framework's half of one node, also while the host works."""
        return getattr(self.node_of(row, node_id), method)()

    def statistics(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What some nodes sent and received, by row; those that are not here are left out."""
        found = [(row, self._nodes.get(row)) for row in rows]
        return {row: node.red_statistics() for row, node in found if node is not None}

    def node_of(self, row: int, node_id: str) -> HostedNode:
        """The node of a row.

        Raises:
            LookupError: If it has been released or has failed.
        """
        node = self._nodes.get(row)
        if node is None:
            raise LookupError(f"node {node_id!r} is not in this host any more: it was released, or has failed")
        return node

    # -- ending ------------------------------------------------------------------------------------

    def release(
        self,
        rows: IntArray,
        keep: bool,
        epoch: int,
        place: StatePlace | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Any], list[Any]]:
        """Let nodes go; with `keep` gives the states of those whose template has one (report's `rows`).

        Those that a build up to `epoch` has not made yet are not made any more.

        Args:
            rows: The nodes.
            keep: Whether their states are wanted.
            epoch: The number of the last build.
            place: Where the states are written (report's `stored`); None: they stay in memory.
            columns: Where the federation has their states: one that is still the same is not written again.
        """
        kept, states, failed = [], [], []
        known = places_of(columns)
        written: dict[int, Stored] = {}
        for row in rows.tolist():
            self._least[row] = epoch + 1
            node = self._nodes.pop(row, None)
            if node is None or not keep or not node.red_keeps_state:
                continue
            try:
                state = self._states.keep(row, node, place, known.get(row))
            except BaseException as error:
                report = failure_report(error, "get_state")
                failed.append((row, report["error"], report["where"], report["traceback"]))
                continue
            check_fork()
            if type(state) is not Stored:
                states.append(state)
                kept.append(row)
            elif state != known.get(row):
                written[row] = state
        self._states.forget(rows.tolist())
        return {
            "rows": np.asarray(kept, dtype=np.int64),
            "failed": failed,
            "state_bytes": [state_size(state) for state in states],
            "stored": columns_of(written),
            "trouble": self._states.trouble,
        }, states

    def discard(self, rows: Sequence[int]) -> None:
        """Forget nodes."""
        for row in rows:
            self._nodes.pop(row, None)


class _BuildRecord:
    """Nodes built since the last record."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.failed: list[Failure] = []
        self.lost: list[tuple[int, str]] = []
        """Rows that were built without the state that they had, and why."""
        self.elsewhere: list[int] = []
        """Rows that were not built: their states lie on another machine."""
        self._began = time.monotonic()

    def due(self) -> bool:
        return (
            len(self.rows) + len(self.failed) >= BUILD_RECORD_ROWS or time.monotonic() - self._began >= RECORD_SECONDS
        )

    def told(self) -> dict[str, Any]:
        return {
            "rows": np.asarray(self.rows, dtype=np.int64),
            "failed": self.failed,
            "lost": self.lost,
            "elsewhere": self.elsewhere,
            "seconds": time.monotonic() - self._began,
        }
