"""Says that a run of rounds is over, whatever screen is shown: the events that tell of it may be hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

from red_tui.console.text import duration, number, plural

if TYPE_CHECKING:
    from red_tui.console.mirror import FederationMirror
    from red_tui.protocol.snapshot import RoundResult

Word = tuple[str, str]
"""A text and its level."""


class RunEnd:
    """Notices the end of a run from one update to the next."""

    def __init__(self) -> None:
        self._first: int | None = None

    def follow(self, mirror: FederationMirror) -> Word | None:
        """What is to be said after an update, if a run ended with it."""
        if mirror.round.running:
            # In a run that was under way when this console came, that number is the one it came in.
            self._first = mirror.first_round if mirror.first_round > 1 else self._first or mirror.round.number
            return None
        last = mirror.rounds[-1] if mirror.rounds else None
        if self._first is None or last is None or last.number < mirror.round.number:
            return None  # nothing ran, or its last round is not told yet
        first, self._first = self._first, None
        return _told(last, first) if last.number >= first else None


def _told(last: RoundResult, first: int) -> Word:
    which = f"round {last.number} is over" if last.number == first else f"rounds {first} to {last.number} are over"
    if last.state == "failed":
        return f"{which}; round {last.number} failed: {last.error or 'too few results'}", "error"
    measures = [f"{name} {number(value)}" for name, value in (("loss", last.loss), *sorted(last.metrics.items()))
                if value is not None][:3]  # fmt: skip
    failed = f", {last.failed:,} failed" if last.failed else ""
    told = f"{plural(last.participants, 'node')}{failed}, {duration(last.seconds)}"
    return f"{which}: {'  '.join([*measures, told])}", "warn" if failed else "good"
