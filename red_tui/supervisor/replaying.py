"""A journal that is opened to be replayed, with all that serves a console."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from red_tui.supervisor.moments import parse_moment, parse_speed
from red_tui.supervisor.player import IDLE, Player
from red_tui.supervisor.replay import Replay, journal_path
from red_tui.supervisor.replay_feed import ReplayFeed
from red_tui.supervisor.replay_nodes import ReplayNodes
from red_tui.supervisor.replay_verbs import ReplayVerbs


@dataclass(frozen=True)
class Opened:
    """A replay and what serves it."""

    player: Player
    nodes: ReplayNodes
    feed: ReplayFeed
    verbs: ReplayVerbs


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage: many events are none, and to look through them again and again doubles the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def open_replay(
    target: str,
    at: str | None = None,
    speed: str | None = None,
    playing: bool | None = None,
    clock: Callable[[], float] = time.monotonic,
    idle: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Opened:
    """Open a journal to be replayed.

    Args:
        target: A journal, its folder, or the id of a federation.
        at: The moment at which it begins; None: its begin.
        speed: Seconds of the journal to a second, or `max`.
        playing: Whether it plays at once; None: unless a moment is asked for, which is to be looked at.
        clock: Monotonic seconds.
        idle: Seconds that a picture stands still before the time up to the next event is skipped; 0: never.
        progress: Hears of a long way how many of how many events are behind it.

    Raises:
        ReplayError: If it cannot be read, or `at` or `speed` make no sense.
    """
    moment = parse_moment(at) if at else None
    pace = parse_speed(speed) if speed else 1.0
    with _uncollected():
        replay = Replay(journal_path(target))
    try:
        replay.progress = progress
        patience = IDLE if idle is None else idle or math.inf
        player = Player(replay, clock, pace, moment is None if playing is None else playing, patience)
        if moment is not None:
            player.go_to(moment)
        nodes = ReplayNodes(replay)
        feed = ReplayFeed(player, nodes)
        return Opened(player, nodes, feed, ReplayVerbs(feed, nodes))
    except BaseException:
        replay.close()
        raise
