"""What a supervisor tells of messages, and which of its answers it keeps, without a cluster."""

from __future__ import annotations

from typing import Any, cast

import pytest

from red_tui.federation.base import FederatedBase
from red_tui.protocol.commands import PROTOCOL, READING
from red_tui.supervisor.command_handlers import TRAFFIC_TOLD, VERBS
from red_tui.supervisor.supervisor_actor import WHOLE_KEPT, Supervisor


class Talking:
    """As much of a federation as supervisor and verb ask."""

    def __init__(self, count: int) -> None:
        self.count = count

    def announce(self, *told: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def traffic(self) -> dict[str, dict[str, Any]]:
        one = {"sent": 2, "sent_bytes": 16, "received": 1, "waiting": 1, "latency": 0.1, "to": {"n0": [2, 16]}}
        return {f"n{number}": dict(one) for number in range(self.count)}


def supervisor_of(federation: Talking) -> Supervisor:
    return Supervisor("nobody", cast("FederatedBase", federation))


def told(count: int, **arguments: Any) -> dict[str, Any]:
    return VERBS["traffic"](cast("FederatedBase", Talking(count)), arguments, True)


def test_messages_are_counted_over_all_nodes_also_where_few_are_told() -> None:
    few = told(TRAFFIC_TOLD + 500)
    assert len(few["nodes"]) == TRAFFIC_TOLD and few["count"] == TRAFFIC_TOLD + 500
    assert few["totals"]["sent"] == 2 * (TRAFFIC_TOLD + 500) and few["totals"]["doubles"] == 0
    assert len(told(TRAFFIC_TOLD + 500, most=None)["nodes"]) == TRAFFIC_TOLD + 500


def test_named_nodes_are_told_and_who_is_unknown_is_left_out() -> None:
    named = told(10, ids=["n3", "nobody"])
    assert list(named["nodes"]) == ["n3"] and named["totals"]["waiting"] == 10
    assert told(0) == {"text": "", "nodes": {}, "totals": dict.fromkeys(named["totals"], 0), "count": 0}


def test_what_only_looks_is_given_once_and_not_kept_and_what_acts_is() -> None:
    supervisor = supervisor_of(Talking(0))
    assert "ok" in supervisor.shutdown("op@host")
    assert {"graph", "traffic", "pull_version"} <= READING and {"train", "send", "stop_session"} <= set(VERBS) - READING
    for verb, kept in (("graph", False), ("train", True)):
        first = supervisor.command(verb, verb, {}, "op@host", wait=False, protocol=PROTOCOL)
        assert "is ending, or was never started" in first["error"]["message"]
        again = supervisor.outcome(verb, 0.0)["error"]["message"]
        assert ("never started" in again) is kept and ("no command" in again) is not kept
    assert supervisor.remembered == {"train"}


def test_results_of_rounds_are_kept_with_the_last_answers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = supervisor_of(Talking(0))
    given = {"ok": {"text": "2 rounds", "rounds": [{"number": 1}, {"number": 2}]}}
    monkeypatch.setitem(VERBS, "run", lambda federation, args, wait: given["ok"])
    for number in range(WHOLE_KEPT + 1):
        for _ in range(2):  # a retry gets the answer of the first try
            assert supervisor.command(f"run-{number}", "run", {}, "op@host", wait=False, protocol=PROTOCOL) == given
    assert supervisor.outcome("run-1", 0.0) == given
    # Who asks again much later reads the rounds in the history.
    assert supervisor.outcome("run-0", 0.0) == {"ok": {"text": "2 rounds"}}
