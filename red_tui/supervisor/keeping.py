"""Parameters on disk: an actor on the supervisor's host saves and loads them; the supervisor itself never sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from red_tui.errors import RedError
from red_tui.rounds.ray_calls import answer_of
from red_tui.supervisor.checkpoints import Checkpoints

SAVE_TIMEOUT = 60.0
LOAD_TIMEOUT = 60.0


class CheckpointKeeper:
    """Saves the parameters of each round as a checkpoint and finds the last good one.

    The files lie on the host of the supervisor, so that is where the actor runs.  It is one process for all rounds: a
    plain task of a job whose driver has ended would get a new process each time.  It ends with the supervisor.

    Args:
        folder: Where the checkpoints of the federation are.
        keep: How many of the last are kept.
        federation: Id of the federation.
        layout: Digest of its layout.
    """

    def __init__(self, folder: Path, keep: int, federation: str, layout: str) -> None:
        self._checkpoints = Checkpoints(folder, keep=keep, federation=federation, layout=layout)
        self._actor: Any = None
        self.refused: dict[str, str] = {}

    async def save(self, number: int, reference: Any) -> dict[str, Any]:
        """Save the parameters after a round; gives what the journal notes of it.

        Raises:
            RedError: If they cannot be saved.
        """
        answer: dict[str, Any] = await self._answer(self._process().save.remote(number, reference), SAVE_TIMEOUT)
        if "error" in answer:
            raise RedError(answer["error"])
        return answer

    async def load(self, at_most: int | None) -> tuple[int, Any] | None:
        """The last good parameters of a round up to `at_most` (None: of any): its number and a reference, or None."""
        reference, reported = self._process().load.options(num_returns=2).remote(at_most)
        report = await self._answer(reported, LOAD_TIMEOUT)
        self.refused = report["refused"]
        return None if report["round"] is None else (int(report["round"]), reference)

    def close(self) -> None:
        """End the actor."""
        import ray

        if ray.is_initialized():
            self._end()

    async def _answer(self, reference: Any, timeout: float) -> Any:
        """What the actor answers; if it does not, another one takes its place."""
        try:
            return await answer_of(reference, timeout)
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

    def save(self, number: int, parameters: Any) -> dict[str, Any]:
        """Write the checkpoint of a round; gives what the journal notes of it, or `error`."""
        try:
            return self._checkpoints.save(number, parameters).to_wire()
        except Exception as error:
            return {"error": error.message if isinstance(error, RedError) else f"{type(error).__name__}: {error}"}

    def load(self, at_most: int | None) -> tuple[Any, dict[str, Any]]:
        """The last good parameters (first return), and which round they are of (second)."""
        found = self._checkpoints.latest(at_most)
        refused = dict(found.refused)
        if found.checkpoint is None:
            return None, {"round": None, "refused": refused}
        return found.checkpoint.parameters, {"round": found.checkpoint.round, "refused": refused}
