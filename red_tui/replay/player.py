"""Plays a journal: where a replay stands while time goes by, and what moves it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from red_tui.errors import CommandRefused, RedError
from red_tui.replay.time_points import TimePoint, parse_moment, parse_speed
from red_tui.replay.timeline import Replay

SPEEDS = (1.0, 2.0, 5.0, 20.0, 100.0, math.inf)
"""What faster and slower go through; infinite: a part of the journal with each picture that is drawn."""

PICTURES = 100
"""Max frames in which a journal is shown at infinite speed."""

FOLLOW_EVERY = 0.5
"""Seconds between two looks whether the journal has grown."""


IDLE = 2.0
"""Seconds that a picture stands still before the time up to the next event is skipped, if that is asked for."""

LEAST_SKIPPED = 0.5
"""Seconds of looking that a skip has to spare."""

_REPLACED = "its federation was launched anew since: that has another journal, and this one is set aside"


class Player:
    """Moves a replay by the clock and by what an operator asks.

    At the end it stays at the end: what is appended to the journal is shown as it comes.

    Args:
        replay: What is played.
        clock: Monotonic seconds.
        speed: Seconds of the journal to a second; infinite: as fast as it is drawn.
        playing: Whether it plays from the beginning on.
        idle: Seconds that a picture stands still before the time up to the next event is skipped; infinite: never.
    """

    def __init__(
        self,
        replay: Replay,
        clock: Callable[[], float] = time.monotonic,
        speed: float = 1.0,
        playing: bool = True,
        idle: float = math.inf,
    ) -> None:
        self.replay = replay
        self.idle = idle
        self._still = replay.start
        self._skipped = (0, 0.0)
        self.speed = speed
        self.playing = playing
        self.moment = replay.start
        """Wall-clock second that is shown; the event at the position is the last one before it."""
        self.grew = False
        """Whether the journal has grown since it was opened."""
        self.trouble = ""
        """Why the journal cannot be read now, or nothing."""
        self._clock = clock
        self._seen = self._looked = clock()

    @property
    def state(self) -> str:
        """`paused`, `playing`, `end` (it would go on if the journal grew) or `following` (it grew)."""
        if not self.playing:
            return "paused"
        if self.replay.at_end:
            return "following" if self.grew else "end"
        return "playing"

    @property
    def skipped(self) -> float:
        """Seconds of the journal that were skipped to come to this event, as nothing happened in them; 0 for none."""
        position, seconds = self._skipped
        return seconds if position == self.replay.position else 0.0

    def tick(self) -> None:
        """Let the time go by that went by."""
        now = self._clock()
        passed, self._seen = now - self._seen, now
        at_end = self.replay.at_end
        if now - self._looked >= FOLLOW_EVERY:
            self._looked = now
            self._follow()
        if not self.playing:
            return
        if at_end:
            self._stand_at_end()
        elif self.speed != math.inf:
            self._play_until(self.moment + passed * self.speed)

    def rest(self) -> None:
        """The time that went by since the last tick does not count: nobody looked."""
        self._seen = self._clock()

    def next_picture(self) -> None:
        """A picture has been drawn and another one is wanted: at infinite speed it is a part further."""
        if self.state == "playing" and self.speed == math.inf:
            self.replay.step(max(1, len(self.replay.events) // PICTURES))
            self._look_at(self.replay.time)

    def due(self) -> float:
        """Seconds until something changes by itself, at most those until the next look at the journal."""
        wait = FOLLOW_EVERY
        if self.state == "playing":
            following = self.replay.next_time
            if self.speed == math.inf or following is None:
                return 0.0
            # The clock of the time line goes on too, in whole seconds.
            second = math.floor(self.moment) + 1 - self.moment
            skip = self._still + self.idle * self.speed - self.moment
            wait = min(wait, max(0.0, min(following - self.moment, second, skip)) / self.speed)
        return wait

    def _follow(self) -> None:
        try:
            self.grew = bool(self.replay.follow()) or self.grew
        except RedError as error:
            self.trouble = error.message
        else:
            self.trouble = _REPLACED if self.replay.replaced else ""

    def _play_until(self, moment: float) -> None:
        self.moment = min(moment, self.replay.end)
        # Of several events of one moment perhaps only the first ones are shown: never back.
        position = max(self.replay.position, self.replay.position_at(self.moment))
        if position != self.replay.position:
            self.replay.seek(position)
            self._still = self.replay.time
        self._skip_idle()

    def _skip_idle(self) -> None:
        """Go to the next event, if the picture has stood still for long and would go on to."""
        following = self.replay.next_time
        if following is None or (self.moment - self._still) / self.speed < self.idle:
            return
        left = following - self.moment
        if left / self.speed < LEAST_SKIPPED:
            return
        self.moment = self._still = following
        self.replay.seek(self.replay.position_at(following))
        self._skipped = (self.replay.position, left)

    def _stand_at_end(self) -> None:
        self.replay.seek(len(self.replay.events))
        self.moment = self.replay.end

    def go_to(self, moment: TimePoint) -> None:
        """Show a moment.

        Raises:
            ReplayError: If the journal has none such.
        """
        self._look_at(self.replay.seek_moment(moment))

    # -- what an operator asks -------------------------------------------------------------------

    def act(self, name: str, args: Mapping[str, Any]) -> str:
        """Do what an action asks; gives a word about it, or nothing where the time line says it.

        Raises:
            RedError: If it makes no sense.
        """
        self.tick()
        act = _ACTS.get(name)
        if act is None:
            raise CommandRefused(f"a replay knows no {name!r}")
        return act(self, args) or ""

    def _toggle(self, args: Mapping[str, Any]) -> None:
        self.playing = not self.playing

    def _step(self, events: int = 0, rounds: int = 0) -> None:
        """Go some events or rounds; it stays there to be looked at."""
        self.playing = False
        if rounds:
            self.replay.step_round(rounds)
        else:
            self.replay.step(events)
        self._look_at(self.replay.time)

    def _look_at(self, moment: float) -> None:
        """Somebody wants to see this moment: it is not skipped at once, wherever nothing happens."""
        self.moment = self._still = moment

    def _begin(self, args: Mapping[str, Any]) -> None:
        self.replay.seek(0)
        self._look_at(self.replay.start)

    def _end(self, args: Mapping[str, Any]) -> None:
        """Go to the end and stay there, also when it moves on."""
        self.playing = True
        self._stand_at_end()

    def _at(self, args: Mapping[str, Any]) -> None:
        self.go_to(parse_moment(str(args.get("moment") or "")))

    def _set_speed(self, args: Mapping[str, Any]) -> None:
        self.speed = parse_speed(str(args.get("speed") or ""))

    def _set_idle(self, args: Mapping[str, Any]) -> str:
        """Skip times in which nothing happened, or play them as they were."""
        self.idle = math.inf if self.idle != math.inf else IDLE
        self._still = self.moment
        if self.idle == math.inf:
            return "times in which nothing happened are played as they were"
        return f"times in which nothing happened are skipped after {self.idle:g} s"

    def _change_speed(self, by: int) -> None:
        faster = [speed for speed in SPEEDS if speed > self.speed]
        slower = [speed for speed in SPEEDS if speed < self.speed]
        if by > 0 and faster:
            self.speed = faster[0]
        elif by < 0 and slower:
            self.speed = slower[-1]
        else:
            raise CommandRefused("it plays as fast as it is drawn" if by > 0 else "it plays as slowly as it happened")


_ACTS: dict[str, Callable[[Player, Mapping[str, Any]], str | None]] = {
    "play": Player._toggle,
    "step": lambda player, args: player._step(events=1),
    "step_back": lambda player, args: player._step(events=-1),
    "next_round": lambda player, args: player._step(rounds=1),
    "previous_round": lambda player, args: player._step(rounds=-1),
    "faster": lambda player, args: player._change_speed(1),
    "slower": lambda player, args: player._change_speed(-1),
    "begin": Player._begin,
    "follow": Player._end,
    "at": Player._at,
    "speed": Player._set_speed,
    "idle": Player._set_idle,
}
ACTS = frozenset(_ACTS)
"""What may be asked of a player; the console's actions have the same ids."""
