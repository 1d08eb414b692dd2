"""Config keys that a federation changes between rounds: they travel with each round, and nodes take them over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NUMBER = "round"
"""The key of a round's number, which every round has."""


def changed_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a round tells beside its number."""
    return {key: value for key, value in config.items() if key != NUMBER} if len(config) > 1 else {}


class HostKeys:
    """The keys that the nodes of a host know.  Taking over others costs once, not in each round."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def take(self, config: Mapping[str, Any], groups: Iterable[dict[str, Any]], nodes: Iterable[Any]) -> None:
        """Take a round's keys over: into what groups are told, and into the config of nodes that have made theirs."""
        keys = changed_keys(config)
        if keys == self._known:
            return
        self._known = keys
        for group in list(groups):
            group.update(keys)
        for node in list(nodes):
            if "_config" in node.__dict__:
                node.config = node.config.updated(**keys)
