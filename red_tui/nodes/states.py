"""Roles: dash-separated in text and matched whole."""

from __future__ import annotations

import re
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


BUILTIN_ROLES = frozenset({"train", "eval", "test", "server"})
"""Roles that rounds and sessions know; a layout declares further ones under `roles`."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


class Roles(str):
    """The roles of a node: `"train" in Roles("train-eval")` is true, in `Roles("pretrain")` false.

    It is a `str` and compares as one; only membership and iteration look at whole roles.

    Raises:
        ValueError: If the text is empty or a part is not a word.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Roles:
        """Check the text and make it roles."""
        for part in text.split("-"):
            if not _WORD.match(part):
                raise ValueError(
                    f"{text!r} is not a role: write words of letters, digits and _ joined by dashes, such as train-eval"
                )
        return super().__new__(cls, text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The single roles, in the order written."""
        return tuple(self.split("-"))

    def __contains__(self, role: object) -> bool:
        if not isinstance(role, str) or not role:
            return False
        return set(role.split("-")) <= set(self.parts)
