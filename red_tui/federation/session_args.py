"""What the nodes of a session are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.errors import SessionError
from red_tui.federation.state import SERVER_ID

Arguments = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""One dict for all, a list with one a node, or a dict of dicts by id."""


def arguments_of(ids: Sequence[str], given: Arguments) -> list[dict[str, Any]]:
    """Each node's arguments from one dict for all, a list with one a node, or a dict by id.

    Raises:
        SessionError: If a list has another length, or an id is unknown.
    """
    if not isinstance(given, Mapping):
        if len(given) != len(ids):
            raise SessionError(
                f"client_args has {len(given)} entries for {len(ids)} nodes: give one for each", failed={}
            )
        return [dict(one) for one in given]
    if given and all(isinstance(value, Mapping) for value in given.values()) and any(key in ids for key in given):
        unknown = [key for key in given if key not in ids and key != SERVER_ID]
        if unknown:
            raise SessionError(f"client_args names {unknown[0]!r}, which takes no part in the session", failed={})
        return [dict(given.get(node_id, {})) for node_id in ids]
    return [dict(given) for _ in ids]
