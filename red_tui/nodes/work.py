"""One host's part of one phase of a round: its nodes' results, added up or kept, told in records."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.nodes.failing import failure_report
from red_tui.nodes.runtime import NodeRuntime
from red_tui.nodes.sums import WeightedSum
from red_tui.nodes.template import Parameters

RECORD_ROWS = 2048
"""Nodes in one record at most."""

RECORD_SECONDS = 0.2
"""A record waits no longer for further nodes."""

BLOCK_BYTES = 16_000_000
"""Updates that travel together hold about so many bytes at most."""

LANE_PATIENCE = 1.0
"""Seconds after which one who waits for a place looks whether it is still wanted."""

SMALL = 64_000
"""Bytes of a payload up to which Ray sends it with its announcement (it does so below 100 kB)."""

Failure = tuple[int, str, str, str]
"""(row, error, where, traceback) of a node that failed alone."""


class Lane:
    """Lets `concurrency` nodes of a host work at a time, and lets go of those that do not come back."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        # A lock is a semaphore for one that costs a tenth.  Either may be released by another thread.
        permits: Any = threading.Lock() if concurrency == 1 else threading.Semaphore(concurrency)
        self.enter: Callable[..., bool] = permits.acquire
        """Wait for a place; with `timeout=` seconds at most, and then False."""
        self.leave: Callable[[], object] = permits.release
        """Give a place back: one's own, or that of a node that was given up."""


class Results:
    """What nodes gave since the last record."""

    def __init__(self) -> None:
        self.given: list[tuple[int, float, float, Mapping[str, float], float]] = []
        """(row, number of examples, seconds, metrics, loss) of each; the loss is an evaluation's."""
        self.failed: list[Failure] = []
        self.updates: list[Parameters] = []
        self.states: list[Any] = []
        self.bytes = 0
        self.began = time.monotonic()

    def record(self, phase: str = "fit", *, late: bool = False) -> dict[str, Any]:
        """The columns as plain data; what nodes did not report is NaN."""
        rows, weights, seconds, metrics, losses = zip(*self.given, strict=True) if self.given else ((),) * 5
        names = dict.fromkeys(name for reported in metrics for name in reported)
        nan = float("nan")
        return {
            "rows": np.asarray(rows, dtype=np.int64),
            "weights": np.asarray(weights, dtype=np.float64),
            "seconds": np.asarray(seconds, dtype=np.float32),
            "metrics": {
                name: np.asarray([reported.get(name, nan) for reported in metrics], dtype=np.float64) for name in names
            },
            "losses": np.asarray(losses if phase == "evaluate" else (), dtype=np.float64),
            "failed": self.failed,
            "late": late,
            "last": late,
            "payload": False,
            "small": False,
            "states": any(state is not None for state in self.states),
        }


class HostWork:
    """The nodes of one host in one phase, one after another or `concurrency` at a time.

    Args:
        phase: `fit` or `evaluate`.
        nodes: (row, node) in the order in which they work; None for a node that the host does not have.
        parameters: What each node starts from, or judges.
        config: The round's keys.
        each: Keep every update (a strategy needs them) instead of adding them up.
        lane: The host's places for work.
        forget: Told (row, node) of a node that failed, at once: a rebuild may make it anew while others work.
        own: Models that some rows start from instead of `parameters`.
    """

    def __init__(
        self,
        phase: str,
        nodes: Sequence[tuple[int, NodeRuntime | None]],
        parameters: Parameters,
        config: Mapping[str, Any],
        each: bool,
        lane: Lane,
        forget: Callable[[int, NodeRuntime], None] = lambda row, node: None,
        own: Mapping[int, Parameters] | None = None,
    ) -> None:
        self._phase, self._parameters, self._config, self._each = phase, parameters, config, each
        self._own = own or {}
        self._lane = lane
        self._todo = deque(nodes)
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._results = Results()
        self._sum = WeightedSum()
        self._working: set[int] = set()
        self._cut = False
        self._ended = False
        self._told_records = 0
        self._forget = forget

    # -- working -----------------------------------------------------------------------------------

    def run(self) -> Iterator[Any]:
        """Records, each followed by its block of updates and of states where it says so.

        Without `each` the last record is followed by the mean of all updates.
        """
        if self._lane.concurrency == 1:
            yield from self._run_here()
        else:
            yield from self._run_in_threads()
        with self._lock:
            results, cut = self._take(), self._cut
            self._ended = True
            self._told_records += not cut
        if cut:
            # The round has its results already; what came since only says who is free again.
            yield results.record(self._phase, late=True)
            return
        yield from self._told(results, last=True)

    def _run_here(self) -> Iterator[Any]:
        # As `_due` says, without a call for each node: a node may take but a few microseconds.
        one, clock = self._one, time.monotonic
        while one():
            results = self._results
            if (
                clock() - results.began >= RECORD_SECONDS
                or len(results.given) >= RECORD_ROWS
                or results.bytes >= BLOCK_BYTES
            ):
                yield from self._flush()

    def _run_in_threads(self) -> Iterator[Any]:
        count = min(self._lane.concurrency, len(self._todo))
        working = count

        def drain() -> None:
            nonlocal working
            while self._one():
                pass
            with self._news:
                working -= 1
                self._news.notify()

        threads = [threading.Thread(target=drain, name=f"red-work-{index}", daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        while working:
            with self._news:
                if working:
                    self._news.wait(RECORD_SECONDS / 2 if not self._cut else None)
            if self._due():
                yield from self._flush()

    def _one(self) -> bool:
        """Let the next node work; False when none is left, or the round has gone on."""
        while not self._lane.enter(timeout=LANE_PATIENCE):
            # Somebody does not come back.  A round that has gone on needs nobody to wait for the place.
            if self._cut:
                return False
        with self._lock:
            if not self._todo or self._cut:
                self._lane.leave()
                return False
            row, node = self._todo.popleft()
            self._working.add(row)
        update: Parameters | None = None
        state: Any = None
        try:
            if node is None:
                raise LookupError("it has no place in this host any more")
            if self._phase == "fit":
                result, metrics, seconds, state = node.fit_once(self._own.get(row, self._parameters), self._config)
                given, update = (row, float(result.num_examples), seconds, metrics, 0.0), result.parameters
            else:
                judged, metrics, seconds = node.evaluate_once(self._parameters, self._config)
                given = (row, float(judged.num_examples), seconds, metrics, float(judged.loss))
            if self._each and update is not None:
                # It may be a view of what the nodes share, and the next one is about to write there.
                update = {name: np.array(value) for name, value in update.items()}
        except (Exception, SystemExit) as error:
            report = failure_report(error, self._phase)
            if node is not None:
                node.log.error("%s failed: %s", self._phase, error)
            with self._lock:
                self._fail(row, node, report)
                self._done(row)
            return True
        with self._lock:
            results = self._results
            try:
                if update is not None and not self._cut:
                    if self._each:
                        results.updates.append(update)
                        results.bytes += sum(value.nbytes for value in update.values())
                    else:
                        self._sum.add(update, given[1])
            except Exception as error:
                # Nothing else can be wrong with an update that was checked; if it is, it is this node's alone.
                self._fail(row, node, failure_report(error, self._phase))
            else:
                results.given.append(given)
                results.states.append(state)
            self._done(row)
        return True

    def _fail(self, row: int, node: NodeRuntime | None, report: Mapping[str, Any]) -> None:
        """Under the lock: note a node that failed."""
        self._results.failed.append((row, report["error"], self._phase, report["traceback"]))
        if node is not None:
            self._forget(row, node)

    def _done(self, row: int) -> None:
        """Under the lock: a node has come back; when the round has gone on its place was given away already."""
        self._working.discard(row)
        if not self._cut:
            self._lane.leave()

    # -- telling -----------------------------------------------------------------------------------

    def _due(self) -> bool:
        results = self._results
        return (
            time.monotonic() - results.began >= RECORD_SECONDS
            or len(results.given) >= RECORD_ROWS
            or results.bytes >= BLOCK_BYTES
        ) and bool(results.given or results.failed)

    def _take(self) -> Results:
        results, self._results = self._results, Results()
        return results

    def _flush(self) -> Iterator[Any]:
        with self._lock:
            if self._cut:
                return
            results = self._take()
            self._told_records += 1
        yield from self._told(results, last=False)

    def _told(self, results: Results, *, last: bool) -> Iterator[Any]:
        record = results.record(self._phase)
        record["last"] = last
        fits = self._phase == "fit"
        if fits and self._each and results.updates:
            record["payload"] = True
            yield record
            yield results.updates
        elif fits and not self._each and last and self._sum.count:
            mean = self._sum.mean()
            record["payload"], record["total"] = True, self._sum.total
            record["small"] = sum(value.nbytes for value in mean.values()) <= SMALL
            yield record
            yield mean
        else:
            yield record
        if record["states"]:
            yield results.states

    def cut(self) -> tuple[dict[str, Any], Any, Any]:
        """End the phase for the round: what is there counts, what is under way is late.

        Returns:
            The last record that counts (`told`: how many came before it, `working`: who is still at it), its
            payload (updates, or the mean), and its states.  `{"gone": True}` if the phase has ended by itself.
        """
        with self._lock:
            if self._cut or self._ended:
                return {"gone": True}, None, None
            self._cut = True
            results = self._take()
            record = results.record(self._phase)
            record["told"] = self._told_records
            record["working"] = sorted(self._working)
            record["last"] = True
            for _ in self._working:
                self._lane.leave()
        payload: Any = None
        if self._phase == "fit" and self._each and results.updates:
            record["payload"], payload = True, results.updates
        elif self._phase == "fit" and not self._each and self._sum.count:
            record["payload"], record["total"] = True, self._sum.total
            payload = self._sum.mean()
        return record, payload, results.states
