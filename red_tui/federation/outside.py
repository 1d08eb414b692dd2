"""Speaking with nodes from outside of a session: messages, versions, tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from red_tui.errors import MessageError, SessionError
from red_tui.federation.lifecycle import Lifecycle
from red_tui.federation.state import FederationState
from red_tui.federation.verbs import handle_of
from red_tui.messaging.mailbox import check_header
from red_tui.messaging.messenger import OUTSIDE
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.rounds.ray_calls import answer_of

LINK_TIMEOUT = 30.0
PUBLISH_PERIOD = 0.05


class Outside:
    """What is said to nodes, and asked of them, by the federation itself; all on the engine's thread."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state: FederationState = lifecycle.state
        self._numbers: dict[int, tuple[Any, int]] = {}

    @property
    def running(self) -> bool:
        """Whether a session is under way."""
        raise NotImplementedError

    async def _build(self, rows: IntArray) -> None:
        """All nodes of a session live at the same time."""
        raise NotImplementedError

    def _way_to(self, node_id: str) -> Any:
        row = self._state.table.row_of(node_id)
        if row is None or self._state.table.state_of(row) not in (NodeState.READY, NodeState.BUSY):
            return None
        return handle_of(self._state, row)

    async def send(self, header: str, body: Any, rows: IntArray, named: bool) -> int:
        """Send from outside to nodes that are built; the sender is `supervisor`.

        Raises:
            MessageError: If a node that was named is not built, or one does not take it.
        """
        check_header(header)
        state, calls = self._state, []
        for row in rows.tolist():
            node_id = state.table.ids[row]
            handle = self._way_to(node_id)
            if handle is None:
                if named:
                    raise MessageError(
                        f"{node_id!r} is {state.table.state_of(row)}: messages go to built nodes only; build it first",
                        node=node_id,
                    )
                continue
            known = self._numbers.get(row)
            number = known[1] + 1 if known is not None and known[0] == handle else 1
            self._numbers[row] = (handle, number)
            try:
                call = handle.red_deliver.remote(header, body, OUTSIDE, number, time.time(), "")
            except Exception as error:
                raise MessageError(f"the body of {header!r} cannot be sent: {first_sentence(str(error))}") from error
            calls.append((node_id, call))
        for node_id, call in calls:
            try:
                await answer_of(call, LINK_TIMEOUT)
            except Exception as error:
                why = first_sentence(str(error)) or f"no answer within {LINK_TIMEOUT:g} s"
                raise MessageError(f"{node_id!r} did not take the message: {why}", node=node_id) from error
        return len(calls)

    async def pull(self, rows: IntArray, timeout: float) -> dict[str, Any]:
        """The version that each node published last; waits until it has published one.

        Raises:
            SessionError: If a node is not built or publishes none within `timeout` seconds.
        """
        until = asyncio.get_running_loop().time() + timeout
        found: dict[str, Any] = {}
        for row in rows.tolist():
            node_id = self._state.table.ids[row]
            while node_id not in found:
                handle = self._way_to(node_id)
                if handle is None and self.running and asyncio.get_running_loop().time() < until:
                    await asyncio.sleep(PUBLISH_PERIOD)
                    continue
                if handle is None:
                    raise SessionError(f"{node_id} is not built, so it has no version", failed={node_id: "not built"})
                left = until - asyncio.get_running_loop().time()
                try:
                    told = await answer_of(handle.red_version.remote(), max(0.1, left))
                except Exception as error:
                    why = first_sentence(str(error)) or f"no answer within {timeout:g} s"
                    raise SessionError(f"{node_id}: {why}", failed={node_id: why}) from error
                if told is not None:
                    found[node_id] = told[1]
                elif left <= 0:
                    why = f"it has published no version within {timeout:g} s (update_version in its train)"
                    raise SessionError(f"{node_id}: {why}", failed={node_id: why})
                else:
                    await asyncio.sleep(PUBLISH_PERIOD)
        return found

    async def test(self, rows: IntArray, phase: str, arguments: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Value and weight of each node's `test`.

        Raises:
            SessionError: If nodes could not be built, or failed.
        """
        await self._build(rows)
        names, deadline = self._state.table.ids, self._state.settings.deadline
        calls = [(row, handle_of(self._state, row).red_test.remote(phase, dict(arguments))) for row in rows.tolist()]
        answers = await asyncio.gather(*(answer_of(call, deadline) for _, call in calls), return_exceptions=True)
        found, failed = {}, {}
        for (row, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, BaseException):
                failed[names[row]] = first_sentence(str(answer)) or f"no answer within {deadline:g} s"
            elif "error" in answer:
                failed[names[row]] = answer["error"]
            else:
                found[names[row]] = (answer["value"], answer["weight"])
        if failed:
            first = next(iter(failed))
            raise SessionError(
                f"test failed on {len(failed)} of {len(rows)} nodes; {first}: {failed[first]}", failed=failed
            )
        return found
