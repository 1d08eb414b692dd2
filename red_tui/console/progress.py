"""How far a build is, how fast it goes and how long it still takes, from what the table says of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

STALL = 5.0


@dataclass(frozen=True)
class Building:
    """Nodes on their way to a process.

    Attributes:
        total: Nodes that were on their way since it began.
        left: Nodes that still are.
        began: When it began, on the console's clock.
        moved: When the last of them arrived.
    """

    total: int
    left: int
    began: float
    moved: float

    @property
    def done(self) -> int:
        """Nodes that arrived, or failed."""
        return self.total - self.left

    def rate(self, now: float) -> float | None:
        """Nodes a second; None as long as none has arrived and where nothing moves any more."""
        if not self.done or self.moved <= self.began:
            return None
        pace = (self.moved - self.began) / self.done
        return None if now - self.moved > max(STALL, 4 * pace) else 1 / pace

    def seconds_left(self, now: float) -> float | None:
        """How long it still takes at this rate."""
        rate = self.rate(now)
        return None if rate is None else max(0.0, self.left / rate - (now - self.moved))


def follow(before: Building | None, left: int, now: float) -> Building | None:
    """A build after an update that tells how many nodes are pending or starting; None if none is."""
    if left == 0:
        return None
    if before is None:
        return Building(left, left, now, now)
    if left > before.left:
        return replace(before, total=before.total + left - before.left, left=left)
    return replace(before, left=left, moved=now) if left < before.left else before
