"""All state of a federation.  The engine's thread writes it; readers look at columns and frozen records."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from red_tui.federation.records import Event, NodeGroup, Recorder
from red_tui.nodes.causes import Cause
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.process import NAMESPACE, NodeProcess
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable
from red_tui.placement.pool import Pool
from red_tui.rounds.history import RoundResult
from red_tui.rounds.sampling import RoundSettings

EVENTS_KEPT = 2000
"""Events in memory; older ones are in the journal."""

LOSSES_KEPT = 60
SERVER_ID = "server"


@dataclass(frozen=True)
class RoundStatus:
    """Where the rounds are: what the header shows."""

    number: int = 0
    phase: str = "idle"
    done: int = 0
    of: int = 0
    started: float = 0.0
    target: int | None = None
    until: str | None = None
    stopping: bool = False


@dataclass(frozen=True)
class FailurePolicy:
    """What happens to a node whose process died.

    Attributes:
        policy: `rebuild` or `leave`.
        max_rebuilds: Automatic rebuilds of one node at most.
        backoff: Seconds before the first; doubled each time.
    """

    policy: str = "leave"
    max_rebuilds: int = 3
    backoff: float = 0.5

    def delay(self, rebuilds: int) -> float | None:
        """Seconds until the next automatic rebuild, or None for no more."""
        if self.policy != "rebuild" or rebuilds >= self.max_rebuilds:
            return None
        return float(self.backoff * 2**rebuilds)


@dataclass
class FederationState:
    """Table, pool, processes, rounds and events of one federation."""

    config: FederationConfig
    settings: RoundSettings
    failure: FailurePolicy
    log: logging.Logger
    detached: bool = False
    namespace: str = NAMESPACE
    recorder: Recorder | None = None
    table: NodeTable = field(default_factory=NodeTable)
    groups: list[NodeGroup] = field(default_factory=list)
    pool: Pool | None = None
    processes: dict[int, NodeProcess] = field(default_factory=dict)
    seats: dict[int, tuple[int, dict[str, float]]] = field(default_factory=dict)
    causes: dict[int, Cause] = field(default_factory=dict)
    kept: dict[int, Any] = field(default_factory=dict)
    build_args: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    losses: dict[int, deque[float]] = field(default_factory=dict)
    metrics: dict[int, Mapping[str, float]] = field(default_factory=dict)
    facts: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    history: list[RoundResult] = field(default_factory=list)
    failed_rounds: list[dict[str, Any]] = field(default_factory=list)
    round: RoundStatus = field(default_factory=RoundStatus)
    round_version: int = 0
    note: str = ""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    last_seq: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    parameters: Any = None
    parameters_round: int = 0
    num_clients: int = 0

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
                self.note = f"the journal cannot be written ({error}): what happens now is not kept"
                self.log.error("%s", self.note)
            else:
                self.note = ""
        self.last_seq = event.seq
        self.events.append(event)
        getattr(self.log, {"warn": "warning", "error": "error"}.get(level, "info"))("%s: %s", subject, text)
        self.notify()
        return event

    def set_round(self, **values: Any) -> None:
        """Change where the rounds are."""
        self.round = replace(self.round, **values)
        self.round_version += 1
        self.notify()

    def config_of(self, row: int) -> FederationConfig:
        """What the node of a row is told: the federation's keys, its group's, and its place among the clients."""
        group = self.groups[self.table.value("group", row)]
        position = group.client_start + row - group.row_start
        return self.config.updated(
            **{
                "num_nodes": self.num_clients,
                "node_index": position,
                "strategy": self.settings.strategy,
                **group.config,
            }
        )

    def set_state(self, row: int, state: NodeState, **columns: Any) -> None:
        """Change the state of one node and tell those who watch."""
        self.table.set(row, state=state, **columns)
        self.notify()
