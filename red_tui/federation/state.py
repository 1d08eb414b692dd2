"""All state of a federation.  The engine's thread writes it; readers look at columns and frozen records."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui import checks
from red_tui.federation.federation_topology import FederationTopology
from red_tui.federation.reports import CheckpointStore, GroupDefinition, Recorder
from red_tui.federation.round_terms import NextRounds
from red_tui.journal.node_figures import NodeFigures, figures_path
from red_tui.messaging.mailbox import USUAL, MailboxRule
from red_tui.node_states.kept_states import KeptStates
from red_tui.nodes.config import FederationConfig, seeded
from red_tui.nodes.failures import Cause
from red_tui.nodes.ids import SERVER_ID
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NO_ROWS, BoolArray, IntArray, NodeTable
from red_tui.placement.pool import Pool
from red_tui.protocol.events import TRACE, Event
from red_tui.protocol.snapshot import RoundProgress, SessionStatus
from red_tui.rounds.history import RoundResult
from red_tui.rounds.round_log import RoundLog
from red_tui.rounds.sampling import RoundSettings
from red_tui.runtime.bundle_handle import BundleProcess
from red_tui.runtime.node_actor import NAMESPACE, NodeProcess

LOSSES_KEPT = 60
METRICS_KEPT = 64
"""Metrics of single nodes that are kept: a name of its own for each node would make a column for each."""

Floats = npt.NDArray[np.floating[Any]]


class NodeScores:
    """Grows with the nodes that ever gave a result, not with the nodes that exist."""

    def __init__(self) -> None:
        self._slots: IntArray = np.empty(0, dtype=np.int32)
        self._used = 0
        self._metrics: dict[str, Floats] = {}
        self._losses: Floats = np.empty((0, LOSSES_KEPT), dtype=np.float32)
        self._counts: IntArray = np.empty(0, dtype=np.int64)

    def record(self, rows: IntArray, metrics: Mapping[str, Floats], losses: Floats) -> None:
        """Note one result each of some rows; a metric that is NaN was not reported."""
        slots = self._slots_of(rows)
        for name in metrics:
            if name not in self._metrics and len(self._metrics) < METRICS_KEPT:
                self._metrics[name] = np.full(len(self._counts), np.nan)
        for name, column in self._metrics.items():
            column[slots] = metrics.get(name, np.nan)
        self._losses[slots, self._counts[slots] % LOSSES_KEPT] = losses
        self._counts[slots] += 1

    def metrics_of(self, row: int) -> dict[str, float]:
        """The last metrics of a row."""
        slot = self._slot(row)
        if slot is None:
            return {}
        return {name: float(column[slot]) for name, column in self._metrics.items() if not math.isnan(column[slot])}

    def losses_of(self, row: int) -> list[float]:
        """The latest losses of a row, oldest first; NaN where it reported none."""
        slot = self._slot(row)
        if slot is None:
            return []
        count = int(self._counts[slot])
        if count <= LOSSES_KEPT:
            return [float(loss) for loss in self._losses[slot, :count]]
        return [float(loss) for loss in np.roll(self._losses[slot], -(count % LOSSES_KEPT))]

    def _slot(self, row: int) -> int | None:
        return int(self._slots[row]) if row < len(self._slots) and self._slots[row] >= 0 else None

    def _slots_of(self, rows: IntArray) -> IntArray:
        top = int(rows.max(initial=-1)) + 1
        if top > len(self._slots):
            grown = np.full(max(top, 2 * len(self._slots)), -1, dtype=np.int32)
            grown[: len(self._slots)] = self._slots
            self._slots = grown
        new = rows[self._slots[rows] < 0]
        if len(new):
            self._slots[new] = np.arange(self._used, self._used + len(new), dtype=np.int32)
            self._used += len(new)
            self._reserve(self._used)
        return self._slots[rows]

    def _reserve(self, length: int) -> None:
        capacity = len(self._counts)
        if length <= capacity:
            return
        more = max(length, 2 * capacity) - capacity
        self._counts = np.concatenate([self._counts, np.zeros(more, dtype=np.int64)])
        self._losses = np.concatenate([self._losses, np.full((more, LOSSES_KEPT), np.nan, dtype=np.float32)])
        for name, column in self._metrics.items():
            self._metrics[name] = np.concatenate([column, np.full(more, np.nan)])


@dataclass(frozen=True)
class NodeError:
    """What went wrong in a node the last time.

    Attributes:
        cause: The error.
        round: The round in which it happened; 0 before the first.
        time: Wall-clock second.
    """

    cause: Cause
    round: int
    time: float = field(default_factory=time.time)

    def __str__(self) -> str:
        return f"in round {self.round}: {self.cause.text}" if self.round else self.cause.text

    def to_wire(self) -> dict[str, Any]:
        """Plain data for a console."""
        return {
            "text": self.cause.text,
            "traceback": self.cause.traceback,
            "died": self.cause.died,
            "round": self.round,
            "time": self.time,
        }


EVENTS_KEPT = 2000
"""Events in memory; older ones are in the journal."""

FAILURE_POLICIES = ("rebuild", "leave")

REPLACEMENTS = 2
"""Max calls of the server or of an aggregator for one thing; its process is replaced in between."""

ROUND_TRIES = 3
"""Max tries of a round that fails for nodes that are being rebuilt."""


class FailureAction(str, Enum):
    """What can be done about a failure."""

    REBUILD = "rebuild"
    LEAVE = "leave"
    RETRY_ROUND = "retry the round"
    END_RUN = "end the run"


@dataclass(frozen=True, eq=False)
class FailureDecision:
    """What is to be done about a failure: nothing has been done yet.

    Attributes:
        action: What.
        rows: Rows of the nodes that are rebuilt; the other ones that failed are left failed.
        delay: Seconds until they are rebuilt.
    """

    action: FailureAction
    rows: IntArray = field(default_factory=lambda: NO_ROWS)
    delay: float = 0.0


@dataclass(frozen=True)
class FailurePolicy:
    """What happens to a node whose process died.

    A node that raises in a round, or gives something that cannot be used, is no such node: it does not count in that
    round, which names it in `failures`, and takes part in the next one.

    Attributes:
        policy: `rebuild` or `leave`.
        max_rebuilds: Automatic rebuilds of one node at most.
        backoff: Seconds before the first; doubled each time.

    Raises:
        ValueError: If one of them cannot be.
    """

    policy: str = "leave"
    max_rebuilds: int = 3
    backoff: float = 0.5

    def __post_init__(self) -> None:
        checks.one_of(self.policy, "failure: policy", FAILURE_POLICIES)
        checks.whole(self.max_rebuilds, "failure: max_rebuilds", least=0)
        checks.number(self.backoff, "failure: backoff", least=0, unit="seconds")

    @classmethod
    def of(cls, given: FailurePolicy | Mapping[str, Any] | str | None) -> FailurePolicy:
        """A policy from one, from its name, or from a dict of its fields; None: nodes are left failed.

        Raises:
            ValueError: If it is none of these, or a value cannot be.
        """
        if given is None or isinstance(given, FailurePolicy):
            return given or cls()
        if isinstance(given, str):
            return cls(checks.one_of(given, "failure", FAILURE_POLICIES))
        example = '"rebuild", {"policy": "rebuild", "max_rebuilds": 3} or a FailurePolicy'
        keys = [one.name for one in fields(cls)]
        if not isinstance(given, Mapping):
            raise ValueError(f"failure must be {example}, not {checks.shown(given)}")
        return cls(**checks.mapping(given, "failure", example, keys=keys))

    def delay(self, rebuilds: int) -> float | None:
        """Seconds until the next automatic rebuild, or None for no more."""
        if self.policy != "rebuild" or rebuilds >= self.max_rebuilds:
            return None
        return float(self.backoff * 2**rebuilds)

    def decide(
        self, rows: IntArray, rebuilds: IntArray, *, died: bool = True, needed: bool = False, tries: int = 0
    ) -> FailureDecision:
        """What is to be done about nodes that failed together.

        Args:
            rows: Their rows.
            rebuilds: How often each of them has been rebuilt.
            died: Whether their processes are gone; a node that only raised is left failed.
            needed: Whether a round cannot do without them (the server, an aggregator): then they are rebuilt at once,
                whatever the policy says.
            tries: With `needed`: how often they have been called for this already.

        Returns:
            `REBUILD` with the rows that are rebuilt and the delay of the one that was rebuilt least, or `LEAVE`.
        """
        if needed:
            return FailureDecision(FailureAction.REBUILD, rows) if tries < REPLACEMENTS and len(rows) else _LEAVE
        chosen = rows[rebuilds < self.max_rebuilds] if died else NO_ROWS
        delay = self.delay(int(rebuilds.min())) if len(chosen) else None
        return _LEAVE if delay is None else FailureDecision(FailureAction.REBUILD, chosen, delay)

    def decide_round(self, tries: int, *, single: bool, rebuilding: bool) -> FailureDecision:
        """What is to be done about a round that failed.

        Args:
            tries: How often it has been tried.
            single: Whether its run has no other round: whoever asked for one round hears of its failure at once.
            rebuilding: Whether nodes that died are being rebuilt.

        Returns:
            `RETRY_ROUND` once the nodes are rebuilt, or `END_RUN`.
        """
        again = rebuilding and not single and tries < ROUND_TRIES
        return FailureDecision(FailureAction.RETRY_ROUND if again else FailureAction.END_RUN)


_LEAVE = FailureDecision(FailureAction.LEAVE)


@dataclass(frozen=True)
class Hosting:
    """How client nodes live.

    Attributes:
        isolation: `process`: an actor each. `bundle`: many in one host actor per bundle.
        capacity: Nodes that a host holds at most; None: no limit.
        concurrency: Nodes of a host that work at a time.
    """

    isolation: str = "process"
    capacity: int | None = None
    concurrency: int = 1


@dataclass
class FederationState:
    """Table, pool, processes, rounds and events of one federation."""

    config: FederationConfig
    first_settings: RoundSettings
    failure: FailurePolicy
    log: logging.Logger
    detached: bool = False
    namespace: str = NAMESPACE
    recorder: Recorder | None = None
    hosting: Hosting = field(default_factory=Hosting)
    table: NodeTable = field(default_factory=NodeTable)
    groups: list[GroupDefinition] = field(default_factory=list)
    pool: Pool | None = None
    processes: dict[int, NodeProcess] = field(default_factory=dict)
    seats: dict[int, tuple[int, dict[str, float]]] = field(default_factory=dict)
    causes: dict[int, Cause] = field(default_factory=dict)
    last_errors: dict[int, NodeError] = field(default_factory=dict)
    """The last error of each node that had one, whatever its state is now."""
    bundle_actors: dict[int, BundleProcess] = field(default_factory=dict)
    kept: KeptStates = field(default_factory=KeptStates)
    build_args: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    leaving: set[int] = field(default_factory=set)
    """Rows of nodes that are about to leave: they take part in no further round."""
    scores: NodeScores = field(default_factory=NodeScores)
    pace: float | None = None
    """Seconds that starting a process took last time."""
    facts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    bundle_facts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """What the actors of bundles that have answered said of themselves, by bundle."""
    history: RoundLog = field(default_factory=RoundLog)
    failed_rounds: list[dict[str, Any]] = field(default_factory=list)
    rounds_before: int = 0
    """The round after which rounds go on, where a damaged journal has lost those up to it."""
    round: RoundProgress = field(default_factory=RoundProgress)
    round_version: int = 0
    session: SessionStatus = field(default_factory=SessionStatus)
    session_version: int = 0
    note: str = ""
    troubles: dict[str, str] = field(default_factory=dict)
    keeper: CheckpointStore | None = None
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    last_seq: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    parameters: Any = None
    parameters_round: int = 0
    server_state: Any = None
    """Reference to what goes with the parameters: the strategy's state, and what a server of one's own keeps."""
    evaluator: Any = None
    """What judges parameters on the server's node: `module:name`, a function, a class or an object; None: nothing."""
    num_clients: int = 0
    mailbox: MailboxRule = USUAL
    """What happens where more messages come than a node reads."""
    num_aggregators: int = 0
    """Those among the client nodes that aggregate a group's updates and have no data of their own."""
    topology: FederationTopology = field(init=False)
    terms: NextRounds = field(init=False)
    node_figures: NodeFigures = field(init=False)
    """What every node took and reported, where the rounds' settings say that it is kept."""

    def __post_init__(self) -> None:
        self.topology = FederationTopology(self.client_rows, self.table.ids.take, self.membership, self.trouble)
        self.terms = NextRounds(self.first_settings, self.config, self.groups)
        self.history.ids = self.table.ids
        self.keep_in(self.recorder)

    @property
    def settings(self) -> RoundSettings:
        """How the round in hand is run."""
        return self.terms.now.settings

    @property
    def keeps_node_states(self) -> bool:
        """Whether checkpoints hold what nodes keep."""
        return self.keeper is not None and self.keeper.node_states

    @property
    def completed(self) -> int:
        """Number of the last finished round."""
        return max(self.history[-1].number if self.history else 0, self.rounds_before)

    @property
    def num_learners(self) -> int:
        """Client nodes that have data: aggregators are left out."""
        return self.num_clients - self.num_aggregators

    def client_rows(self) -> IntArray:
        """Rows of the client nodes that are in the federation."""
        rows = np.flatnonzero(self.table.present())
        clients: IntArray = rows[rows != self.server_row]
        return clients

    def membership(self) -> tuple[int, int]:
        """Changes when nodes join or leave."""
        return len(self.table), self.num_clients

    @property
    def fed_id(self) -> str:
        """Id of the federation."""
        return self.config.federation_id

    def notify(self) -> None:
        """Wake those who watch."""
        with self.changed:
            self.changed.notify_all()

    def record(
        self,
        kind: str,
        level: str,
        subject: str,
        text: str,
        state: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        """Keep an event in the journal, then show it."""
        event = Event(self.last_seq + 1, time.time(), kind, level, subject, text, state, data or {})
        if self.recorder is not None:
            try:
                self.recorder.append(event)
            except Exception as error:
                self.trouble("journal", f"what happens now is not kept on disk: {error}")
            else:
                self.trouble("journal", "")
                if self.recorder.damage:
                    self.trouble("journal damage", str(self.recorder.damage))
        self.last_seq = event.seq
        if level != TRACE:
            # Screens show no data, and how the nodes of a round did is most of what a federation would hold.
            self.events.append(replace(event, data={}) if "result" in event.data else event)
            severity = {"warn": logging.WARNING, "error": logging.ERROR}.get(level, logging.INFO)
            self.log.log(severity, "%s: %s", subject, text)
        self.notify()
        return event

    def trouble(self, what: str, text: str) -> None:
        """A standing warning about something, or that it is over (empty)."""
        if self.troubles.get(what, "") == text:
            return
        if text:
            self.troubles[what] = text
            self.log.error("%s", text)
        else:
            del self.troubles[what]
            self.log.info("%s: all is well again", what)
        self.note = "; ".join(self.troubles.values())
        self.notify()

    def keep_in(self, recorder: Recorder | None) -> None:
        """Keep events in a journal from now on; older rounds are read from it."""
        self.recorder = recorder
        self.history.journal = getattr(recorder, "result", None)
        path = getattr(recorder, "path", None)
        self.node_figures = NodeFigures(None if path is None else figures_path(path))

    def add_result(self, result: RoundResult) -> None:
        """A round is over."""
        self.history.append(result)
        if self.history.best != self.round.best:
            self.set_round(best=self.history.best)

    def set_round(self, **values: Any) -> None:
        """Change where the rounds are."""
        self.round = replace(self.round, **values)
        self.round_version += 1
        self.notify()

    def set_session(self, **values: Any) -> None:
        """Change where the session is."""
        self.session = replace(self.session, **values)
        self.session_version += 1
        self.notify()

    def topology_version(self) -> list[int]:
        """Changes when another rule is set, and when nodes join or leave."""
        return [self.topology.version, *self.membership()]

    def hosted(self, rows: IntArray) -> BoolArray:
        """Which of `rows` live in hosts when they are built."""
        if self.hosting.isolation != "bundle":
            return np.zeros(len(rows), dtype=bool)
        return np.asarray(rows != self.server_row)

    @property
    def server_row(self) -> int:
        """Row of the server node, or -1."""
        row = self.table.row_of(SERVER_ID)
        return -1 if row is None else row

    def common_config(self) -> FederationConfig:
        """What all nodes are told alike; `build_shared` gets this."""
        keys = self.terms.now.keys
        config = seeded(self.config, self.settings.seed)
        return config.updated(num_nodes=self.num_learners, strategy=dict(self.settings.choice), **keys)

    def group_keys(self, group: int) -> dict[str, Any]:
        """The config keys of a group's nodes, without each node's own place."""
        return {
            **self.config.as_dict(),
            "num_nodes": self.num_learners,
            # The server's group is the first; the others hear of a strategy of one's own by its name alone.
            "strategy": self.settings.choice if group == 0 else dict(self.settings.choice),
            **self.groups[group].config,
            **self.terms.now.keys,
        }

    def config_of(self, row: int) -> FederationConfig:
        """What the node of a row is told: the federation's keys, its group's, and its place among the clients."""
        index: int = self.table.value("group", row)
        group = self.groups[index]
        position = group.client_start + row - group.row_start
        config = seeded(self.config, self.settings.seed)
        return config.updated(**{"node_index": position, **self.group_keys(index)})

    def cause_of(self, row: int) -> Cause | None:
        """Why a node failed, or what it waits for."""
        cause = self.causes.get(row)
        if cause is None and self.table.state_of(row) is NodeState.PENDING:
            bundle = self.table.value("bundle", row)
            host = self.pool.host_name(bundle) if self.pool else ""
            return Cause(f"waits for a process on {host or 'its host'} (bundle {bundle})")
        return cause

    def note_error(self, row: int, cause: Cause) -> None:
        """Remember the last error of a node."""
        self.last_errors[row] = NodeError(cause, self.round.number)

    def set_state(self, rows: int | IntArray, state: NodeState, **columns: Any) -> None:
        """Change the state of one node, or of some, and tell those who watch."""
        self.table.set(rows, state=state, **columns)
        self.notify()
