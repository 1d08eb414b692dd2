"""The nodes of a journal that is replayed: who they are, and how they were at a moment."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.errors import RedError
from red_tui.federation.lifecycle.recovery import rows_of_ranges
from red_tui.journal.journal import Added
from red_tui.journal.launch_record import LaunchRecord
from red_tui.journal.limits import BUNDLES_LIMIT, ROWS_LIMIT
from red_tui.journal.node_rows import read_spans, spans_of
from red_tui.layout import Layout, load, loads
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.ids import SERVER_ID, ListedIds, PatternIds, Segment
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray, NodeTable
from red_tui.placement.shares import split_bundles
from red_tui.protocol.snapshot import BundleStatus, HostStatus
from red_tui.replay.timeline import Replay, ReplayError

CHECKED = 200
"""Events that are looked at for whether a layout is the journal's."""

GUESSED_LIMIT = 2_000_000
"""Rows that are shown where no layout says who they are."""

UNKNOWN_ROLE = "unknown"


class ReplayNodes:
    """The table of a replay's federation.

    The journal says who its rows are if it was begun by a red-tui that writes the layout into it; else the layout
    beside it does, and without one the ids that events name.

    Args:
        replay: The replay.
    """

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.note = ""
        """What is not known of the nodes, or nothing."""
        self.layout = self._find_layout()
        self.table = NodeTable()
        self._first = 0
        self._joined = 0
        self._seqs = np.zeros(0, dtype="i8")
        self._counted = 0
        self._make()

    @property
    def fed_id(self) -> str:
        """Id of the federation, or the best guess."""
        if self.layout is not None:
            return self.layout.federation
        path = self.replay.path
        return path.resolve().parent.name if path.name == "journal.db" else path.stem

    def config_of(self, row: int) -> Mapping[str, Any]:
        """Config keys of a node as its layout says them."""
        group = self.table.value("group", row)
        groups = self.layout.node_groups() if self.layout is not None else []
        return groups[group - 1].config if 0 < group <= len(groups) else {}

    # -- who they are ----------------------------------------------------------------------------

    def _find_layout(self) -> Layout | None:
        path = self.replay.path
        told = next((event.data for event in self.replay.events if "layout" in event.data), None)
        beside = path.with_name("layout.yaml")
        try:
            if told is not None:
                return loads(str(told["layout"]), str(told.get("path") or "layout"))
            if not beside.is_file():
                self.note = "this journal has no layout: nodes that no event names are called by their rows"
                return None
            layout = load(beside)
        except RedError as error:
            self.note = f"its layout cannot be read ({error.message.splitlines()[0]}): nodes are called by their rows"
            return None
        if not self._fits(layout):
            self.note = f"{beside} is not this journal's: nodes that no event names are called by their rows"
            return None
        if self._launched_later(path.parent):
            self.note = f"{beside} is of a later launch: nodes and roles may have been others"
        return layout

    def _launched_later(self, folder: Path) -> bool:
        try:
            return LaunchRecord.read(folder).created > self.replay.end
        except RedError:
            return False

    def _fits(self, layout: Layout) -> bool:
        """Whether the rows that events name have the ids that a layout gives them."""
        table = _table_of(layout)
        expected = len(table)
        for added in self.replay.added:
            if added.first is not None and added.first != expected:
                return False
            expected += len(added.ids)
        named = ((row, node_id) for row, node_id in _named(self.replay) if row < len(table))
        return all(table.ids[row] == node_id for row, node_id in islice(named, CHECKED))

    def _make(self) -> None:
        if self.layout is not None:
            self.table = _table_of(self.layout)
            self._first = len(self.table)
        else:
            self.table = NodeTable()
            guessed = _guessed(self.replay)
            if sum(len(segment) for segment, _ in guessed) >= GUESSED_LIMIT and "left out" not in self.note:
                self.note += f"; rows from {GUESSED_LIMIT:,} on are left out"
            for segment, role in guessed:
                _append(self.table, segment, role)
            self._first = len(self.table) - sum(len(added.ids) for added in self.replay.added)
        self._joined = 0
        self._join()

    def _join(self) -> None:
        """Take in who joined: nobody of them is there before the event that says so."""
        if self.layout is None:
            self._joined = len(self.replay.added)
        for added in self.replay.added[self._joined :]:
            _append(self.table, added.ids, added.role)
        self._joined = len(self.replay.added)
        grown = np.full(len(self.table), -1, dtype="i8")
        grown[: len(self._seqs)] = self._seqs[: len(grown)]
        self._seqs = grown

    def grown(self) -> bool:
        """Take in what events tell that were appended to the journal; whether rows are others than before."""
        if self.layout is not None:
            if len(self.replay.added) > self._joined:
                self._join()
            return False
        before = self.table
        guessed = _guessed(self.replay)
        if [segment.to_wire() for segment, _ in guessed] == before.ids.to_wire(0):
            return False
        self._seqs, self._counted = np.zeros(0, dtype="i8"), 0
        self._make()
        return True

    # -- how they are ----------------------------------------------------------------------------

    def show(self) -> None:
        """Bring the table to where the replay stands."""
        replay, table = self.replay, self.table
        fold, length = replay.fold(), len(table)
        codes, bundles = fold.columns(length, self._row_of)
        seqs = np.zeros(length, dtype="i8")
        known = min(len(fold), length)
        seqs[:known] = fold.row_seqs[:known]
        codes[self._first + sum(len(added.ids) for added in fold.added) :] = NodeState.REMOVED.code
        self._set_busy(codes)
        rounds = self._rounds()
        rows = np.flatnonzero(
            (codes != table.column("state"))
            | (bundles != table.column("bundle"))
            | (rounds != table.column("rounds"))
            | (seqs != self._seqs)
        )
        if not len(rows):
            return
        told, place = np.unique(seqs[rows], return_inverse=True)
        since = np.array([replay.time_of(seq) if seq else replay.start for seq in told.tolist()])
        table.set(rows, state=codes[rows], bundle=bundles[rows], rounds=rounds[rows], since=since[place])
        self._seqs = seqs

    def _set_busy(self, codes: npt.NDArray[np.uint8]) -> None:
        """Show those at work in the round under way whose results will have counted: its end tells who they were."""
        replay, place = self.replay, self.replay.result_count
        number = replay.fold().interrupted
        if number is None or place >= len(replay.results) or replay.results[place].get("number") != number:
            return  # none, or its end is not known yet
        for first, stop in replay.results[place].get("rows") or ():
            part = codes[first:stop]
            part[part == NodeState.READY.code] = NodeState.BUSY.code

    def _row_of(self, node_id: str) -> int | None:
        rows = self.table.ids.rows_of(node_id)
        return rows[-1] if rows else None

    def _rounds(self) -> npt.NDArray[np.int64]:
        """How many rounds counted each row: only those between the moment before and this one are looked at."""
        count, length = self.replay.result_count, len(self.table)
        counted = np.array(self.table.column("rounds"), dtype=np.int64)
        first, last = sorted((self._counted, count))
        for result in self.replay.results[first:last]:
            if result.get("state") == "done":
                for start, stop in result.get("rows") or ():
                    counted[start : min(stop, length)] += 1 if count > self._counted else -1
        self._counted = count
        return counted

    def clients(self) -> IntArray:
        """Rows of the nodes that are in the federation, without the server."""
        rows = np.flatnonzero(self.table.present())
        server = self.table.row_of(SERVER_ID)
        found: IntArray = rows if server is None else rows[rows != server]
        return found


def _append(table: NodeTable, segment: Segment, role: Any) -> None:
    """Append rows of nodes that are not there yet: an id may come again after its node left."""
    if len(table) + len(segment) > ROWS_LIMIT:
        raise ReplayError(f"the journal claims more than {ROWS_LIMIT:,} nodes: it is damaged")
    if len(segment):
        rows = table.append(segment, role, 0)
        table.set(slice(rows.start, rows.stop), state=NodeState.REMOVED)


def _table_of(layout: Layout) -> NodeTable:
    table = NodeTable()
    _append(table, ListedIds((SERVER_ID,)), "server")
    for group in layout.node_groups():
        rows = range(len(table), len(table) + len(group.segment))
        _append(table, group.segment, group.role)
        table.set(slice(rows.start, rows.stop), group=group.group + 1)
    if layout.topology.aggregators:
        _append(table, ListedIds(tuple(layout.topology.aggregators)), AGGREGATOR_ROLE)
    return table


def _named(replay: Replay) -> Any:
    """Rows and ids of nodes that events name by both."""
    for event in replay.events:
        ids = event.data.get("ids") or ()
        if ids and event.data.get("rows") and "segment" not in event.data:
            spans = spans_of(event)
            if sum(stop - first for first, stop in spans) == len(ids):
                yield from zip(rows_of_ranges(spans).tolist(), map(str, ids), strict=True)
    for base in replay.bases:
        yield from ((row, node_id) for node_id, row in base.row_ids.items())


def _guessed(replay: Replay) -> list[tuple[Segment, Any]]:
    """Segments and roles of all rows that events name, where no layout says who they are."""
    ids = dict(_named(replay))
    length = max([0, *(len(base) for base in replay.bases), *(row + 1 for row in ids)])
    for event in replay.events:
        length = max([length, *(stop for _, stop in spans_of(event))])
    length = min(length, GUESSED_LIMIT)
    joined: dict[int, Added] = {added.first: added for added in replay.added if added.first is not None}
    length = max([length, *(first + len(added.ids) for first, added in joined.items())])
    found: list[tuple[Segment, Any]] = []
    row = 0
    names: list[str] = []
    for mark in sorted(mark for mark in {*ids, *joined, length} if mark <= GUESSED_LIMIT):
        if mark < row:
            continue  # within those who joined together
        if names and (mark > row or mark not in ids or mark in joined):
            found.append((ListedIds(tuple(names)), UNKNOWN_ROLE))
            names = []
        if mark > row:
            found.append((PatternIds("row_", "", row, mark - row), UNKNOWN_ROLE))
        row = mark
        if mark in joined:
            found.append((joined[mark].ids, joined[mark].role))
            row += len(joined[mark].ids)
        elif ids.get(mark) == SERVER_ID:
            found.append((ListedIds((SERVER_ID,)), SERVER_ID))
            row += 1
        elif mark in ids:
            names.append(ids[mark])
            row += 1
    return found


ELSEWHERE = "not recorded"
"""Stands for the hosts of journals that do not tell of them."""

Wire = list[dict[str, Any]]


def pool_at(replay: Replay, nodes: ReplayNodes) -> tuple[list[BundleStatus], list[HostStatus]]:
    """Bundles and hosts at the moment, as updates tell them."""
    with contextlib.suppress(
        KeyError, TypeError, ValueError, AttributeError, OverflowError
    ):  # one that cannot be read says nothing
        told = replay.latest("pool")
        if told is not None:
            return _bundles(told), [_host(*host) for host in told.get("hosts") or ()]
        told = replay.upcoming("pool")
        if told is not None and not replay.sparse:
            # What is reserved later is planned by now.
            return [replace(bundle, host="", state="planned") for bundle in _bundles(told)], []
    seated = nodes.table.column("bundle")
    used = int(seated.max(initial=-1)) + 1
    planned = _planned(nodes.layout) if nodes.layout is not None else []
    host = ELSEWHERE if used else ""
    state = "ready" if used else "planned"
    bundles = [
        _bundle(index, host, planned[index] if index < len(planned) else {}, state)
        for index in range(max(used, len(planned)))
    ]
    # What it has is not known either: at least what is asked of it.
    asked = {"CPU": sum(one.cpu for one in bundles), "GPU": sum(one.gpu for one in bundles)}
    hosts = [_host(ELSEWHERE, asked, True)] if used and np.any(seated >= 0) else []
    return bundles, hosts


def _bundles(told: Mapping[str, Any]) -> list[BundleStatus]:
    read_spans([[first, stop] for first, stop, *_ in told.get("bundles") or ()], 2, BUNDLES_LIMIT)
    return [
        _bundle(index, host, resources, state)
        for first, stop, host, resources, state in told.get("bundles") or ()
        for index in range(int(first), int(stop))
    ]


def _bundle(index: int, host: str, resources: Mapping[str, float], state: str) -> BundleStatus:
    return BundleStatus.of(index, host, resources, state, "coordinator" if index == 0 else "")


def _host(name: str, resources: Mapping[str, float], alive: bool) -> HostStatus:
    return HostStatus.of(name, name, alive, resources, name == "head")


def _planned(layout: Layout) -> list[Mapping[str, float]]:
    """The bundles that a layout asks for; without amounts where they depend on the cluster."""
    placement = layout.placement
    if isinstance(placement.bundles, list):
        listed = [
            [{"CPU": bundle.cpu, "GPU": bundle.gpu, **bundle.resources}] * bundle.count for bundle in placement.bundles
        ]
        return [{}, *itertools.chain.from_iterable(listed)]
    count = (
        placement.num_bundles(layout.num_nodes + len(layout.topology.aggregators))
        if placement.bundles is not None
        else 0
    )
    if not count:
        return []
    if placement.cpus is not None:
        try:
            return list(
                split_bundles(
                    count, placement.cpus, placement.gpus, placement.split,
                    seed=placement.seed, weights=placement.weights, resources=placement.resources,
                )
            )  # fmt: skip
        except RedError:
            pass
    return [{}] * (count + 1)
