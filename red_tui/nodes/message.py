"""A message between nodes, as its receiver reads it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Message(NamedTuple):
    """One message as the receiver reads it.

    Attributes:
        header: What it is about; empty for one that cannot be read here, which nobody gets: its body says why.
        body: What it brings, as it was when it was sent; arrays are read-only, large ones are read where they lie.
        sender: Id of the node that sent it; `supervisor` from outside.
        number: 1 for the first message from this sender to this receiver, and so on without gaps.
        sent: Wall-clock second.
    """

    header: str
    body: Any
    sender: str
    number: int
    sent: float
