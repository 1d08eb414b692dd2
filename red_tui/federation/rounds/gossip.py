"""Decentralised rounds: each node has a model of its own and mixes it with its neighbours', by reference."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.aggregation.answers import Contribution
from red_tui.aggregation.weighted_sum import Mixture
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.rounds.bundle_phase import blocks_of
from red_tui.messaging import mixing_weights
from red_tui.node_states.kept_states import Kept
from red_tui.nodes.failures import cause_of_death
from red_tui.nodes.table import IntArray
from red_tui.rounds.loop import checked
from red_tui.rounds.ray_calls import answer_of

DISTANCE = "consensus_distance"

HELD_TIMEOUT = 10.0
"""Seconds that the server may take to say which models it holds."""


class Gossip:
    """Where each node's model lies, and how they mix.

    Here are references and weights; models go from the nodes' processes to their neighbours' through the
    object store.  A node that has no model yet starts from the global parameters.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self.models: dict[int, Kept] = {}

    async def mix(
        self, number: int, server: Any, contributions: Sequence[Contribution], rows: IntArray
    ) -> tuple[Any, Mapping[str, float], Mapping[int, str]]:
        """Mix the models of `rows` along the topology; then the server measures them.

        Returns:
            Reference to the mean of all models, `consensus_distance`, and why rows could not mix: they go on
            with what they had before.

        Raises:
            RoundError: If the server does not answer.
        """
        state, deadline = self._state, self._state.settings.deadline
        self._lifecycle.directory.follow(make=True)
        server.red_counted.remote(number - 1)
        updates = {row: kept for row, kept in _updates(contributions).items() if row in set(rows.tolist())}
        calls = self._submit(server, updates, rows)
        answers = await asyncio.gather(
            *(answer_of(report, deadline) for _, _, report, _ in calls), return_exceptions=True
        )
        models, unmixed = dict(self.models), {}
        for (mixed, made, _, hosted), answer in zip(calls, answers, strict=True):
            why = _why(answer, deadline)
            for place, row in enumerate(mixed):
                models[row] = updates[row] if why else Kept(made, place if hosted else None)
                if why:
                    unmixed[row] = f"its model was not mixed with its neighbours': {why}"
        present = state.table.present()
        # In the order of rows, whatever the order in which they came to have one: the mean is summed up in it.
        self.models = {row: models[row] for row in sorted(models) if present[row]}
        places, blocks = blocks_of(self.models, list(self.models))
        mean, reported = server.red_consensus.options(num_returns=2).remote(number, places, *blocks)
        report = await checked(reported, number, "the server could not measure the models", deadline)
        return mean, {DISTANCE: float(report["consensus_distance"])}, unmixed

    async def take_over(self, completed: int) -> tuple[int, int]:
        """Find the nodes' models again, to which a supervisor that ended had the references: the server holds them.

        Returns:
            How many nodes go on from their own model, and how many that had one go on from the mean of all.
        """
        state = self._state
        if not state.history or DISTANCE not in state.history[-1].metrics:
            return 0, 0  # the last round was no gossip: nobody had a model of its own
        had = np.flatnonzero(state.table.present() & (state.table.column("rounds") > 0))
        had = had[had != state.server_row]
        server = state.processes.get(state.server_row)
        held: list[int] = []
        if server is not None and len(had):
            try:
                held = await answer_of(server.handle.red_modelled.remote(completed), HELD_TIMEOUT)
            except Exception as error:
                text = f"the server does not say which models it holds: {cause_of_death(error).text}"
                state.record("federation", "warn", state.fed_id, text)
        rows = np.intersect1d(had, np.asarray(held, dtype=np.int64))
        hosted = state.hosted(rows)
        inside, apart = rows[hosted].tolist(), rows[~hosted].tolist()
        if server is not None and inside:
            block = server.handle.red_models.remote(completed, inside, False)
            self.models.update({row: Kept(block, place) for place, row in enumerate(inside)})
        if server is not None and apart:
            made = server.handle.red_models.options(num_returns=len(apart)).remote(completed, apart, True)
            references = [made] if len(apart) == 1 else made
            self.models.update({row: Kept(reference) for row, reference in zip(apart, references, strict=True)})
        return len(rows), len(had) - len(rows)

    def _submit(
        self, server: Any, updates: Mapping[int, Kept], rows: IntArray
    ) -> list[tuple[list[int], Any, Any, bool]]:
        """One call for each host, each process, and each row whose process is gone.

        Returns:
            Rows, reference to their models, report, and whether the models are in a list, for each call.
        """
        state = self._state
        ids = state.table.ids.take(rows)
        row_of = dict(zip(ids, rows.tolist(), strict=True))
        weights = mixing_weights(state.topology.current().graph, ids)
        shares = {row_of[node_id]: row for node_id, row in zip(ids, weights, strict=True)}
        bundles = state.table.column("bundle")[rows]
        hosted = state.hosted(rows)
        groups: dict[Any, list[int]] = {}
        for row, bundle, lives_in_host in zip(rows.tolist(), bundles.tolist(), hosted.tolist(), strict=True):
            if lives_in_host and bundle in state.bundle_actors:
                groups.setdefault(("host", bundle), []).append(row)
            elif not lives_in_host and row in state.processes:
                groups.setdefault(("process", row), []).append(row)
            else:
                # Its place was given to another node, or it has just died: its model is mixed all the same.
                groups.setdefault(("server", row), []).append(row)
        calls = []
        for (kind, key), members in groups.items():
            needed = dict.fromkeys(row_of[other] for row in members for other in shares[row])
            places, blocks = blocks_of(updates, list(needed))
            plan: list[Mixture] = [
                (row, [(*places[row_of[other]], weight) for other, weight in shares[row].items()]) for row in members
            ]
            if kind == "host":
                made, report = state.bundle_actors[key].handle.mix.remote(plan, *blocks)
            else:
                handle = state.processes[key].handle if kind == "process" else server
                made, report = handle.red_mix.options(num_returns=2).remote(plan, *blocks)
            calls.append((members, made, report, kind == "host"))
        return calls


def _updates(contributions: Sequence[Contribution]) -> dict[int, Kept]:
    """Where the update of each row lies."""
    found: dict[int, Kept] = {}
    for part in contributions:
        for place, row in enumerate(np.asarray(part.rows).tolist()):
            found[row] = Kept(part.reference, None if part.kind == "update" else place)
    return found


def _why(answer: Any, deadline: float | None) -> str:
    """Why a call gave no models, or nothing."""
    if isinstance(answer, TimeoutError):
        return f"no answer within {deadline:g} s"
    if isinstance(answer, Exception):
        return cause_of_death(answer).text
    if isinstance(answer, BaseException):
        raise answer
    return str(answer.get("error", ""))
