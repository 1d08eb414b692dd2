"""What a federation is now, as a layout: the answer to `describe`, and the layout of one that a script made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from red_tui.aggregation.server import FederatedServer
from red_tui.federation.spec import FederationSpec, GroupSpec
from red_tui.federation.state import FederationState
from red_tui.layout import Layout, loads
from red_tui.layout.models import differences_between
from red_tui.layout.round_settings import SETTINGS
from red_tui.layout.yaml_tree import written
from red_tui.messaging import TopologyRule
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import BUILTIN_ROLES

_SHAPES = ("k-connected", "custom", "hierarchical")

NODES_LISTED = 1000
"""Max nodes of a layout's entry that are listed one by one because they are no whole pattern any more."""


@dataclass(frozen=True)
class Description:
    """The layout in effect, and where it differs from the file.

    Attributes:
        federation: Id of the federation.
        path: Where its layout came from; empty if a script made it.
        layout: The layout in effect, as plain data with all defaults.
        differs: Lines such as `rounds.fraction: 1.0 → 0.5`, from the file to what is in effect.
    """

    federation: str
    path: str
    layout: Mapping[str, Any]
    differs: Sequence[str]

    @property
    def summary(self) -> str:
        """It in a line."""
        origin = self.path or "the script that made it"
        count = len(self.differs)
        return f"{self.federation} is as {origin} says" + (
            f", but for {count} difference{'s' * (count != 1)}" if count else ""
        )

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "federation": self.federation,
            "path": self.path,
            "layout": dict(self.layout),
            "differs": list(self.differs),
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Description:
        """The description that another process gave."""
        return cls(data["federation"], data["path"], data["layout"], tuple(data["differs"]))

    def __str__(self) -> str:
        # The comments stand at the end: the first line of a layout is its title.
        told = [f"# {self.summary}", *(f"#   {line}" for line in self.differs)]
        return written(dict(self.layout)) + "\n".join(told)


def describe(state: FederationState, spec: FederationSpec, schema: type, origin: TopologyRule) -> Description:
    """What a federation is now.

    Args:
        state: Its state.
        spec: What it was made from.
        schema: Its class.
        origin: The topology that it was made with.

    Raises:
        LayoutError: If a script made it in a way that no layout can say.
    """
    layout = spec.layout or layout_of(spec, schema, origin)
    before, now = layout.as_dict(), layout.as_dict()
    terms, rule = state.terms.next, state.topology.rule
    now["rounds"] |= {name: getattr(terms.settings, name) for name in SETTINGS}
    now["config"] |= {key: _plain(value) for key, value in terms.keys.items()}
    differs = [*differences_between(before, now)]
    now["nodes"], lines = _nodes_now(state, layout)
    differs += lines
    if rule.to_wire() != origin.to_wire():
        differs.append(f"topology: {origin} → {rule}")
    return Description(state.fed_id, spec.layout_path, now, tuple(differs))


def _nodes_now(state: FederationState, layout: Layout) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of `nodes` for the nodes that are there now, and lines that say who left and who joined.

    What the layout has comes first, in row order: the server's row is 0, and those who joined come last.
    """
    table, entries = state.table, layout.as_dict()["nodes"]
    present, found, left, row = table.present(), [], [], 1
    for entry, group in zip(entries, layout.node_groups(), strict=True):
        rows = np.arange(row, row + len(group.segment))
        row += len(rows)
        staying = rows[present[rows]]
        left += table.ids.take(rows[~present[rows]])
        if len(staying) == len(rows):
            found.append(entry)
        else:
            found += _singly(table.ids.take(staying), entry)
    rows = np.arange(row + state.num_aggregators, len(table))
    joined = rows[present[rows]]
    for role, alike in groupby(joined.tolist(), key=lambda one: str(table.role_of(one))):
        found += _singly(
            table.ids.take(np.asarray(list(alike))),
            {"count": 1, "role": role, "id": "", "config": {}, "template": None},
        )
    lines = [f"nodes: {_named(left)} left"] if left else []
    return found, lines + ([f"nodes: {_named(table.ids.take(joined))} joined"] if len(joined) else [])


def _singly(ids: Sequence[str], entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An entry for each of some nodes; beyond `NODES_LISTED` one more entry counts the others."""
    listed = [{**entry, "count": 1, "id": node_id} for node_id in ids[:NODES_LISTED]]
    more = len(ids) - len(listed)
    return [*listed, {**entry, "count": more, "id": "…"}] if more else listed


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")


def layout_of(spec: FederationSpec, schema: type, rule: TopologyRule) -> Layout:
    """The layout of a federation: who its nodes are and how they learn.

    Config values that are no plain data are described by their type.

    Raises:
        LayoutError: If a layout cannot say it.
    """
    groups = [entry for group in spec.groups for entry in _entries(group)]
    words = {word for entry in groups for word in entry["role"].split("-")} - BUILTIN_ROLES
    settings, placement = spec.settings, spec.placement
    config = spec.config.as_dict()
    told: dict[str, Any] = {
        "federation": spec.config.federation_id,
        "schema": _schema_name(schema, rule),
        "template": class_name(spec.groups[0].template),
        "server": None if spec.server_template is FederatedServer else class_name(spec.server_template),
        "nodes": groups,
        "roles": sorted(words),
        "placement": {"isolation": placement.isolation},
        "rounds": {
            "strategy": settings.choice,
            "fraction": settings.fraction,
            "deadline": settings.deadline,
            "min_results": settings.min_results,
            "seed": settings.seed,
            "evaluate_every": settings.evaluate_every,
        },
        "failure": {
            "policy": spec.failure.policy,
            "max_rebuilds": spec.failure.max_rebuilds,
            "backoff": spec.failure.backoff,
        },
        "topology": _topology(rule),
        "config": {key: _plain(value) for key, value in config.items() if key.lower() != "federation_id"},
    }
    # JSON is YAML, and is written faster than a million lines of it.
    return loads(json.dumps(told), "the script's federation")


def class_name(cls: type) -> str:
    """`module:Class`."""
    return f"{cls.__module__}:{cls.__name__}"


def _schema_name(schema: type, rule: TopologyRule) -> str:
    own = schema.__module__ != "red_tui.federation.schemas"
    return class_name(schema) if own else rule.name


def _topology(rule: TopologyRule) -> dict[str, Any]:
    if rule.name not in _SHAPES:
        return {}
    wire = rule.to_wire()
    adjacency = wire.get("adjacency")
    told = {key: wire[key] for key in ("k", "levels", "groups") if wire.get(key) is not None}
    return {**told, "adjacency": adjacency} if isinstance(adjacency, Mapping) else told


def _entries(group: GroupSpec) -> Iterator[dict[str, Any]]:
    """The entries of `nodes` for one group: neighbours in the order that have a role and a pattern in common."""
    ids, template = group.ids, class_name(group.template)
    roles = [group.role] if isinstance(group.role, str) else list(group.role)
    config = {key: _plain(value) for key, value in group.config.items()}
    more: dict[str, Any] = {"template": template, "config": config}
    if isinstance(ids, PatternIds) and ids.first == 0:
        width = f":0{ids.width}d" if ids.width else ""
        pattern = f"{ids.prefix}{{i{width}}}{ids.suffix}"
        if isinstance(group.role, str):
            yield {"count": len(ids), "role": group.role, "id": pattern, **more}
            return
        for role, alike in groupby(roles):
            yield {"count": sum(1 for _ in alike), "role": role, "id": pattern, **more}
        return
    roles = roles * len(ids) if isinstance(group.role, str) else roles
    for node_id, role in zip(ids, roles, strict=True):
        yield {"count": 1, "role": role, "id": node_id, **more}


def _plain(value: Any) -> Any:
    """A config value as JSON has it; of what JSON does not have, the type."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__name__}>"
