"""What would hold up the screen is computed in a thread, and of what waits only the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from red_tui.console.steady import later

if TYPE_CHECKING:
    from textual.dom import DOMNode

LARGE = 50_000
"""Rows from which on sorting and filtering leave the event loop: below, it takes less than a frame."""


class Newest:
    """Computes one thing at a time in a thread; a newer request takes the place of one that waits.

    Args:
        owner: The widget or app whose worker it is.
        name: The worker's name.
    """

    def __init__(self, owner: DOMNode, name: str) -> None:
        self._owner = owner
        self._name = name
        self._waiting: tuple[Callable[[], Any], Callable[[Any], None]] | None = None
        self.busy = False

    def ask(self, compute: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Compute in a thread, then take the result in the event loop, unless something newer was asked for."""
        self._waiting = (compute, take)
        if not self.busy:
            self.busy = True
            self._owner.run_worker(later(self._work), name=self._name, group=self._name)

    async def _work(self) -> None:
        try:
            while self._waiting is not None:
                (compute, take), self._waiting = self._waiting, None
                result = await asyncio.to_thread(compute)
                if self._waiting is None:
                    take(result)
        finally:
            self.busy = False
