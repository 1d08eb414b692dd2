"""What a journal's events add up to: the state that a supervisor takes up again after its death.

A fold is columnar where events name rows (a million rows are three arrays) and a dictionary where they
name ids only.  Folds of consecutive events add up to the fold of all of them, so that a snapshot of the
older ones can stand for them: `fold(older) + fold(newer) == fold(older and newer)`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.errors import RedError
from red_tui.journal.limits import INFLATED_LIMIT, ROWS_LIMIT, check_segment, checked_bundle, inflate, read_json
from red_tui.journal.node_rows import UNKNOWN, Rows, read_spans, rows_of
from red_tui.nodes.ids import Segment, segment_from_wire
from red_tui.nodes.states import STATES, NodeState
from red_tui.protocol.events import Event

_ANY_ROUND = 1 << 53
"""Stands for the round that ended where an older fold does not tell which it was."""

CHECKPOINTS_KEPT = 64
"""Max checkpoints that a fold remembers; far fewer files are kept."""

COMMANDS_KEPT = 1000
"""Max command ids that a fold remembers."""

VERSIONS_KEPT = 64
"""Max versions that a fold remembers."""

UNREAD_KEPT = 64
"""Max unreadable events that a fold remembers."""

_CODES = {str(state): state.code for state in STATES}
_ABSENT = (UNKNOWN, NodeState.REMOVED.code)


logger = logging.getLogger(__name__)


class JournalError(RedError):
    """A journal cannot be used, or not now.  Field: file."""


_UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, MemoryError, JournalError)


@dataclass(frozen=True)
class Added:
    """Nodes that joined a federation after its layout.

    Attributes:
        seq: The event that says so.
        segment: Their ids, as `nodes.ids.segment_from_wire` reads them.
        role: Their role, or one for each.
        template: `module:Class` of their template; None for the layout's.
        first: Row of the first of them, where the event has it.
    """

    seq: int
    segment: list[Any]
    role: Any
    template: str | None
    first: int | None

    @property
    def ids(self) -> Segment:
        """Their ids, without spelling them out."""
        return segment_from_wire(self.segment)


@dataclass(eq=False)
class Fold:
    """What consecutive events of a federation add up to.

    Attributes:
        rounds: Results of the finished rounds, in order.
        failed_rounds: Rounds that did not count.
        added: Nodes that joined, in order.
        checkpoints: `{"round", "file", "digest"}` of the last checkpoints, in order.
        topology: The last topology that was set, if one was.
        changed: What of the next rounds was changed, by name: the last value of each.
        commands: Ids of the last commands that were carried out, in order.
        last_seq: The last event.
        unread: Numbers of the first events that could not be read.
        versions: Of red-tui and the libraries below it, each with the first round of the run that began with it.
        rounds_before: The round after which rounds go on, where a damaged journal had lost those up to it.
    """

    rounds: list[Mapping[str, Any]] = field(default_factory=list)
    failed_rounds: list[Mapping[str, Any]] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    checkpoints: list[Mapping[str, Any]] = field(default_factory=list)
    topology: Mapping[str, Any] | None = None
    changed: Mapping[str, Any] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    last_seq: int = 0
    unread: list[int] = field(default_factory=list)
    rounds_before: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)
    _rows: Rows = field(default_factory=Rows, repr=False)
    # Nodes that were named by id while their row was not known: state, bundle, seq.
    _by_id: dict[str, tuple[int, int, int]] = field(default_factory=dict, repr=False)
    # Nodes whose row was named together with their id: row, seq.
    _links: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    # The last round that began (seq, number), the last event that ended one, and which one that was.
    _begun: tuple[int, int] = (0, 0)
    _ended: int = 0
    _ended_round: int = 0
    # The last run of rounds that began, [target, until, rows, first], or None after its end; and its event.
    _run: tuple[int, list[Any] | None] = (0, None)

    # -- what it says ----------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of rows up to the last one that an event has named."""
        return len(self._rows)

    @property
    def interrupted(self) -> int | None:
        """Number of the round that began and neither ended nor was stopped, or None."""
        seq, number = self._begun
        # A round may begin before the one ahead of it is on disk, and thereby over.
        return number if seq > self._ended or number > self._ended_round else None

    @property
    def run(self) -> tuple[int, str | None] | None:
        """The run of rounds that had not ended: its last round, and the condition that ends it before."""
        found = self._run[1]
        return None if found is None else (int(found[0]), None if found[1] is None else str(found[1]))

    @property
    def among(self) -> list[list[int]] | None:
        """Ranges of the rows that may take part in that run; None: all."""
        found = self._run[1]
        return None if found is None or len(found) < 3 or found[2] is None else list(found[2])

    @property
    def run_first(self) -> int:
        """Number of the first round of that run; 0 where it is not known."""
        found = self._run[1]
        return 0 if found is None or len(found) < 4 else int(found[3])

    @property
    def state_codes(self) -> npt.NDArray[np.uint8]:
        """Code of each row's last state (`nodes.states.STATES`), `UNKNOWN` where no event has named it."""
        return self._rows.state

    @property
    def row_bundles(self) -> npt.NDArray[np.int32]:
        """Bundle of each row, -1 for none."""
        return self._rows.bundle

    @property
    def row_seqs(self) -> npt.NDArray[np.int64]:
        """Number of the event that last named each row, 0 for none."""
        return self._rows.seq

    @property
    def row_ids(self) -> dict[str, int]:
        """Rows of the nodes whose ids were told together with their rows, by id."""
        return {node_id: row for node_id, (row, _) in self._links.items()}

    @property
    def states(self) -> dict[str, str]:
        """Last state of each node whose id is known, by id; removed nodes are gone."""
        return {node_id: str(STATES[code]) for node_id, code, _ in self._named() if code not in _ABSENT}

    @property
    def bundles(self) -> dict[str, int]:
        """Bundle of each node that has one and whose id is known, by id."""
        return {node_id: at for node_id, code, at in self._named() if at >= 0 and code not in _ABSENT}

    def columns(
        self, length: int, row_of: Callable[[str], int | None] | None = None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """State code and bundle of the first `length` rows of a table: virtual and -1 where nothing is known.

        Args:
            length: Rows of the table.
            row_of: Finds the row of nodes that events named by id only, as older journals do.
        """
        codes = np.full(length, NodeState.VIRTUAL.code, dtype="u1")
        bundles = np.full(length, -1, dtype="i4")
        seqs = np.zeros(length, dtype="i8")
        told = np.flatnonzero(self._rows.state[:length] != UNKNOWN)
        codes[told], bundles[told] = self._rows.state[told], self._rows.bundle[told]
        seqs[told] = self._rows.seq[told]
        for node_id, (code, bundle, seq) in self._by_id.items():
            row = row_of(node_id) if row_of is not None else None
            if row is not None and row < length and seq > seqs[row]:
                codes[row], bundles[row], seqs[row] = code, bundle, seq
        return codes, bundles

    def row_of(self, node_id: str) -> int | None:
        """Row of a node, where the events say it."""
        row, since = self._links.get(node_id, (None, 0))
        for added in reversed(self.added):
            if added.seq < since:
                break
            index = None if added.first is None else added.ids.index(node_id)
            if index is not None:
                return (added.first or 0) + index
        return row

    def _named(self) -> Iterator[tuple[str, int, int]]:
        """Id, state and bundle of all nodes whose ids are known."""
        segments = (node_id for added in self.added if added.first is not None for node_id in added.ids)
        for node_id in dict.fromkeys((*self._by_id, *self._links, *segments)):
            row = self.row_of(node_id)
            if row is None:
                code, bundle, _ = self._by_id[node_id]
                yield node_id, code, bundle
            elif row < len(self._rows):
                yield node_id, int(self._rows.state[row]), int(self._rows.bundle[row])

    @property
    def num_single(self) -> int:
        """Number of nodes of which something is kept one by one, by id, and not in columns."""
        return len(self._by_id.keys() | self._links.keys())

    # -- adding events ---------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Add one event.  One that cannot be read is passed over and noted in `unread`: the rest still counts."""
        try:
            nested = nested_fold(event)
            if nested is not None:
                self.merge(nested)
            self._take_rounds(event)
            self._take_nodes(event.seq, event.data)
        except _UNREADABLE as error:
            logger.debug("event %d of the journal cannot be read (%s: %s)", event.seq, type(error).__name__, error)
            self.unread = [*self.unread, event.seq][:UNREAD_KEPT]
        self.last_seq = event.seq

    def take_results(self, event: Event) -> None:
        """Add only the results of rounds that an event holds."""
        with contextlib.suppress(*_UNREADABLE):
            nested = nested_fold(event)
            if nested is not None:
                self.rounds += nested.rounds
                self.failed_rounds += nested.failed_rounds
            self._take_result(event.data.get("result"))

    def _take_result(self, result: Mapping[str, Any] | None) -> None:
        if result is not None:
            (self.rounds if result["state"] == "done" else self.failed_rounds).append(result)

    def _take_rounds(self, event: Event) -> None:
        data = event.data
        result = data.get("result")
        self._take_result(result)
        if event.kind == "round" and "begin" in data:
            self._begun = (event.seq, int(data["begin"]))
        if result is not None or "stopped" in data:
            number = data["stopped"] if result is None else result.get("number")
            self._ended, self._ended_round = event.seq, number if isinstance(number, int) else _ANY_ROUND
        if "checkpoint" in data:
            self.checkpoints = [*self.checkpoints, data["checkpoint"]][-CHECKPOINTS_KEPT:]
        if "rounds_before" in data:
            self.rounds_before = max(self.rounds_before, int(data["rounds_before"]))
        if "topology" in data:
            self.topology = dict(data["topology"])
        if "changed" in data:
            self.changed = {**self.changed, **data["changed"]}
        if "run" in data:
            self._run = (event.seq, _checked_run(data["run"]))
        if "versions" in data and len(self.versions) < VERSIONS_KEPT:
            self.versions = {str(data["versions"])[:200]: self.run_first, **self.versions}
        if "command" in data:
            self.commands = [*self.commands, str(data["command"])][-COMMANDS_KEPT:]

    def _take_nodes(self, seq: int, data: Mapping[str, Any]) -> None:
        spans = None if data.get("rows") is None else read_spans(data["rows"], 2)
        if "segment" in data:
            check_segment(data["segment"])
            first = int(spans[0, 0]) if spans is not None and len(spans) else None
            self.added.append(Added(seq, list(data["segment"]), data.get("role"), data.get("template"), first))
        if not data.get("state"):
            return
        code, bundle = _CODES[data["state"]], checked_bundle(data.get("bundle"))
        ids = data.get("ids") or ()
        if spans is not None:
            seats = read_spans(data.get("bundles") or (), 3)
            self._rows.put_spans(spans, code, bundle, seq)
            self._rows.put_bundles(seats)
            if len(ids) and "segment" not in data and int((spans[:, 1] - spans[:, 0]).sum()) == len(ids):
                rows = rows_of(spans)
                self._links.update((node_id, (int(row), seq)) for node_id, row in zip(ids, rows, strict=True))
            return
        for node_id in ids:
            row = self.row_of(node_id) if self._links or self.added else None
            if row is None:
                self._by_id[node_id] = (code, bundle, seq)
            else:
                self._rows.put(row, code, bundle, seq)

    # -- adding folds ----------------------------------------------------------------------------

    def merge(self, newer: Fold) -> None:
        """Add the fold of the events that follow."""
        # What `newer` says of ids without rows is meant for the rows that they had before it.
        resolved = []
        for node_id, effect in newer._by_id.items():
            row = self.row_of(node_id)
            if row is None:
                self._by_id[node_id] = effect
            else:
                resolved.append((row, effect))
        self._rows.put_newer(newer._rows)
        for row, (code, bundle, seq) in resolved:
            if row >= len(self._rows) or seq > self._rows.seq[row]:
                self._rows.put(row, code, bundle, seq)
        self._links.update(newer._links)
        self.rounds += newer.rounds
        self.failed_rounds += newer.failed_rounds
        self.added += newer.added
        self.checkpoints = [*self.checkpoints, *newer.checkpoints][-CHECKPOINTS_KEPT:]
        self.topology = self.topology if newer.topology is None else newer.topology
        self.changed = {**self.changed, **newer.changed}
        self.commands = [*self.commands, *newer.commands][-COMMANDS_KEPT:]
        self.versions = dict([*{**newer.versions, **self.versions}.items()][-VERSIONS_KEPT:])
        self._run = newer._run if newer._run[0] else self._run
        self.last_seq = max(self.last_seq, newer.last_seq)
        self.rounds_before = max(self.rounds_before, newer.rounds_before)
        self.unread = [*self.unread, *newer.unread][:UNREAD_KEPT]
        self._begun = newer._begun if newer._begun[0] else self._begun
        if newer._ended:
            self._ended, self._ended_round = newer._ended, newer._ended_round

    def copy(self) -> Fold:
        """A fold of its own that says the same."""
        made = replace(self, _rows=self._rows.copy(), _by_id=dict(self._by_id), _links=dict(self._links))
        made.rounds, made.failed_rounds, made.added = list(self.rounds), list(self.failed_rounds), list(self.added)
        return made

    def __add__(self, newer: Fold) -> Fold:
        both = Fold()
        both.merge(self)
        both.merge(newer)
        return both

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fold):
            return NotImplemented
        return self._plain() == other._plain() and self._rows == other._rows

    # -- as bytes --------------------------------------------------------------------------------

    def _plain(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "failed_rounds": self.failed_rounds,
            "added": [asdict(added) for added in self.added],
            "checkpoints": self.checkpoints,
            "topology": self.topology,
            "changed": self.changed,
            "commands": self.commands,
            "run": list(self._run),
            "last_seq": self.last_seq,
            "unread": self.unread,
            "rounds_before": self.rounds_before,
            "versions": dict(self.versions),
            "by_id": {node_id: list(effect) for node_id, effect in self._by_id.items()},
            "links": {node_id: list(link) for node_id, link in self._links.items()},
            "begun": list(self._begun),
            "ended": self._ended,
            "ended_round": self._ended_round,
            "length": len(self._rows),
            "states": [str(state) for state in STATES],
        }

    def to_bytes(self) -> bytes:
        """This fold, compressed, for `from_bytes`."""
        head = json.dumps(self._plain(), separators=(",", ":"), default=plain_value).encode()
        return zlib.compress(b"".join([struct.pack("<Q", len(head)), head, self._rows.to_bytes()]), 3)

    @classmethod
    def from_bytes(cls, data: bytes) -> Fold:
        """The fold that `to_bytes` gave.

        Raises:
            JournalError: If the bytes are damaged.
        """
        try:
            raw = inflate(data, INFLATED_LIMIT + 13 * ROWS_LIMIT)
            start = 8 + struct.unpack_from("<Q", raw)[0]
            plain = read_json(raw[8:start])
            _check_plain(plain)
            # Codes are positions among the states: another red-tui may count them otherwise.
            codes = np.full(UNKNOWN + 1, UNKNOWN, dtype="u1")
            codes[: len(plain["states"])] = [_CODES[name] for name in plain["states"]]
            by_id = {
                node_id: (int(codes[code]), checked_bundle(at), int(seq))
                for node_id, (code, at, seq) in plain["by_id"].items()
            }
            return cls(
                rounds=plain["rounds"],
                failed_rounds=plain["failed_rounds"],
                added=[Added(**added) for added in plain["added"]],
                checkpoints=plain["checkpoints"],
                topology=plain["topology"],
                changed=plain.get("changed", {}),
                commands=plain.get("commands", []),
                _run=_read_run(*plain.get("run", (0, None))),
                last_seq=plain["last_seq"],
                unread=plain["unread"],
                rounds_before=plain.get("rounds_before", 0),
                versions=plain.get("versions", {}),
                _rows=Rows.from_bytes(raw, start, plain["length"], codes),
                _by_id=by_id,
                _links={node_id: (row, seq) for node_id, (row, seq) in plain["links"].items()},
                _begun=(plain["begun"][0], plain["begun"][1]),
                _ended=plain["ended"],
                _ended_round=plain.get("ended_round", _ANY_ROUND),
            )
        except (struct.error, KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise JournalError(f"the snapshot of the journal is damaged ({type(error).__name__}: {error})") from error


def _checked_run(run: Any) -> list[Any] | None:
    """The last round of a run, the condition that ends it before, its rows and its first round; None after its end.

    Rows may be None, for all; older journals do not tell the first round.

    Raises:
        ValueError: If it is neither.
    """
    if run is None:
        return None
    last, until, *more = run
    if not isinstance(last, int) or not 0 < last < 1 << 53 or not isinstance(until, (str, type(None))):
        raise ValueError(f"{str(run)[:80]} is no run of rounds")
    among = [None if ranges is None else read_spans(ranges, 2).tolist() for ranges in more[:1]]
    first = more[1:2]
    if not all(isinstance(one, int) and 0 <= one <= last for one in first):
        raise ValueError(f"{str(run)[:80]} is no run of rounds")
    return [last, until, *among, *first]


def _read_run(seq: Any, run: Any) -> tuple[int, list[Any] | None]:
    return int(seq), _checked_run(run)


def _check_plain(plain: Any) -> None:
    """Look whether the head of a fold's bytes can be one, before rows are made of it.

    Raises:
        ValueError: If it cannot; the message says why.
        KeyError: If it lacks something.
    """
    if not isinstance(plain, dict) or not isinstance(plain["length"], int) or not 0 <= plain["length"] <= ROWS_LIMIT:
        raise ValueError("it claims rows that no federation has")
    lists = ("rounds", "failed_rounds", "added", "checkpoints", "unread", "states")
    if not all(isinstance(plain[name], list) for name in lists) or not isinstance(plain.get("commands", []), list):
        raise ValueError("its lists are none")
    versions = plain.get("versions", {})
    if not isinstance(versions, dict) or not all(type(first) is int for first in versions.values()):
        raise ValueError("its versions are none")
    if not isinstance(plain.get("changed", {}), dict) or not isinstance(plain["topology"], (dict, type(None))):
        raise ValueError("its settings are none")
    if not isinstance(plain["last_seq"], int) or not isinstance(plain.get("rounds_before", 0), int):
        raise ValueError("its numbers are none")
    for added in plain["added"]:
        check_segment(added["segment"])
        if not 0 <= (added["first"] or 0) <= ROWS_LIMIT:
            raise ValueError(f"nodes joined in row {added['first']}")
    if not all(0 <= row < ROWS_LIMIT for row, _ in plain["links"].values()):
        raise ValueError("it names rows that no federation has")


def nested_fold(event: Event) -> Fold | None:
    """What the events add up to that an event stands for, if it stands for some that were dropped."""
    nested = event.data.get("fold")
    return None if nested is None else Fold.from_bytes(bytes.fromhex(nested))


def plain_value(value: Any) -> Any:
    """What JSON writes for a value that it does not know: numbers of NumPy as numbers, the rest as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
