"""By what rounds go, and by what the next ones will: settings, and keys that nodes are told with each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from red_tui.errors import CommandRefused
from red_tui.federation.reports import GroupDefinition
from red_tui.layout.round_settings import (
    MAX_TOLD,
    SETTINGS,
    Change,
    Several,
    checked,
    is_plain,
    is_setting,
    key_of,
    named,
    written,
)
from red_tui.nodes.config import FederationConfig
from red_tui.protocol.snapshot import ShownSettings
from red_tui.rounds.sampling import RoundSettings


@dataclass(frozen=True)
class RoundTerms:
    """What a round goes by from its beginning to its end.

    Attributes:
        settings: How it is run.
        keys: Config keys that were changed: every node is told them, over those of its group.
    """

    settings: RoundSettings
    keys: Mapping[str, Any] = field(default_factory=dict)

    def with_changes(self, changes: Mapping[str, Any]) -> RoundTerms:
        """These with other values, by the names under which they can be changed."""
        settings = {name: value for name, value in changes.items() if is_setting(name)}
        keys = {key_of(name): value for name, value in changes.items() if not is_setting(name)}
        return RoundTerms(replace(self.settings, **settings), {**self.keys, **keys})


class NextRounds:
    """The terms of the round in hand, and those of the next ones: a round never changes in its middle.

    Args:
        settings: How rounds are run at first.
        config: What all nodes are told.
        groups: The groups of nodes, the server's first; may grow.
    """

    def __init__(self, settings: RoundSettings, config: FederationConfig, groups: Sequence[GroupDefinition]) -> None:
        self.now = self.next = RoundTerms(settings)
        self._config, self._groups = config, groups
        self.version = 0

    def begin(self) -> None:
        """A round begins, or none is in hand: what was changed holds."""
        if self.now is not self.next:
            self.now = self.next
            self.version += 1

    def values(self, terms: RoundTerms | None = None) -> dict[str, Any]:
        """All that can be changed with its value in the next rounds (or in `terms`), by name.

        Of a key that groups of nodes have with different values: `Several`.
        """
        terms = terms or self.next
        settings = {name: getattr(terms.settings, name) for name in SETTINGS}
        return named(settings, {**self._told(), **terms.keys})

    def change(self, changes: Mapping[str, Any]) -> list[Change]:
        """Change the terms of the next rounds; all or nothing.  Gives what differs from before.

        Raises:
            CommandRefused: If a name or a value cannot be.
        """
        found = list(checked(changes, self.values()).values())
        if found:
            self.next = self.next.with_changes({change.name: change.new for change in found})
            self.version += 1
        return found

    def restore(self, changes: Mapping[str, Any]) -> list[str]:
        """Take over what was changed before; gives the names of what cannot be taken over any more."""
        refused = []
        for name, value in changes.items():
            fresh = "" if name in self.values() else "+"
            try:
                checked({fresh + name: value}, self.values())
            except CommandRefused:
                refused.append(name)
            else:
                self.next = self.next.with_changes({name: value})
        self.now = self.next
        self.version += 1
        return refused

    def shown(self) -> ShownSettings:
        """What can be changed, for screens: values of the next rounds, and of the one in hand where they differ."""
        values = {name: value for name, value in self.values().items() if _is_shown(value)}
        now = self.values(self.now) if self.now is not self.next else values
        return ShownSettings(
            {name: tuple(value) if isinstance(value, Several) else (value,) for name, value in values.items()},
            tuple(name for name, value in values.items() if now.get(name) != value),
        )

    def _told(self) -> dict[str, Any]:
        """What the client nodes are told at first."""
        base = self._config.as_dict()
        found: dict[str, dict[str, Any]] = {}
        for told in [{**base, **group.config} for group in self._groups[1:]] or [base]:
            for key, value in told.items():
                found.setdefault(key, {}).setdefault(written(value), value)
        return {
            key: next(iter(values.values())) if len(values) == 1 else Several(values.values())
            for key, values in found.items()
        }


def _is_shown(value: Any) -> bool:
    return is_plain(value) and len(written(value)) <= MAX_TOLD
