"""Writes and reads a federation's checkpoints in an actor beside the supervisor: parameters never pass through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from red_tui.aggregation.server_state import ServerState
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.checkpoints.keep_rule import KeepRule
from red_tui.checkpoints.plain_state import from_joined_arrays, joined_arrays, plain_arrays
from red_tui.errors import RedError
from red_tui.federation.reports import LoadedCheckpoint, NodeStates
from red_tui.node_states.packed_state import opened
from red_tui.rounds.ray_calls import answer_of

NODES = "nodes"
"""The group of a checkpoint that holds what nodes keep, by their ids."""

STRATEGY = "strategy"
"""The key of the further data of a checkpoint that names the strategy whose state it has."""


class CheckpointKeeper:
    """Saves the parameters of each round as a checkpoint and finds the last good one.

    The files lie on the host of the supervisor, so that is where the actor runs.  It is one process for all rounds: a
    plain task of a job whose driver has ended would get a new process each time.  It ends with the supervisor.

    Args:
        folder: Where the checkpoints of the federation are.
        keep: Which ones are kept.
        federation: Id of the federation.
        layout: Digest of its layout.
        node_states: Whether they hold what nodes keep.
    """

    def __init__(self, folder: Path, keep: KeepRule, federation: str, layout: str, node_states: bool = False) -> None:
        self.node_states = node_states
        self._checkpoints = Checkpoints(folder, keep=keep, federation=federation, layout=layout)
        self._actor: Any = None
        self.measure = keep.words if keep.best else ""
        self.refused: dict[str, str] = {}

    async def save(
        self,
        number: int,
        parameters: Any,
        groups: Mapping[str, Any] | None = None,
        figures: Mapping[str, float] | None = None,
        extra: Mapping[str, Any] | None = None,
        states: NodeStates | None = None,
    ) -> dict[str, Any]:
        """Save what belongs to a round, as long as it takes; gives what the journal notes of it.

        Args:
            number: The round.
            parameters: Reference to the parameters.
            groups: By group a reference to arrays by name, or to a `ServerState`, which has its own groups; one that
                leads to None is left out.
            figures: What the round measured, by name.
            extra: Further plain data.
            states: What nodes keep; None: nothing of it is saved.

        Raises:
            RedError: If it cannot be saved.
        """
        names, references = tuple(groups or ()), tuple((groups or {}).values())
        nodes = None if states is None else (states.ids, states.places)
        blocks = () if states is None else states.blocks
        answer: dict[str, Any] = await self._answer(
            self._process().save.remote(number, parameters, names, figures, extra, nodes, *references, *blocks)
        )
        if "error" in answer:
            raise RedError(answer["error"])
        return answer

    async def load(self, at_most: int | None) -> LoadedCheckpoint | None:
        """The last good checkpoint of a round up to `at_most` (None: of any), or None; as long as it takes."""
        loading = self._process().load.options(num_returns=5)
        parameters, groups, server_state, states, reported = loading.remote(at_most)
        report = await self._answer(reported)
        self.refused = report["refused"]
        if report["round"] is None:
            return None
        strategy = report["strategy"]
        return LoadedCheckpoint(
            report["round"],
            parameters,
            groups,
            tuple(report["groups"]),
            report["extra"],
            server_state if strategy else None,
            strategy,
            states,
            tuple(report["nodes"]),
        )

    def close(self) -> None:
        """End the actor."""
        import ray

        if ray.is_initialized():
            self._end()

    async def _answer(self, reference: Any) -> Any:
        """What the actor answers; if it ends without an answer, another one takes its place."""
        try:
            return await answer_of(reference, None)
        except Exception:
            self._end()
            raise

    def _process(self) -> Any:
        """The actor, which is started when it is first needed.  Ray starts it again if its process dies."""
        if self._actor is None:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor = ray.remote(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=3)
            self._actor = actor(CheckpointWriter).remote(self._checkpoints)
        return self._actor

    def _end(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            import ray

            ray.kill(actor)


class CheckpointWriter:
    """The actor's class: it has the parameters for as long as it writes or reads them.

    Args:
        checkpoints: Where they are.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def save(
        self,
        number: int,
        parameters: Any,
        names: tuple[str, ...] = (),
        figures: Mapping[str, float] | None = None,
        extra: Mapping[str, Any] | None = None,
        nodes: tuple[Sequence[str], Sequence[tuple[int, int | None]]] | None = None,
        *fetched: Any,
    ) -> dict[str, Any]:
        """Write the checkpoint of a round; gives what the journal notes of it, or `error`.

        `fetched` are the groups by `names`, and then the blocks in which states of `nodes` lie.
        """
        try:
            given: dict[str, Any] = {}
            groups, blocks = fetched[: len(names)], fetched[len(names) :]
            unkept = ""
            if nodes is not None:
                given[NODES], unkept = node_arrays(*nodes, blocks)
            for name, arrays in zip(names, groups, strict=True):
                if isinstance(arrays, ServerState):
                    given.update(arrays.to_groups())
                    extra = {**(extra or {}), STRATEGY: arrays.strategy}
                elif arrays is not None:
                    given[name] = arrays
            wire = self._checkpoints.save(number, parameters, extra, given, figures).to_wire()
            if nodes is not None:
                wire["node_states"] = sum(array.nbytes for array in given[NODES].values())
            return {**wire, "unkept": unkept} if unkept else wire
        except Exception as error:
            return {"error": error.message if isinstance(error, RedError) else f"{type(error).__name__}: {error}"}

    def load(self, at_most: int | None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """The last good parameters, further groups, what goes with them, states of nodes, and a report: which round."""
        found = self._checkpoints.latest(at_most)
        refused, one = dict(found.refused), found.checkpoint
        if one is None:
            return None, None, None, None, {"round": None, "refused": refused}
        groups, extra = dict(one.groups), dict(one.extra)
        strategy = str(extra.pop(STRATEGY, ""))
        state = ServerState.from_groups(strategy, groups) if strategy else None
        states: dict[str, Any] = from_joined_arrays(groups.pop(NODES)) if groups.get(NODES) else {}
        report = {
            "nodes": list(states),
            "round": one.round,
            "refused": refused,
            "groups": list(groups),
            "extra": extra,
            "strategy": strategy,
        }
        return one.parameters, groups, state, list(states.values()), report


def node_arrays(
    ids: Sequence[str], places: Sequence[tuple[int, int | None]], blocks: Sequence[Any]
) -> tuple[dict[str, Any], str]:
    """What nodes keep as arrays for a checkpoint, and why some of it cannot be in one (nothing of a file is unpickled).

    Args:
        ids: Whose states they are.
        places: For each the number of its block, and its place there (None: the block is the state).
        blocks: The states, as Ray has fetched them.
    """
    states, refused = {}, {}
    for node_id, (block, place) in zip(ids, places, strict=True):
        try:
            state = opened(blocks[block] if place is None else blocks[block][place])
            plain_arrays(state)
        except Exception as error:
            # Its class may be known to its node only.
            refused[node_id] = str(error)
        else:
            states[node_id] = state
    if not refused:
        return joined_arrays(states), ""
    name, why = next(iter(refused.items()))
    more = f" (and of {len(refused) - 1:,} more)" if len(refused) > 1 else ""
    return joined_arrays(states), f"what node {name} keeps{more} is in no checkpoint: {why}; give plain data and arrays"
