"""The supervisor: the detached actor in which a federation lives."""

from __future__ import annotations

import concurrent.futures
import os
import reprlib
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from red_tui.checkpoints.sources import StartingPoint
from red_tui.errors import CommandRefused, RedError, from_wire
from red_tui.federation.base import FederatedBase
from red_tui.federation.reports import Residence
from red_tui.federation.run_folder.recovered_run import keeper_of, open_past, past_of, start_of
from red_tui.federation.schemas import check_start, spec_of
from red_tui.journal.journal import Journal
from red_tui.journal.launch_record import LaunchRecord
from red_tui.layout import Layout, loads
from red_tui.nodes.states import NodeState
from red_tui.protocol.commands import BEFORE, PROTOCOL, READING, check_protocol, live_command
from red_tui.run_catalog.kept_run import note_summary
from red_tui.state_folder import federation_folder
from red_tui.supervisor.command_handlers import VERBS
from red_tui.supervisor.registry import ClusterSampler
from red_tui.supervisor.resume import folder_of, living, restarted, set_aside

COMMANDS_KEPT = 1000
"""Answers kept by command id, so that a retry gets the answer of the first try."""

WHOLE_KEPT = 16
"""Answers kept with the results of their rounds: a retry comes soon, and results are large."""

DETAIL_TIMEOUT = 5.0
BEGIN_WAIT = 25.0
"""Seconds that a question waits for the start: less than a client waits for its answer."""

WATCHERS = 32
COMMANDERS = 16


class Supervisor:
    """Runs in the cluster and owns one federation.  Its methods return plain data and never raise.

    An answer is `{"ok": value}` or `{"error": RedError.to_wire()}`.

    Args:
        fed_id: Id of the federation.
        federation: The federation, where it is there already; None: `start` or `take_up` makes it.
    """

    def __init__(self, fed_id: str, federation: FederatedBase | None = None) -> None:
        self._fed_id = fed_id
        self._federation = federation
        self._journal: Journal | None = None
        self._sampler: ClusterSampler | None = None
        self._answers: OrderedDict[str, concurrent.futures.Future[dict[str, Any]]] = OrderedDict()
        self._given: OrderedDict[str, None] = OrderedDict()
        """Commands whose answers were given last: these are kept whole."""
        self._looks: set[str] = set()
        """Commands that only look: their answers, which may be large, are given once and not kept."""
        self._lock = threading.Lock()
        self._workers = concurrent.futures.ThreadPoolExecutor(COMMANDERS, thread_name_prefix="red-command")
        self._facts: dict[str, Any] = {}
        self._failed: RedError | None = None
        self._begun = threading.Event()
        """Set when it was started, or could not be: what is asked before then waits."""
        if federation is not None:
            self._begun.set()
        elif restarted():
            answer = self.take_up("")
            if "error" in answer:
                self._failed = from_wire(answer["error"])

    def start(self, layout: str, path: str, cluster: dict[str, Any], who: str, namespace: str) -> dict[str, Any]:
        """Make the federation of a layout (its text)."""

        def begin() -> dict[str, Any]:
            parsed = loads(layout, path)
            schema, spec = spec_of(parsed, path, Path(os.getcwd()))
            folder, files_trouble = folder_of(self._fed_id)
            if check_start(parsed, path) is not None:
                # Before what it may mean of this very federation is set aside.
                start = StartingPoint(str(parsed.start_from), Path(path).absolute().parent)
                spec = replace(spec, initial_parameters=start if files_trouble else start.pinned(folder))
            earlier = (folder / "journal.db").exists()
            files_trouble = files_trouble or set_aside(folder)
            record = LaunchRecord(layout, path, cluster, who, namespace, time.time())
            files_trouble = files_trouble or record.save(folder)
            self._journal = Journal(folder / "journal.db")
            self._federation = schema.from_spec(
                spec, Residence(True, namespace, self._journal, keeper_of(folder, parsed, self._fed_id))
            )
            self._begin(record, parsed, folder)
            self._federation.warn("files", files_trouble)
            text = f"{self._federation.num_nodes} virtual nodes, launched by {who}"
            # With its layout a journal tells by itself who its rows are.
            self._federation.announce("federation", "info", self._fed_id, text, {"layout": layout, "path": path})
            if earlier and not files_trouble:
                text = "begins anew: what it did before is set aside; `red-console up LAYOUT --resume` goes on instead"
                self._federation.announce("federation", "info", self._fed_id, text)
                self._facts["begins_anew"] = True
            return self._facts

        return self._beginning(begin)

    def take_up(self, who: str) -> dict[str, Any]:
        """Go on with the federation whose files lie in this supervisor's home, and with what lives of it."""

        def go_on() -> dict[str, Any]:
            folder = federation_folder(self._fed_id)
            record = LaunchRecord.read(folder)
            parsed = loads(record.layout, record.path)
            schema, spec = spec_of(parsed, record.path, Path(os.getcwd()), recorded=True)
            spec = replace(spec, initial_parameters=start_of(folder) or spec.initial_parameters)
            self._journal, damage = open_past(folder)
            fold = self._journal.fold()
            for name in fold.commands:
                done: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
                done.set_result({"ok": {"text": "this was begun before the supervisor was restarted"}})
                self._answers[name] = done
            federation = schema.from_spec(
                spec, Residence(True, record.namespace, self._journal, keeper_of(folder, parsed, self._fed_id))
            )
            past = past_of(fold, self._journal, federation, Path(os.getcwd()), record.path, damage)
            self._federation = federation
            self._begin(record, parsed, folder)
            found = federation.take_up(past, *living(self._fed_id, record.namespace))
            self._facts["damage"] = "; ".join(filter(None, (past.damage, record.damage)))
            if record.damage:
                federation.warn("launch record", record.damage)
                federation.announce("federation", "error", "files", record.damage)
            if who:
                federation.announce("operator", "info", who, "adopt")
            return {**self._facts, "text": str(found)}

        return self._beginning(go_on)

    def _beginning(self, begin: Any) -> dict[str, Any]:
        """Start or take up, and let those who ask meanwhile go on."""
        try:
            return answered(begin)
        finally:
            self._begun.set()

    def _begin(self, record: LaunchRecord, parsed: Layout, folder: Path) -> None:
        """Facts for clients, and the sampler."""
        assert self._federation is not None and self._journal is not None
        self._facts = {
            "id": self._fed_id,
            "digest": parsed.digest(),
            "layout": record.layout,
            "layout_path": record.path,
            "title": parsed.title,
            "created": record.created,
            "pid": os.getpid(),
            "journal": str(folder / "journal.db"),
            "count": parsed.rounds.count,
        }
        self._federation.feed.created = record.created
        self._federation.warn("journal", self._journal.trouble)
        self._sampler = ClusterSampler(self._federation.feed, dict(record.cluster))

    def hello(self) -> dict[str, Any]:
        """What this federation is and how it is."""

        def tell() -> dict[str, Any]:
            federation = self._alive()
            tallied = federation.table.counts()
            # The server is not one of the nodes that `nodes` counts.
            tallied[federation.server.state] -= 1
            counts = {str(state): count for state, count in tallied.items() if count}
            return {
                **self._facts,
                "protocol": PROTOCOL,
                "age_s": max(0.0, time.time() - self._facts["created"]),
                "nodes": federation.num_nodes,
                "states": counts,
                "round": federation.feed.completed,
                "progress": federation.feed.progress.to_wire(),
                "running": federation.running,
                "session": federation.session.running,
                "state": "running" if federation.running else "idle",
            }

        return answered(tell)

    def watch(self, cursor: list[Any] | None, timeout: float, protocol: int = BEFORE) -> dict[str, Any]:
        """What is newer than a cursor; see `Feed.watch`."""

        def look() -> dict[str, Any]:
            federation = self._alive(protocol)
            if self._sampler is not None:
                self._sampler.wanted()
            return federation.feed.watch(cursor, min(timeout, 30.0))

        return answered(look)

    def command(
        self,
        command_id: str,
        verb: str,
        args: dict[str, Any],
        who: str,
        wait: bool = False,
        read_only: bool = False,
        protocol: int = BEFORE,
    ) -> dict[str, Any]:
        """Carry out a command once, however often it is sent; gives its answer, or `{"pending": True}`."""
        refused = answered(lambda: check_protocol(protocol, "this client", self._name))
        if "error" in refused:
            return refused
        with self._lock:
            future = self._answers.get(command_id)
            if future is None:
                future = self._workers.submit(self._act, command_id, verb, args, who, wait, read_only)
                self._answers[command_id] = future
                if verb in READING:
                    self._looks.add(command_id)
                while len(self._answers) > COMMANDS_KEPT:
                    self._looks.discard(self._answers.popitem(last=False)[0])
        return self.outcome(command_id, 0.0 if wait else 60.0)

    def outcome(self, command_id: str, timeout: float, protocol: int = BEFORE) -> dict[str, Any]:
        """The answer of a command, waited for at most `timeout` seconds."""
        with self._lock:
            future = self._answers.get(command_id)
        if future is None:
            return {"error": CommandRefused(f"no command {command_id!r} is known here").to_wire()}
        try:
            answer = future.result(min(timeout, 60.0))
        except concurrent.futures.TimeoutError:
            return {"pending": True}
        with self._lock:
            if command_id in self._looks:
                self._looks.discard(command_id)
                self._answers.pop(command_id, None)
            elif command_id in self._answers:
                self._given[command_id] = None
                while len(self._given) > WHOLE_KEPT:
                    oldest = self._given.popitem(last=False)[0]
                    if oldest in self._answers:
                        self._answers[oldest] = _without_rounds(self._answers[oldest])
        return answer

    def _act(
        self, command_id: str, verb: str, args: dict[str, Any], who: str, wait: bool, read_only: bool
    ) -> dict[str, Any]:
        def act() -> dict[str, Any]:
            federation = self._alive()
            spec = live_command(verb)
            if read_only and spec.writes:
                raise CommandRefused(f"{verb}: this connection is read-only")
            spec.check(args)
            if verb == "detail":
                return self._detail(str(args.get("id")))
            if verb == "events":
                return self._events(args.get("before"), int(args.get("limit", 200)))
            if spec.audits_itself:
                return VERBS[verb](federation, {**args, "who": who, "command": command_id}, wait)
            if spec.writes:
                federation.announce("operator", "info", who, _told(verb, args), {"command": command_id})
            return VERBS[verb](federation, args, wait)

        return answered(act)

    def _detail(self, node_id: str) -> dict[str, Any]:
        """All that is known of one node; its own process is asked for its log, for a moment at most."""
        import ray

        federation = self._alive()
        if node_id not in federation:
            raise CommandRefused(f"{node_id!r} is no node of {self._fed_id!r}")
        detail = federation.describe_node(node_id)
        handle = federation[node_id].handle
        if handle is not None and federation[node_id].state in (NodeState.READY, NodeState.BUSY):
            try:
                asked = [handle.red_detail.remote(), handle.red_statistics.remote()]
                more, detail["talk"] = ray.get(asked, timeout=DETAIL_TIMEOUT)
                detail.update(more)
            except Exception as error:
                detail["log"] = [[time.time(), "warning", f"its process does not answer: {type(error).__name__}"]]
        return detail

    def _events(self, before: int | None, limit: int) -> dict[str, Any]:
        """Older events, from the journal."""
        assert self._journal is not None
        return {"text": "", "events": [event.to_wire() for event in self._journal.before(before, min(limit, 1000))]}

    @property
    def remembered(self) -> set[str]:
        """Ids of the commands of which anything is kept."""
        with self._lock:
            return {*self._answers, *self._looks, *self._given}

    def parameters(self, protocol: int = BEFORE) -> dict[str, Any]:
        """The reference to the current global parameters (not the parameters), in a list."""

        def refer() -> list[Any]:
            reference = self._alive(protocol).parameters_reference
            if reference is None:
                raise CommandRefused("there are no parameters yet: run a round first")
            return [reference]

        return answered(refer)

    def shutdown(self, who: str, read_only: bool = False) -> dict[str, Any]:
        """End all that belongs to the federation but this actor."""

        def end() -> dict[str, Any]:
            if read_only:
                raise CommandRefused("down: this connection is read-only")
            federation, self._federation = self._federation, None
            if self._sampler is not None:
                self._sampler.close()
            if federation is not None:
                federation.announce("federation", "info", self._fed_id, f"ended by {who}")
                federation.close()
            if self._journal is not None:
                self._journal.close()
                note_summary(self._journal.path)
            return {"text": f"federation {self._fed_id} is down"}

        return answered(end)

    @property
    def _name(self) -> str:
        return f"the supervisor of {self._fed_id!r}"

    def _alive(self, protocol: int = PROTOCOL) -> FederatedBase:
        check_protocol(protocol, "this client", self._name)
        if not self._begun.wait(BEGIN_WAIT):
            raise CommandRefused(f"federation {self._fed_id!r} is still being started: try again in a moment")
        if self._failed is not None:
            raise self._failed
        if self._federation is None:
            raise CommandRefused(f"federation {self._fed_id!r} is ending, or was never started")
        return self._federation


def answered(act: Any) -> dict[str, Any]:
    """Run something and wrap what it gives, or what it raises, as an answer."""
    try:
        return {"ok": act()}
    except RedError as error:
        return {"error": error.to_wire()}
    except Exception as error:
        return {"error": RedError(f"{type(error).__name__}: {error}").to_wire()}


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def _is_told(value: Any) -> bool:
    """Whether an argument says anything; arrays and lists of any length are never compared."""
    return value is not None and value is not False and value != {} and value != []


def _told(verb: str, args: dict[str, Any]) -> str:
    ids = args.get("ids")
    parts = [f"{verb} now" if args.get("now") else verb]
    if ids:
        parts.append(", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else ""))
    parts += [
        f"{key} {value if isinstance(value, (str, int, float)) else _SHORT.repr(value)}"
        for key, value in args.items()
        if key not in ("ids", "kwargs", "timeout", "now", "body") and _is_told(value)
    ]
    return " ".join(parts)


def _without_rounds(given: concurrent.futures.Future[dict[str, Any]]) -> concurrent.futures.Future[dict[str, Any]]:
    """What stays of an answer that was given long ago: its rounds are in the history."""
    done = given.result().get("ok")
    if not isinstance(done, dict) or "rounds" not in done:
        return given
    kept: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
    kept.set_result({"ok": {key: value for key, value in done.items() if key != "rounds"}})
    return kept
