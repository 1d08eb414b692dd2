"""What the nodes of a session are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.errors import SessionError
from red_tui.federation.state import SERVER_ID

Arguments = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""One dict for all, a list with one a node, or a dict of dicts by id."""


def arguments_of(ids: Sequence[str], given: Arguments, further: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each node's arguments from one dict for all, a list with one a node, or a dict by id.

    A dict by id may name those in `further` too, which are told apart from these.

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
        unknown = [key for key in given if key not in ids and key not in further and key != SERVER_ID]
        if unknown:
            raise SessionError(f"client_args names {unknown[0]!r}, which takes no part in the session", failed={})
        return [dict(given.get(node_id, {})) for node_id in ids]
    return [dict(given) for _ in ids]


def arguments_inside(ids: Sequence[str], given: Arguments, server: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arguments of a hierarchy's aggregators: what `client_args` says under their id, else what the server is told."""
    by_id = given if isinstance(given, Mapping) else {}
    told = (by_id.get(node_id) for node_id in ids)
    return [dict(own) if isinstance(own, Mapping) else dict(server) for own in told]
