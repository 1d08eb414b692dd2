"""A node's state as bytes, and what of a state cannot become bytes."""

from __future__ import annotations

import pickle
from typing import Any

from red_tui.checks import shown
from red_tui.messaging.payload import check_sendable, packed_of, size_of

DEEPEST = 6
"""Levels of a state that are looked through for what cannot be serialised."""


class PackedState:
    """A state on its way from a file to its node: whoever passes it on does not look into it.

    Args:
        data: What `packed_state` gave.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedState, (self.data,)


def opened(state: Any) -> Any:
    """A state as its node gets it, whichever way it came."""
    return pickle.loads(state.data) if isinstance(state, PackedState) else state


def packed_state(state: Any, node_id: str) -> bytes:
    """A state as bytes.

    Args:
        state: What `get_state` gave.
        node_id: Whose it is.

    Raises:
        TypeError: If it cannot be serialised, or holds what does not outlive its cluster: with the node and the key.
    """
    try:
        data = packed_of("get_state", state)
    except Exception as error:
        raise TypeError(_refusal(state, node_id, "kept on disk", error)) from error
    if data is None:
        raise TypeError(
            f"the state of node {node_id!r} cannot be kept on disk: {_culprit(state, 'state')[0]} holds a reference or"
            " an actor of Ray, which does not outlive its cluster; let get_state give the value instead"
        )
    return data


def check_state(state: Any, node_id: str) -> None:
    """Raise TypeError, with the node and the key, unless a state can be sent to another process."""
    try:
        check_sendable(state, "get_state")
    except TypeError as error:
        raise TypeError(_refusal(state, node_id, "sent to another process", error.__cause__ or error)) from error


def state_size(state: Any) -> int:
    """About how many bytes a state has; of objects that do not show it, those that it takes as bytes."""
    try:
        size = size_of(state)
        if size > 8 or type(state) in (int, float, bool, complex):
            return size
        return len(packed_of("get_state", state) or b"")
    except Exception:
        return 0


def _refusal(state: Any, node_id: str, what: str, error: BaseException) -> str:
    place, part = _culprit(state, "state")
    why = str(error.__cause__ or error)
    return (
        f"the state of node {node_id!r} cannot be {what}: {place} is {shown(part)} ({why}); leave it out of what"
        " get_state gives, and make it again in build or set_state"
    )


def _culprit(value: Any, place: str, depth: int = 0) -> tuple[str, Any]:
    """The innermost part of a state that cannot be serialised, as an expression, and the part."""
    kind = type(value)
    if depth < DEEPEST and kind in (dict, list, tuple):
        for key, part in value.items() if kind is dict else enumerate(value):
            try:
                whole = packed_of("get_state", part) is not None
            except Exception:
                whole = False
            if not whole:
                return _culprit(part, f"{place}[{shown(key)}]", depth + 1)
    return place, value
