"""A federation that a script has put together, described as a layout, so that a replay knows who its rows are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from red_tui.aggregation.server import FederatedServer
from red_tui.federation.spec import FederationSpec, GroupSpec
from red_tui.layout import Layout, loads
from red_tui.messaging import TopologyRule
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import BUILTIN_ROLES

_FIXED = ("federation", "schema", "template", "server", "nodes", "roles", "topology", "rounds.strategy")
"""What has to be the same for a federation to go on."""

_SHAPES = ("k-connected", "custom", "hierarchical")


def describe(spec: FederationSpec, schema: type, rule: TopologyRule) -> Layout:
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


def changes(before: Layout, now: Layout) -> tuple[list[str], list[str]]:
    """What differs between two layouts: what a federation cannot go on with, and what it can."""
    differs = before.differences(now)
    fixed = [line for line in differs if line.split(":")[0].startswith(_FIXED) and not _same_class(line)]
    return fixed, [line for line in differs if line not in fixed]


def class_name(cls: type) -> str:
    """`module:Class`."""
    return f"{cls.__module__}:{cls.__name__}"


def _same_class(line: str) -> bool:
    """Whether a difference is only that a script was run once by its path and once as a module."""
    path, _, values = line.partition(": ")
    if path.rpartition(".")[2] not in ("template", "server", "schema"):
        return False
    before, _, now = values.partition(" → ")
    return ":" in before and before.strip('"').rpartition(":")[2] == now.strip('"').rpartition(":")[2]


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
