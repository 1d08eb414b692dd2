"""What may be asked of a replay: what reads a federation, answered from its journal, and what moves the replay."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from red_tui.errors import CommandRefused
from red_tui.federation.federation_topology import GraphView, graph_answer
from red_tui.journal.node_rows import spans_of
from red_tui.layout.round_settings import is_setting, key_of
from red_tui.nodes.states import HOLDING, NodeState
from red_tui.protocol.commands import replay_command
from red_tui.protocol.events import TRACE, Event
from red_tui.replay.player import IDLE, Player
from red_tui.replay.replay_feed import ReplayFeed
from red_tui.replay.replay_nodes import ReplayNodes
from red_tui.replay.time_points import parse_moment, parse_speed
from red_tui.replay.timeline import Replay, journal_path

LOG_KEPT = 100
"""Events of a node that its detail tells."""

LOG_SEARCHED = 20_000
"""Events that are searched for those of a node."""

EVENTS_LIMIT = 1_000


ROUNDS_SEARCHED, LOSSES_TOLD = 200, 12
"""Rounds that are looked through for the losses of a node, and how many of them are told."""


class ReplayCommands:
    """Answers commands.

    Args:
        feed: The feed, which knows the player.
        nodes: The nodes.
    """

    def __init__(self, feed: ReplayFeed, nodes: ReplayNodes) -> None:
        self._feed, self._nodes = feed, nodes
        self._replay = nodes.replay
        self.verbs: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "replay": lambda args: feed.act(str(args.get("act")), args),
            "detail": lambda args: self._detail(self._row(args)),
            "explain": lambda args: self._explain(self._row(args)),
            "spread": self._spread,
            "events": lambda args: {"text": "", "events": self._events(args)},
            "graph": self._graph,
            "traffic": lambda args: {"text": "", "nodes": {}, "totals": {}, "count": 0},
        }

    def command(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a command.

        Raises:
            RedError: If a replay cannot do that.
        """
        act = self.verbs[replay_command(verb).name]
        with self._feed.looking():
            return act(args)

    def _spread(self, args: Mapping[str, Any]) -> dict[str, Any]:
        results = self._replay.results[: self._replay.result_count]
        done = (one for one in reversed(results) if one.get("state") == "done")
        found: Mapping[str, Any] = next((one for one in done if one.get("number") == args.get("number")), {})
        spread = dict(found.get("spread") or {})
        why = "the red-tui that wrote the journal did not keep it" if found else "no such round is over"
        return {"text": "" if spread else why, "number": args.get("number"), "spread": spread}

    def _row(self, args: Mapping[str, Any]) -> int:
        row = self._nodes.table.row_of(str(args.get("id")))
        if row is None:
            raise CommandRefused(f"{args.get('id')!r} is no node of {self._nodes.fed_id!r} at this moment")
        return row

    def _events(self, args: Mapping[str, Any]) -> list[list[Any]]:
        before = args.get("before")
        limit = min(int(args.get("limit") or EVENTS_LIMIT), EVENTS_LIMIT)
        return self._feed.events(None if before is None else int(before), limit)

    def _graph(self, args: Mapping[str, Any]) -> dict[str, Any]:
        feed, nodes = self._feed, self._nodes
        return graph_answer(GraphView(feed.topology, feed.topology_version, nodes.clients(), nodes.table), args)

    # -- one node --------------------------------------------------------------------------------

    def _last(self, row: int) -> Event | None:
        """The event that put a node into its state, if the journal still has it."""
        fold = self._replay.fold()
        seq = int(fold.row_seqs[row]) if row < len(fold) else 0
        return self._replay.event_of(seq) if seq else None

    def _detail(self, row: int) -> dict[str, Any]:
        table = self._nodes.table
        state, last, bundle = table.state_of(row), self._last(row), table.value("bundle", row)
        failed = state is NodeState.FAILED
        node_id = table.ids[row]
        return {
            "id": node_id,
            "state": str(state),
            "since": table.value("since", row),
            "why": last.text if failed and last is not None else "",
            "traceback": str(last.data.get("traceback") or "") if failed and last is not None else "",
            "roles": str(table.role_of(row)),
            "bundle": bundle,
            "host": "",
            "resources": {},
            "actor": f"{self._nodes.fed_id}/{node_id}" if state in HOLDING else "",
            "pid": None,
            "rounds": table.value("rounds", row),
            "rebuilds": 0,
            "seconds": None,
            **self._losses(row, node_id),
            "metrics": {},
            "config": {**self._nodes.config_of(row), **self._changed()},
            "state_kept": False,
            "log": self._log(row, node_id),
        }

    def _losses(self, row: int, node_id: str) -> dict[str, Any]:
        """Losses of a node in the last rounds: a journal has those of the nodes at a round's ends only."""
        found: list[float] = []
        last: int | None = None
        stop = self._replay.result_count
        for result in self._replay.results[max(0, stop - ROUNDS_SEARCHED) : stop]:
            loss = _loss_of(result, node_id)
            if loss is not None:
                found.append(loss)
                last = int(result["number"])
        took_part = bool(self._nodes.table.value("rounds", row))
        why = "the journal has it of the nodes at both ends of a round, and this one was not" if took_part else ""
        return {
            "loss": found[-1] if found else None,
            "losses": found[-LOSSES_TOLD:],
            "loss_round": last,
            "loss_unknown": "" if found else why,
        }

    def _changed(self) -> dict[str, Any]:
        """Config keys that had been changed for the next rounds."""
        changed = self._replay.fold().changed
        return {key_of(name): value for name, value in changed.items() if not is_setting(name)}

    def _log(self, row: int, node_id: str) -> list[list[Any]]:
        """What the journal tells of a node, oldest first."""
        found: list[list[Any]] = []
        stop = self._replay.position
        for place in range(stop - 1, max(-1, stop - 1 - LOG_SEARCHED), -1):
            event = self._replay.events[place]
            if event.level == TRACE or not _tells_of(event, row, node_id):
                continue
            found.append([event.time, event.level, event.text])
            if len(found) >= LOG_KEPT:
                break
        return found[::-1]

    def _explain(self, row: int) -> dict[str, Any]:
        table, last = self._nodes.table, self._last(row)
        state, name = table.state_of(row), table.ids[row]
        if last is not None:
            why = f"{name} is {state}: {last.text}"
        elif state is NodeState.VIRTUAL:
            why = f"{name} is virtual: it has not been built up to this moment"
        else:
            why = f"{name} is {state}: the event that tells why was compacted"
        return {"text": why, "why": why, "state": str(state), "table": why}


def _loss_of(result: Mapping[str, Any], node_id: str) -> float | None:
    """The loss of a node in a round, where it is one of those that the round's row names."""
    measures = (result.get("spread") or {}).get("measures") or {}
    for name in ("loss", "train loss"):
        told = measures.get(name) or {}
        for node, value in (*(told.get("low") or ()), *(told.get("high") or ())):
            if node == node_id:
                return float(value)
    return None


def _tells_of(event: Event, row: int, node_id: str) -> bool:
    if event.subject == node_id:
        return True
    if event.kind != "node":
        failures = (event.data.get("result") or {}).get("failures") or {}
        return node_id in failures
    return any(first <= row < stop for first, stop in spans_of(event))


@dataclass(frozen=True)
class OpenReplay:
    """A replay and what serves it."""

    player: Player
    nodes: ReplayNodes
    feed: ReplayFeed
    verbs: ReplayCommands


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage: many events are none, and to look through them again and again doubles the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def open_replay(
    target: str,
    at: str | None = None,
    speed: str | None = None,
    playing: bool | None = None,
    clock: Callable[[], float] = time.monotonic,
    idle: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> OpenReplay:
    """Open a journal to be replayed.

    Args:
        target: A journal, its folder, or the id of a federation.
        at: The moment at which it begins; None: its begin.
        speed: Seconds of the journal to a second, or `max`.
        playing: Whether it plays at once; None: unless a moment is asked for, which is to be looked at.
        clock: Monotonic seconds.
        idle: Seconds that a picture stands still before the time up to the next event is skipped; 0: never.
        progress: Hears of a long way how many of how many events are behind it.

    Raises:
        ReplayError: If it cannot be read, or `at` or `speed` make no sense.
    """
    moment = parse_moment(at) if at else None
    pace = parse_speed(speed) if speed else 1.0
    with _uncollected():
        replay = Replay(journal_path(target))
    try:
        replay.progress = progress
        patience = IDLE if idle is None else idle or math.inf
        player = Player(replay, clock, pace, moment is None if playing is None else playing, patience)
        if moment is not None:
            player.go_to(moment)
        nodes = ReplayNodes(replay)
        feed = ReplayFeed(player, nodes)
        return OpenReplay(player, nodes, feed, ReplayCommands(feed, nodes))
    except BaseException:
        replay.close()
        raise
