"""One host's part of one phase of a round: its nodes' results, added up or kept, told in records."""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from red_tui.aggregation.exact_sum import ExactMean, ExactSum
from red_tui.aggregation.ordered_sum import OrderedSum
from red_tui.aggregation.weighted_sum import PartialMean, StackedSum, WeightedSum, stacks
from red_tui.node_states.host_states import HostStates, columns_of
from red_tui.node_states.packed_state import state_size
from red_tui.node_states.state_files import StatePlace, Stored
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import FitResult, Parameters
from red_tui.nodes.user_code import failure_report, forks, leave_fork
from red_tui.runtime.fit_ahead import FitAhead
from red_tui.runtime.node_runtime import NodeRuntime, check_fit, model_of, numbers

Failure = tuple[int, str, str, str]
"""(row, error, where, traceback) of a node that failed alone; `where` is the method that raised, or `GONE`."""

GONE = ""
"""In place of the method: the host does not have the node, which has to be built again."""

Given = tuple[int, float, float, float]
"""(row, number of examples, seconds, loss) of a node's work; the loss is an evaluation's."""

RECORD_ROWS = 2048
"""Max nodes in a record."""

BLOCK_BYTES = 16_000_000
"""Approximate max bytes of updates that travel together."""

NAN = float("nan")


class Results:
    """What nodes gave since the last record.

    Attributes:
        given: Who came back, in order.
        metrics: What they reported, by name: as long as `given`.
        failed: Who failed.
        updates: Their updates, where each is wanted.
        states: By row, of nodes that keep one in memory.
        stored: By row where the states of the others have been written.
        bytes: Size of the updates, and of the states in memory.
        began: When the first of them began (monotonic).
    """

    def __init__(self) -> None:
        self.given: list[Given] = []
        self.metrics: dict[str, list[float]] = {}
        self.failed: list[Failure] = []
        self.updates: list[Parameters] = []
        self.states: dict[int, Any] = {}
        self.stored: dict[int, Stored] = {}
        self._sizes: dict[int, int] = {}
        self.bytes = 0
        self.began = time.monotonic()

    @property
    def large(self) -> bool:
        """Whether they are to travel, however little time has passed."""
        return len(self.given) >= RECORD_ROWS or self.bytes >= BLOCK_BYTES

    def measure(self, metrics: Mapping[str, Any]) -> None:
        """What the next of `given` reported; what it does not report is NaN.

        Raises:
            TypeError: If a value is no number; then nothing is noted.
        """
        count = len(self.given)
        self.trim()
        plain = numbers(metrics)
        for name in plain:
            if name not in self.metrics:
                self.metrics[name] = [NAN] * count
        for name, column in self.metrics.items():
            column.append(plain.get(name, NAN))

    def trim(self) -> None:
        """Forget what was noted of a node that did not come to be one of `given`."""
        count = len(self.given)
        for column in self.metrics.values():
            del column[count:]

    def take_back(self, row: int) -> None:
        """A node that had come back has failed."""
        place = next(place for place, given in enumerate(self.given) if given[0] == row)
        del self.given[place]
        for column in self.metrics.values():
            del column[place]
        self.states.pop(row, None)
        self.stored.pop(row, None)

    def keep(self, row: int, state: Any) -> None:
        """Note the state of a node, or where it has been written."""
        if type(state) is Stored:
            self.stored[row] = state
            return
        self.states[row], size = state, state_size(state)
        self._sizes[row] = size
        self.bytes += size

    def kept(self) -> list[Any]:
        """States in the order of `given`; None for nodes that keep none."""
        return [self.states.get(given[0]) for given in self.given]

    def record(self, phase: str = "fit", *, late: bool = False, trouble: str = "") -> dict[str, Any]:
        """The columns as plain data.

        Args:
            phase: What the nodes were at.
            late: Whether nothing of it counts.
            trouble: Why states are in memory that belong into files, or nothing.
        """
        rows, weights, seconds, losses = zip(*self.given, strict=True) if self.given else ((),) * 4
        return {
            "rows": np.asarray(rows, dtype=np.int64),
            "weights": np.asarray(weights, dtype=np.float64),
            "seconds": np.asarray(seconds, dtype=np.float32),
            "metrics": {name: np.asarray(column, dtype=np.float64) for name, column in self.metrics.items()},
            "losses": np.asarray(losses if phase == "evaluate" else (), dtype=np.float64),
            "failed": self.failed,
            "late": late,
            "last": late,
            "payload": False,
            "small": False,
            "states": bool(self.states),
            "state_bytes": [self._sizes.get(row, 0) for row in rows] if self.states else [],
            "stored": columns_of(self.stored) if self.stored else None,
            "trouble": trouble,
        }


RECORD_SECONDS = 0.2
"""A record waits no longer for further nodes."""

STRETCH_SECONDS = 0.002
"""Nodes that work one after another have the host's place for so long, or for one of them if that takes longer."""

LANE_PATIENCE = 1.0
"""Seconds after which one who waits for a place looks whether it is still wanted."""

SMALL = 64_000
"""Bytes of a payload up to which Ray sends it with its announcement (it does so below 100 kB)."""


class Order(NamedTuple):
    """What a host is asked for in one phase of a round; one argument, for each costs.

    Attributes:
        token: Names the call for `cut`.
        phase: `fit` or `evaluate`.
        rows: The nodes, in the order in which they work.
        config: The round's keys.
        each: Keep every update instead of adding them up.
        places: Rows that start from a model of their own: the block that holds it, and its place there.
        exact: Add updates up without an error, so that it makes no difference which host has which nodes.
        state_place: Where the states of nodes are written; None: they stay in memory.
    """

    token: str
    phase: str
    rows: IntArray
    config: Mapping[str, Any]
    each: bool
    places: Mapping[int, tuple[int, int | None]] | None = None
    exact: bool = False
    state_place: StatePlace | None = None


def packed(plain: Any) -> bytes:
    """Plain data and arrays of numbers as bytes, which Ray hands on as they are.

    Ray looks at each object in Python for what Python's own pickle may not know: that takes longer than a small
    round's nodes do.
    """
    return pickle.dumps(plain, protocol=pickle.HIGHEST_PROTOCOL)


def unpacked(data: bytes) -> Any:
    """What `packed` was given."""
    return pickle.loads(data)


class WorkSlots:
    """Lets `concurrency` nodes of a host work at a time, and lets go of those that do not come back."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        # A lock is a semaphore for one that costs a tenth.  Either may be released by another thread.
        permits: Any = threading.Lock() if concurrency == 1 else threading.Semaphore(concurrency)
        self.enter: Callable[..., bool] = permits.acquire
        """Wait for a place; with `timeout=` seconds at most, and then False."""
        self.leave: Callable[[], object] = permits.release
        """Give a place back: one's own, or that of a node that was given up."""


Gave = tuple[Parameters | None, float, Mapping[str, float], float, Any]
"""Update, number of examples, metrics, loss (of an evaluation) and state of a node."""


class BatchRunner:
    """The nodes of one host in one phase, one after another or `concurrency` at a time.

    Args:
        phase: `fit` or `evaluate`.
        nodes: (row, node) in the order in which they work; None for a node that the host does not have.
        parameters: What each node starts from, or judges.
        config: The round's keys.
        each: Keep every update (a strategy needs them) instead of adding them up.
        lane: The host's places for work.
        own: Models that some rows start from instead of `parameters`.
        exact: Add updates up without an error.
        states: Takes the states of the nodes; None: a host's of its own.
        state_place: Where they are written; None: they stay in memory.
    """

    def __init__(
        self,
        phase: str,
        nodes: Sequence[tuple[int, NodeRuntime | None]],
        parameters: Parameters,
        config: Mapping[str, Any],
        each: bool,
        lane: WorkSlots,
        own: Mapping[int, Parameters] | None = None,
        exact: bool = False,
        states: HostStates | None = None,
        state_place: StatePlace | None = None,
    ) -> None:
        self._host_states, self._state_place = states or HostStates(), state_place
        self._phase, self._parameters, self._config, self._each = phase, parameters, dict(config), each
        self._own = own or {}
        self._model = model_of(parameters) if phase == "fit" else []
        self._lane = lane
        self._todo = deque(nodes)
        alone = phase != "fit" or lane.concurrency > 1 or bool(self._own)
        self._ahead = None if alone else FitAhead.where_asked_for(nodes, parameters, self._config)
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._results = Results()
        self._places: dict[int, int] = {}
        """Places of rows among all that work, where they come back in any order."""
        self._stack: StackedSum | None = None
        self._sum: StackedSum | WeightedSum | OrderedSum | ExactSum | None = None
        if phase == "fit" and not each:
            if exact:
                self._sum = ExactSum()
            elif lane.concurrency > 1:
                self._places = {row: place for place, (row, _) in enumerate(nodes)}
                self._sum = OrderedSum(parameters, len(nodes))
            elif stacks(parameters):
                self._sum = self._stack = StackedSum(parameters)
            else:
                self._sum = WeightedSum()
        self._tracebacks: dict[str, str] = {}
        """Tracebacks that were told already, by error."""
        self._stacked: list[tuple[int, NodeRuntime]] = []
        """Whose updates are on the stack; what they gave counts, unless `_settle` finds that it cannot."""
        self._working: dict[int, int] = {}
        """The row at work in each thread that has a place in the lane."""
        self._cut = False
        self._ended = False
        self._told_records = 0

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
            self._settle()
            results, cut = self._take(), self._cut
            self._ended = True
            self._told_records += not cut
        if cut:
            # The round has its results already; what came since only says who is free again.
            yield results.record(self._phase, late=True)
            return
        yield from self._told(results, last=True)

    def _run_here(self) -> Iterator[Any]:
        while self._stretch():
            if self._due():
                yield from self._flush()

    def _run_in_threads(self) -> Iterator[Any]:
        count = min(self._lane.concurrency, len(self._todo))
        working = count

        def drain() -> None:
            nonlocal working
            while self._stretch():
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

    def _stretch(self) -> bool:
        """Let nodes work one after another in one place of the lane; False when none is left or the round has gone on.

        A node may take but a few microseconds: the place is given back when a record is due or `STRETCH_SECONDS` have
        passed, and the lock is taken once a node.  Whoever has the place is in `_working`: `cut` gives it away.
        """
        while not self._lane.enter(timeout=LANE_PATIENCE):
            # Somebody does not come back.  A round that has gone on needs nobody to wait for the place.
            if self._cut:
                return False
        todo, working, lock, clock = self._todo, self._working, self._lock, time.perf_counter
        stack, stacked, full, here = self._stack, self._stacked, False, threading.get_ident()
        parameters, config, born = self._parameters, self._config, forks.count
        with lock:
            if not todo or self._cut:
                self._lane.leave()
                return False
            row, node = todo.popleft()
            working[here] = row
        began = clock()
        until = began + STRETCH_SECONDS
        while True:
            # What the node before gave is let go of first: the next one's arrays take its place in memory.
            report, result, update = None, None, None
            try:
                ready = None
                if self._ahead is not None and node is not None:
                    ready, share = self._ahead.take(row)
                    began = clock() - share
                if stack is None or node is None:
                    update, weight, metrics, loss, state = self._one(row, node, ready)
                else:
                    # As `fit_once` does; whether the update is one shows when it is put on the stack.
                    result = node.fit(parameters.copy(), config.copy()) if ready is None else ready
                    if type(result) is not FitResult:
                        check_fit(result, parameters)
                    weight, metrics, loss = result.num_examples, result.metrics, 0.0
                    state = self._host_states.keep(row, node, self._state_place) if node.red_keeps_state else None
            except BaseException as error:
                report = self._reported(node, error)
            if forks.count != born:
                leave_fork(None)
            lock.acquire()
            try:
                results, now = self._results, clock()
                seconds = now - began
                if report is None:
                    try:
                        columns = results.metrics
                        if type(metrics) is not dict or len(metrics) != len(columns):
                            results.measure(metrics)
                        else:
                            # As `measure` does, for nodes that report what those before did.
                            for name, value in metrics.items():
                                column = columns.get(name)
                                if column is None or type(value) is not float:
                                    results.measure(metrics)
                                    break
                                column.append(value)
                        if result is not None and stack is not None and node is not None:
                            placed = stack.push(result.parameters, weight) if not self._cut else None
                            if placed is None:
                                result = check_fit(result, parameters)
                                weight = result.num_examples
                                placed = not self._cut and stack.put(result.parameters, weight)
                            if not self._cut:
                                full = placed
                                stacked.append((row, node))
                        elif update is not None and not self._cut:
                            self._add(row, update, weight)
                            now = clock()
                        results.given.append((row, weight, seconds, loss))
                        if state is not None:
                            results.keep(row, state)
                    except BaseException as error:
                        results.trim()
                        report = self._reported(node, error)
                if report is not None:
                    self._fail(row, report)
                if full:
                    self._settle()
                    full, now = False, clock()
                if self._cut:
                    # The place was given away already.
                    working.pop(here, None)
                    return True
                due = len(results.given) >= RECORD_ROWS if stack is not None else results.large
                if now >= until or not todo or due:
                    del working[here]
                    self._lane.leave()
                    return True
                row, node = todo.popleft()
                working[here] = row
            finally:
                lock.release()
            began = now

    def _one(self, row: int, node: NodeRuntime | None, ready: FitResult | None = None) -> Gave:
        """One node's work, looked at.

        Raises:
            Exception: What the template raised, or what is wrong with what it gave.
        """
        if node is None:
            raise LookupError("it has no place in this host any more")
        if self._phase == "evaluate":
            judged, metrics = node.evaluate_once(self._parameters, self._config)
            return None, float(judged.num_examples), metrics, float(judged.loss), None
        start = self._own.get(row, self._parameters)
        keep, place = self._host_states.keep, self._state_place
        given = node.fit_once(start, self._config, self._model, lambda one: keep(row, one, place), ready)
        result, metrics, state = given
        update = result.parameters
        if self._each:
            # It may be a view of what the nodes share, and the next one is about to write there.
            update = {name: np.array(value) for name, value in update.items()}
        return update, float(result.num_examples), metrics, 0.0, state

    def _reported(self, node: NodeRuntime | None, error: BaseException) -> dict[str, Any]:
        """What a node did wrong, which its log tells too."""
        if node is None:
            return {"error": str(error), "where": GONE, "traceback": ""}
        report = failure_report(error, self._phase, self._tracebacks)
        node.log.error("%s failed: %s", report["where"], report["error"])
        return report

    def _add(self, row: int, update: Parameters, weight: float) -> None:
        """Under the lock: an update counts."""
        if isinstance(self._sum, (WeightedSum, ExactSum)):
            self._sum.add(update, weight)
        elif isinstance(self._sum, OrderedSum):
            self._sum.add(self._places[row], update, weight)
        else:
            self._results.updates.append(update)
            self._results.bytes += sum(value.nbytes for value in update.values())

    def _settle(self) -> None:
        """Under the lock: add up what is on the stack; a node whose update is not finite has failed."""
        if self._stack is not None:
            self._fail_those(self._stack.settle())
            self._stacked.clear()

    def _fail_those(self, bad: Mapping[int, tuple[str, str]]) -> None:
        """Under the lock: nodes whose updates, at these places of the stack, are not finite."""
        for place, (name, trouble) in bad.items():
            row, node = self._stacked[place]
            self._results.take_back(row)
            try:
                raise ValueError(f"the parameters that fit returned: {name!r} {trouble}")
            except ValueError as error:
                self._fail(row, self._reported(node, error))

    def _fail(self, row: int, report: Mapping[str, Any]) -> None:
        """Under the lock: note that a node failed.  It stays in its host and takes part in the next round."""
        self._results.failed.append((row, report["error"], report["where"], report["traceback"]))
        if isinstance(self._sum, OrderedSum) and not self._cut:
            self._sum.skip(self._places[row])

    # -- telling -----------------------------------------------------------------------------------

    def _due(self) -> bool:
        results = self._results
        return (time.monotonic() - results.began >= RECORD_SECONDS or results.large) and bool(
            results.given or results.failed
        )

    def _take(self) -> Results:
        """Under the lock: what has come, without those whose updates do not count.

        Nothing is added up for it: when records are due depends on the time, and sums must not.
        """
        if self._stack is not None:
            self._fail_those(self._stack.check())
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
        record = results.record(self._phase, trouble=self._host_states.trouble)
        record["last"] = last
        fits = self._phase == "fit"
        if fits and self._each and results.updates:
            record["payload"] = True
            yield record
            yield results.updates
        elif fits and self._sum is not None and last and self._sum.count:
            mean = self._mean(self._sum)
            record["payload"], record["total"] = True, mean.total
            record["small"] = mean.nbytes <= SMALL
            yield record
            yield mean
        else:
            yield record
        if record["states"]:
            yield results.kept()

    @staticmethod
    def _mean(whole: StackedSum | WeightedSum | OrderedSum | ExactSum) -> PartialMean | ExactMean:
        """What was added up, as it is handed on."""
        return whole.given() if isinstance(whole, ExactSum) else PartialMean(whole.mean(), whole.total)

    def cut(self) -> tuple[dict[str, Any], Any, Any]:
        """End the phase for the round: what is there counts, what is under way is late.

        Returns:
            The last record that counts (`told`: how many came before it, `working`: who is still at it), its
            payload (updates, or the mean), and its states.  `{"gone": True}` if the phase has ended by itself.
        """
        with self._lock:
            if self._cut or self._ended:
                return {"gone": True}, None, None
            self._settle()
            results = self._take()
            self._cut = True
            record = results.record(self._phase, trouble=self._host_states.trouble)
            record["told"] = self._told_records
            record["working"] = sorted(self._working.values())
            record["last"] = True
            for _ in self._working:
                self._lane.leave()
        payload: Any = None
        if self._phase == "fit" and self._each and results.updates:
            record["payload"], payload = True, results.updates
        elif self._phase == "fit" and self._sum is not None and self._sum.count:
            payload = self._mean(self._sum)
            record["payload"], record["total"] = True, payload.total
        return record, payload, results.kept()
