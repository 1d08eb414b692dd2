"""The states of a node, by name for people and by code for the table's columns."""

from __future__ import annotations

from enum import Enum


class NodeState(str, Enum):
    """`virtual → pending → starting → ready ⇄ busy`, `failed`, `released`; `removed` is a forgotten row."""

    VIRTUAL = "virtual"
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    FAILED = "failed"
    RELEASED = "released"
    REMOVED = "removed"

    def __str__(self) -> str:
        return self.value

    @property
    def code(self) -> int:
        """Position in `STATES`; what the table stores."""
        return _CODES[self]


STATES: tuple[NodeState, ...] = tuple(NodeState)
_CODES = {state: code for code, state in enumerate(STATES)}

BUILT = frozenset({NodeState.READY, NodeState.BUSY})
"""States in which a node has a process that answers."""

HOLDING = frozenset({NodeState.PENDING, NodeState.STARTING, NodeState.READY, NodeState.BUSY})
"""States in which a node occupies a bundle."""

BUILDABLE = frozenset({NodeState.VIRTUAL, NodeState.RELEASED})
"""States from which `build` starts; a failed node is rebuilt instead."""
