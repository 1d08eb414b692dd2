"""A long history goes out in bounded portions, and events in memory hold no results of rounds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from red_tui.federation.state import FailurePolicy, FederationState
from red_tui.nodes.config import FederationConfig
from red_tui.rounds.history import History, RoundResult
from red_tui.rounds.sampling import RoundSettings
from red_tui.supervisor.client import Client
from red_tui.supervisor.command_handlers import HISTORY_PORTION, VERBS


def finished(number: int) -> RoundResult:
    return RoundResult(number, 0.5, {}, {}, ("client_0",), {}, seconds=0.1, ended=float(number))


class Asked(Client):
    """Asks a federation without a supervisor, and counts."""

    def __init__(self, federation: Any) -> None:
        self._federation = federation
        self.answers: list[dict[str, Any]] = []

    def command(self, verb: str, args: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        self.answers.append(VERBS[verb](self._federation, dict(args or {}), True))
        return self.answers[-1]


@pytest.mark.parametrize("lost", [0, 3])
def test_all_of_a_long_history_arrives_in_bounded_portions(lost: int) -> None:
    done = tuple(finished(number) for number in range(1 + lost, 2 * HISTORY_PORTION + 8))
    client = Asked(SimpleNamespace(history=History(done)))
    assert [one.number for one in client.history] == [one.number for one in done]
    assert [len(answer["rounds"]) for answer in client.answers][:2] == [HISTORY_PORTION, HISTORY_PORTION]
    assert len(client.answers) == 3


def test_a_history_without_rounds_is_one_question() -> None:
    client = Asked(SimpleNamespace(history=History()))
    assert len(client.history) == 0 and len(client.answers) == 1


def test_events_in_memory_hold_no_results_of_rounds() -> None:
    log = logging.getLogger("tests.history")
    state = FederationState(FederationConfig(federation_id="a"), RoundSettings(), FailurePolicy(), log)
    told = state.record("round", "good", "round 1", "1 result", data={"result": {"ids": ["client_0"]}})
    assert told.data["result"] == {"ids": ["client_0"]}, "the journal has it"
    state.record("node", "warn", "client_0", "raised", data={"rows": [[0, 1]]})
    assert [event.data for event in state.events] == [{}, {"rows": [[0, 1]]}]
