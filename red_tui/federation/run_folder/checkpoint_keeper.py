"""Writes and reads a federation's checkpoints in an actor beside the supervisor: parameters never pass through it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from red_tui.aggregation.server_state import ServerState
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.checkpoints.keep_rule import KeepRule
from red_tui.errors import RedError
from red_tui.federation.reports import LoadedCheckpoint
from red_tui.rounds.ray_calls import answer_of

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
    """

    def __init__(self, folder: Path, keep: KeepRule, federation: str, layout: str) -> None:
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
    ) -> dict[str, Any]:
        """Save what belongs to a round, as long as it takes; gives what the journal notes of it.

        Args:
            number: The round.
            parameters: Reference to the parameters.
            groups: By group a reference to arrays by name, or to a `ServerState`, which has its own groups; one that
                leads to None is left out.
            figures: What the round measured, by name.
            extra: Further plain data.

        Raises:
            RedError: If it cannot be saved.
        """
        names, references = tuple(groups or ()), tuple((groups or {}).values())
        answer: dict[str, Any] = await self._answer(
            self._process().save.remote(number, parameters, names, figures, extra, *references)
        )
        if "error" in answer:
            raise RedError(answer["error"])
        return answer

    async def load(self, at_most: int | None) -> LoadedCheckpoint | None:
        """The last good checkpoint of a round up to `at_most` (None: of any), or None; as long as it takes."""
        parameters, groups, server_state, reported = self._process().load.options(num_returns=4).remote(at_most)
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
        *groups: Any,
    ) -> dict[str, Any]:
        """Write the checkpoint of a round; gives what the journal notes of it, or `error`."""
        try:
            given: dict[str, Any] = {}
            for name, arrays in zip(names, groups, strict=True):
                if isinstance(arrays, ServerState):
                    given.update(arrays.to_groups())
                    extra = {**(extra or {}), STRATEGY: arrays.strategy}
                elif arrays is not None:
                    given[name] = arrays
            return self._checkpoints.save(number, parameters, extra, given, figures).to_wire()
        except Exception as error:
            return {"error": error.message if isinstance(error, RedError) else f"{type(error).__name__}: {error}"}

    def load(self, at_most: int | None) -> tuple[Any, Any, Any, dict[str, Any]]:
        """The last good parameters, its further groups, what goes with the parameters, and a report: which round."""
        found = self._checkpoints.latest(at_most)
        refused, one = dict(found.refused), found.checkpoint
        if one is None:
            return None, None, None, {"round": None, "refused": refused}
        groups, extra = dict(one.groups), dict(one.extra)
        strategy = str(extra.pop(STRATEGY, ""))
        state = ServerState.from_groups(strategy, groups) if strategy else None
        report = {
            "round": one.round,
            "refused": refused,
            "groups": list(groups),
            "extra": extra,
            "strategy": strategy,
        }
        return one.parameters, groups, state, report
