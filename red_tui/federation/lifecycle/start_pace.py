"""How long the start of a process takes, measured over those that start together."""

from __future__ import annotations

import time
from typing import Any

from red_tui.federation.state import FederationState


class StartPace:
    """Measures the seconds a process into the state's `pace`: the next plan says how long its processes take."""

    def __init__(self, state: FederationState) -> None:
        self._state = state
        self._starting: set[Any] = set()
        self._wave_began, self._wave_came = 0.0, 0

    def submitted(self, key: Any) -> None:
        """A process was asked for."""
        if not self._starting:
            self._wave_began, self._wave_came = time.monotonic(), 0
        self._starting.add(key)

    def came_up(self, key: Any) -> None:
        """A process has answered."""
        if key in self._starting:
            self._starting.discard(key)
            self._wave_came += 1
            self._state.pace = (time.monotonic() - self._wave_began) / self._wave_came

    def gave_up(self, key: Any) -> None:
        """A process failed before it answered, or is not wanted any more."""
        self._starting.discard(key)
