"""Parameters on disk: saved and loaded by a task on the supervisor's host, which itself never sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from red_tui.errors import RedError
from red_tui.rounds.completions import answer_of
from red_tui.supervisor.checkpoints import Checkpoints

SAVE_TIMEOUT = 60.0
LOAD_TIMEOUT = 60.0


class CheckpointKeeper:
    """Saves the parameters of each round as a checkpoint and finds the last good one.

    Args:
        folder: Where the checkpoints of the federation are.
        keep: How many of the last are kept.
        federation: Id of the federation.
        layout: Digest of its layout.
    """

    def __init__(self, folder: Path, keep: int, federation: str, layout: str) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._checkpoints = Checkpoints(folder, keep=keep, federation=federation, layout=layout)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": here, "max_retries": 3}
        self._save = ray.remote(**options)(_save)
        self._load = ray.remote(**options, num_returns=2)(_load)
        self.refused: dict[str, str] = {}

    async def save(self, number: int, reference: Any) -> dict[str, Any]:
        """Save the parameters after a round; gives what the journal notes of it.

        Raises:
            RedError: If they cannot be saved.
        """
        answer: dict[str, Any] = await answer_of(self._save.remote(self._checkpoints, number, reference), SAVE_TIMEOUT)
        if "error" in answer:
            raise RedError(answer["error"])
        return answer

    async def load(self, at_most: int | None) -> tuple[int, Any] | None:
        """The last good parameters of a round up to `at_most` (None: of any): its number and a reference, or None."""
        reference, reported = self._load.remote(self._checkpoints, at_most)
        report = await answer_of(reported, LOAD_TIMEOUT)
        self.refused = report["refused"]
        return None if report["round"] is None else (int(report["round"]), reference)


def _save(checkpoints: Checkpoints, number: int, parameters: Any) -> dict[str, Any]:
    try:
        return checkpoints.save(number, parameters).to_wire()
    except Exception as error:
        return {"error": error.message if isinstance(error, RedError) else f"{type(error).__name__}: {error}"}


def _load(checkpoints: Checkpoints, at_most: int) -> tuple[Any, dict[str, Any]]:
    found = checkpoints.latest(at_most)
    if found.checkpoint is None:
        return None, {"round": None, "refused": dict(found.refused)}
    return found.checkpoint.parameters, {"round": found.checkpoint.round, "refused": dict(found.refused)}
