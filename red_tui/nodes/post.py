"""The thread of a node that sends on what could not be sent at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from red_tui.nodes.mailbox import Mailbox

if TYPE_CHECKING:
    from red_tui.nodes.link import Link

IDLE = 5.0
"""Seconds after which the thread that posts ends when there is nothing to post."""


class Post:
    """Sends on what waits when what is under way has arrived: one thread, while there is something to do.

    Args:
        name: The node's id.
        mailbox: What the node has heard goes with what it sends.
    """

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self._name = name
        self.mailbox = mailbox
        self._news: queue.SimpleQueue[tuple[Link | None, float, Callable[[], None] | None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.gathering: set[Link] = set()
        """Where large bodies wait for more to travel with them."""

    def flush(self) -> None:
        """Send what waits for more to travel with it: who sends has nothing more to send for now."""
        for link in list(self.gathering):
            link.flush()

    def run(self, act: Callable[[], None]) -> None:
        """Do something soon that its caller must not do."""
        self._add(None, 0.0, act)

    def remind(self, link: Link, due: float) -> None:
        """Ask a link to go on at a time of the monotonic clock."""
        self._add(link, due, None)

    def _add(self, link: Link | None, due: float, act: Callable[[], None] | None) -> None:
        with self._lock:
            self._news.put((link, due, act))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"red-post-{self._name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        later: dict[Link, float] = {}
        while True:
            try:
                wait = max(0.0, min(later.values()) - time.monotonic()) if later else IDLE
                link, due, act = self._news.get(timeout=wait)
            except queue.Empty:
                with self._lock:
                    if not later and self._news.empty():
                        self._thread = None
                        return
            else:
                if link is not None:
                    later[link] = min(due, later.get(link, due))
                if act is not None:
                    act()
            now = time.monotonic()
            for link in [link for link, due in later.items() if due <= now]:
                del later[link]
                link.go_on()
