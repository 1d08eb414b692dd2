"""The columnar table of a federation's nodes: numpy columns and a change counter per row.

One thread writes (the engine's); any thread may read.  A reader notes `version` before it looks at
rows: a row that is being written meanwhile gets a higher change number and is seen next time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from red_tui.nodes.ids import IdSpace, ListedIds, PatternIds, Segment, segment_from_wire
from red_tui.nodes.states import STATES, NodeState, Roles

IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]

COLUMNS: dict[str, tuple[str, float]] = {
    "state": ("u1", NodeState.VIRTUAL.code),
    "role": ("u2", 0),
    "group": ("u2", 0),
    "bundle": ("i4", -1),
    "since": ("f8", 0.0),
    "rounds": ("u4", 0),
    "rebuilds": ("u2", 0),
    "loss": ("f4", np.nan),
    "seconds": ("f4", np.nan),
}
"""Columns that travel: name → (dtype, value of a new row).

`state` and `role` are codes, `group` the index of the node's group in its layout, `bundle` -1 where
the node has none, `since` the wall-clock second of the last change of state, `rounds` the rounds
that counted its result, `loss` and `seconds` those of its last fit.
"""


def row_ranges(rows: IntArray) -> list[list[int]]:
    """Rows as half-open ranges `[first, stop]`, in the order of the rows: a thousand in a row are one pair."""
    if len(rows) == 0:
        return []
    rows = np.asarray(rows)
    cuts = np.flatnonzero(rows[1:] - rows[:-1] != 1)
    firsts, lasts = [rows[0], *rows[cuts + 1].tolist()], [*rows[cuts].tolist(), rows[-1]]
    return [[int(first), int(last) + 1] for first, last in zip(firsts, lasts, strict=True)]


def bundle_spans(rows: IntArray, bundles: IntArray) -> list[list[int]]:
    """Where rows are, as `[first, stop, bundle]`: what events say of nodes that share one.

    Args:
        rows: The rows.
        bundles: The bundle of each of them; one that is in none is left out.
    """
    used = np.unique(bundles).tolist()
    return [[*span, bundle] for bundle in used if bundle >= 0 for span in row_ranges(rows[bundles == bundle])]


def distinct(values: Sequence[str]) -> list[str]:
    """The different ones of some texts, in their order; millions of the same one are counted, not looked up."""
    if len(values) and values.count(values[0]) == len(values):
        return [values[0]]
    return list(dict.fromkeys(values))


class NodeTable:
    """State of all nodes of a federation, one row each, in columns."""

    def __init__(self) -> None:
        self.ids = IdSpace()
        self.version = 0
        self.roles: list[Roles] = []
        self._length = 0
        self._columns = {name: np.empty(0, dtype=dtype) for name, (dtype, _) in COLUMNS.items()}
        self._changed = np.empty(0, dtype="i8")

    def __len__(self) -> int:
        """Number of rows, those of removed nodes included."""
        return self._length

    def column(self, name: str) -> npt.NDArray[Any]:
        """The values of a column (a view; do not write)."""
        if name == "changed":
            return self._changed[: self._length]
        return self._columns[name][: self._length]

    # -- reading ---------------------------------------------------------------------------------

    def row_of(self, node_id: str) -> int | None:
        """The row of a node that has not been removed, or None."""
        for row in reversed(self.ids.rows_of(node_id)):
            if self._columns["state"][row] != NodeState.REMOVED.code:
                return row
        return None

    def state_of(self, row: int) -> NodeState:
        """State of a row."""
        return STATES[int(self._columns["state"][row])]

    def role_of(self, row: int) -> Roles:
        """Roles of a row."""
        return self.roles[int(self._columns["role"][row])]

    def value(self, name: str, row: int) -> Any:
        """One value of a column as a Python number."""
        return self._columns[name][row].item()

    def present(self) -> BoolArray:
        """Mask of the rows that have not been removed."""
        return np.asarray(self.column("state") != NodeState.REMOVED.code)

    def in_states(self, states: Iterable[NodeState]) -> BoolArray:
        """Mask of the rows in one of `states`."""
        wanted = np.zeros(len(STATES), dtype=bool)
        wanted[[state.code for state in states]] = True
        return np.asarray(wanted[self.column("state")])

    def with_role(self, role: str) -> BoolArray:
        """Mask of the rows whose roles hold `role` whole."""
        wanted = np.fromiter((role in roles for roles in self.roles), dtype=bool, count=len(self.roles))
        if not len(wanted):
            return np.zeros(self._length, dtype=bool)
        return np.asarray(wanted[self.column("role")])

    def counts(self) -> dict[NodeState, int]:
        """How many nodes are in each state; removed ones are not counted."""
        found = np.bincount(self.column("state"), minlength=len(STATES))
        return {state: int(found[state.code]) for state in STATES if state is not NodeState.REMOVED}

    def changed_since(self, version: int) -> IntArray:
        """Rows that changed after `version`: one vectorised comparison."""
        return np.flatnonzero(self.column("changed") > version)

    # -- writing (one thread) --------------------------------------------------------------------

    def append(self, segment: Segment, role: str | Sequence[str], group: int = 0) -> range:
        """Add virtual nodes, of one role or with one role each, and return their rows.

        Raises:
            ValueError: If an id is already that of a present node, or stands twice in `segment`.
        """
        self._refuse_duplicates(segment)
        rows = range(self._length, self._length + len(segment))
        self._reserve(rows.stop)
        for name, (_, default) in COLUMNS.items():
            # Rows that nobody has used yet are zero, and take no memory until something else is written.
            if default and name != "since":
                self._columns[name][rows.start : rows.stop] = default
        self._columns["role"][rows.start : rows.stop] = self._role_codes(role)
        if group:
            self._columns["group"][rows.start : rows.stop] = group
        self._columns["since"][rows.start : rows.stop] = time.time()
        self.version += 1
        self._changed[rows.start : rows.stop] = self.version
        self.ids.extend(segment)
        self._length = rows.stop
        return rows

    def set(self, rows: int | slice | Sequence[int] | IntArray, **values: Any) -> None:
        """Write columns of some rows and mark them changed.  `state` takes a `NodeState`."""
        state = values.get("state")
        if isinstance(state, NodeState):
            values["state"] = state.code
            values.setdefault("since", time.time())
        for name, value in values.items():
            self._columns[name][rows] = value
        self._changed[rows] = self.version + 1
        self.version += 1

    # -- the wire --------------------------------------------------------------------------------

    def to_wire(self, since: int = -1, known_rows: int = 0, known_segments: int = 0) -> dict[str, Any]:
        """What changed after `since`, as plain data; all of it for `since=-1`.

        `known_rows` and `known_segments` say what the receiver has already.
        """
        version, length = self.version, self._length
        segments = len(self.ids.segments)
        wire: dict[str, Any] = {
            "version": version,
            "length": length,
            "segments": self.ids.to_wire(known_segments),
            "first_segment": known_segments,
            "segments_total": segments,
            "roles": [str(role) for role in self.roles],
        }
        rows = None if since < 0 else self.changed_since(since)
        if rows is None or len(rows) > length // 2:
            wire["columns"] = {name: self.column(name)[:length].tobytes() for name in COLUMNS}
        else:
            wire["rows"] = rows.astype("<i4").tobytes()
            wire["columns"] = {name: self.column(name)[rows].tobytes() for name in COLUMNS}
        return wire

    def apply_wire(self, wire: dict[str, Any]) -> npt.NDArray[np.integer[Any]]:
        """Take over what `to_wire` of another table says; return the rows that changed.

        Raises:
            ValueError: If segments are missing (ask for all: `since=-1`).
        """
        known = len(self.ids.segments)
        if wire["first_segment"] > known:
            raise ValueError(f"segments {known} to {wire['first_segment']} are missing")
        for data in wire["segments"][known - wire["first_segment"] :]:
            self.ids.extend(segment_from_wire(data))
        self.roles = [Roles(role) for role in wire["roles"]]
        length = int(wire["length"])
        self._reserve(length)
        for name in COLUMNS:
            self._columns[name][self._length : length] = COLUMNS[name][1]
        self._changed[self._length : length] = 0
        self._length = length
        rows: npt.NDArray[np.integer[Any]]
        rows = np.frombuffer(wire["rows"], dtype="<i4") if "rows" in wire else np.arange(length)
        for name, (dtype, _) in COLUMNS.items():
            self._columns[name][rows] = np.frombuffer(wire["columns"][name], dtype=dtype)
        self.version = int(wire["version"])
        self._changed[rows] = self.version
        return rows

    # -- inside ----------------------------------------------------------------------------------

    def _role_codes(self, role: str | Sequence[str]) -> int | list[int]:
        if not isinstance(role, str):
            codes = {one: self._role_codes(one) for one in distinct(role)}
            return [cast("int", codes[one]) for one in role]
        known = [str(one) for one in self.roles]
        if role not in known:
            self.roles = [*self.roles, Roles(role)]
            return len(known)
        return known.index(role)

    def _reserve(self, length: int) -> None:
        capacity = len(self._changed)
        if length <= capacity:
            return
        grown = max(length, capacity + capacity // 2 if self._length else length)
        for name, column in self._columns.items():
            fresh = np.zeros(grown, dtype=column.dtype)
            fresh[: self._length] = column[: self._length]
            self._columns[name] = fresh
        changed = np.zeros(grown, dtype="i8")
        changed[: self._length] = self._changed[: self._length]
        self._changed = changed

    def _refuse_duplicates(self, segment: Segment) -> None:
        if isinstance(segment, ListedIds):
            if len(set(segment.ids)) != len(segment.ids):
                twice = Counter(segment.ids).most_common(1)[0][0]
                raise ValueError(f"node id {twice!r} stands twice")
            candidates: Iterable[str] = segment.ids
        else:
            candidates = self._overlap(segment)
        for node_id in candidates:
            if self.row_of(node_id) is not None:
                raise ValueError(f"node id {node_id!r} is already in the federation")

    def _overlap(self, segment: Segment) -> Iterable[str]:
        """Ids of a pattern segment that could already exist, found without listing all of them."""
        assert isinstance(segment, PatternIds)
        shape = (segment.prefix, segment.suffix, segment.width)
        for other in self.ids.segments:
            if isinstance(other, PatternIds) and (other.prefix, other.suffix, other.width) == shape:
                low = max(segment.first, other.first)
                high = min(segment.first + segment.count, other.first + other.count)
                yield from (segment[number - segment.first] for number in range(low, high))
            elif isinstance(other, PatternIds) and (other.prefix == segment.prefix and other.suffix == segment.suffix):
                yield from (node_id for node_id in segment if other.index(node_id) is not None)
            else:
                yield from (node_id for node_id in other if segment.index(node_id) is not None)


NO_ROWS: IntArray = np.empty(0, dtype=np.int64)
