"""The federation's side of its directory, the named actor `FED/topology`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from red_tui.errors import RedError
from red_tui.federation.lifecycle.lifelines import BackgroundTasks
from red_tui.federation.lifecycle.node_set import NodeSet
from red_tui.messaging import Topology
from red_tui.messaging.topology_actor import TopologyDirectory
from red_tui.nodes.failures import first_sentence
from red_tui.rounds.ray_calls import answer_of
from red_tui.runtime.node_actor import named_actor

NAME = "topology"
NEWS_PERIOD = 20.0
"""Seconds after which the directory is asked for news again when it had none."""

AGAIN = 1.0
"""Seconds until another directory is made when one has ended."""

ANSWER_TIMEOUT = 10.0

Heard = Callable[[str, Mapping[str, int]], None]


class TopologyPublisher:
    """Makes the actor when there is something to say, tells it each version, and makes another one when it ends.

    All on the engine's thread.
    """

    def __init__(self, nodes: NodeSet, tasks: BackgroundTasks) -> None:
        self._nodes, self._tasks = nodes, tasks
        self.handle: Any = None
        """The actor's handle; None as long as nothing was published."""
        self.heard: Heard = lambda node_id, dropped: None
        """Told of nodes that drop messages."""
        self.remade: Callable[[], None] = lambda: None
        """Called when another actor has taken the place of one that ended."""
        self.version = 0
        """The last version that was told to anybody; it grows with each change."""
        self._last: tuple[int, Mapping[str, Any], Sequence[str], Mapping[str, Any]] | None = None
        self._topology: Topology | None = None
        self._told: Any = None

    def open(self) -> Any:
        """Make the actor if there is none; gives its handle, or None if it cannot be had."""
        if self.handle is None and not self._nodes.closing:
            self._start()
        return self.handle

    def publish(self, topology: Topology, ways: Mapping[str, Any]) -> None:
        """Tell who is whose neighbour in the present version, and how to reach those that have a process."""
        self._topology = topology
        self._last = self.version, topology.rule.to_wire(), list(topology.ids), ways
        if self.open() is not None:
            self._told = self.handle.publish.remote(*self._last)

    async def told(self) -> None:
        """Wait until it knows what was published last; if it does not answer it is made again in its own time."""
        told, self._told = self._told, None
        if told is not None:
            with contextlib.suppress(Exception):
                await answer_of(told, ANSWER_TIMEOUT)

    def follow(self, topology: Topology | None = None, *, make: bool = False) -> None:
        """Tell of another topology, if that is news, and if anybody was told of one before (or `make`)."""
        if self.handle is None and not make:
            return
        present = topology or self._nodes.state.topology.current()
        if self._topology is not present:
            self.version += 1
            self.publish(present, self._last[3] if self._last is not None else {})

    async def adopt(self, handle: Any) -> None:
        """Go on with the actor of a supervisor before this one, from the version that it knows.

        One that does not answer is ended, and another is made when it is needed.
        """
        try:
            self.version = max(self.version, int(await answer_of(handle.version.remote(), ANSWER_TIMEOUT)))
        except Exception:
            _end(handle)
            return
        self._use(handle)

    def _start(self) -> None:
        state, pool = self._nodes.state, self._nodes.pool
        group, local_idx = pool.locate(pool.offset)
        try:
            handle = named_actor(
                _actor(),
                f"{state.fed_id}/{NAME}",
                state.fed_id,
                group,
                local_idx,
                {},
                {"fed_id": state.fed_id},
                detached=state.detached,
                namespace=state.namespace,
            )
        except RedError as error:
            # Nodes do not need it: they are told by the federation who their neighbours are.
            state.trouble(NAME, f"nobody can be asked for neighbours: {error.message}")
            return
        state.trouble(NAME, "")
        self._use(handle)

    def _use(self, handle: Any) -> None:
        self.handle = handle
        self._tasks.spawn(self._listen(handle))

    async def _listen(self, handle: Any) -> None:
        """Hear what nodes tell the directory, as long as it lives; then make another one."""
        since = 0
        lifeline = asyncio.wrap_future(handle.lifeline.remote().future())
        lifeline.add_done_callback(_heed)
        try:
            while self.handle is handle and not lifeline.done():
                asked = asyncio.wrap_future(handle.news.remote(since, NEWS_PERIOD).future())
                asked.add_done_callback(_heed)
                await asyncio.wait([asked, lifeline], return_when=asyncio.FIRST_COMPLETED)
                if not asked.done() or asked.exception() is not None:
                    asked.cancel()
                    break
                since, told = asked.result()
                for node_id, dropped in told:
                    self.heard(node_id, dropped)
            await asyncio.wait([lifeline])
        finally:
            lifeline.cancel()
        if self.handle is not handle or self._nodes.closing:
            return
        self.handle = None
        why = first_sentence(str(lifeline.exception()), 100) if not lifeline.cancelled() else ""
        self._nodes.state.record("federation", "warn", NAME, f"the directory has ended and is made anew ({why})")
        _end(handle)
        await asyncio.sleep(AGAIN)
        if self._last is not None and self.open() is not None:
            self.handle.publish.remote(*self._last)
            self.remade()

    def end(self) -> Any:
        """End it with the federation; gives its last handle, or None."""
        handle, self.handle = self.handle, None
        if handle is not None:
            _end(handle)
        return handle


def _heed(done: asyncio.Future[Any]) -> None:
    """The end of the actor fails its calls, also when nobody waits for them any more."""
    if not done.cancelled():
        done.exception()


def _end(handle: Any) -> None:
    import ray

    ray.kill(handle, no_restart=True)


@lru_cache(maxsize=1)
def _actor() -> Any:
    """The Ray actor class; it asks for no CPU."""
    import ray

    groups = {"lifeline": 1, "news": 4, "publish": 1}

    class Topology(TopologyDirectory):
        @ray.method(concurrency_group="lifeline")  # type: ignore[untyped-decorator]
        def lifeline(self) -> None:
            TopologyDirectory.lifeline(self)

        @ray.method(concurrency_group="news")  # type: ignore[untyped-decorator]
        def news(self, since: int, timeout: float) -> Any:
            return TopologyDirectory.news(self, since, timeout)

        @ray.method(concurrency_group="publish")  # type: ignore[untyped-decorator]
        def publish(self, version: int, rule: Any, ids: Any, ways: Any) -> int:
            return TopologyDirectory.publish(self, version, rule, ids, ways)

    return ray.remote(max_concurrency=8, concurrency_groups=groups)(Topology)
