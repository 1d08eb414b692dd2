"""Why a node is as it is: what is asked, what each host has, and what would make it fit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from red_tui.aggregation.server import FederatedServer
from red_tui.aggregation.strategies import OwnStrategy
from red_tui.checks import shown
from red_tui.errors import PlacementError
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.spec import FederationSpec, GroupSpec
from red_tui.federation.state import FederationState
from red_tui.layout import Layout, loads
from red_tui.layout.models import differences_between
from red_tui.layout.round_settings import SETTINGS, is_plain
from red_tui.layout.rules import Refused, check_spec
from red_tui.layout.yaml_tree import written
from red_tui.messaging import TopologyRule
from red_tui.nodes.ids import SERVER_ID, PatternIds
from red_tui.nodes.states import BUILDABLE, BUILT, BUILTIN_ROLES, NodeState
from red_tui.placement.availability import HOLDERS_SHOWN, Availability, look
from red_tui.placement.feasibility import check_feasible, group_state
from red_tui.placement.shares import amounts_text, total_of
from red_tui.plain_text import one_line
from red_tui.runtime.virtual_node import VirtualNode

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
    now["config"] |= {key: _json_value(value) for key, value in terms.keys.items()}
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
        "placement": {"isolation": placement.isolation, "state_memory": placement.state_memory},
        "rounds": {
            "strategy": settings.choice,
            "fraction": settings.fraction,
            "deadline": settings.deadline,
            "min_results": settings.min_results,
            "seed": settings.seed,
            "evaluate_every": settings.evaluate_every,
            "exact": settings.exact,
            "node_history": settings.node_history,
            "evaluator": _named_spec(spec.evaluator),
            **spec.kept_rounds,
        },
        "failure": {
            "policy": spec.failure.policy,
            "max_rebuilds": spec.failure.max_rebuilds,
            "backoff": spec.failure.backoff,
        },
        "topology": _topology(rule),
        "hooks": [found for hook in spec.hooks if (found := _named_spec(type(hook)))],
        "config": {key: _json_value(value) for key, value in config.items() if key.lower() != "federation_id"},
    }
    # JSON is YAML, and is written faster than a million lines of it.
    return loads(json.dumps(told), "the script's federation")


def _named_spec(called: Any) -> str | None:
    """`module:name` of a class, a function or an object's class; None where no layout could name it."""
    if called is None or isinstance(called, str):
        return called
    kind = called if isinstance(called, type) or hasattr(called, "__qualname__") else type(called)
    name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        check_spec(name)
    except Refused:
        return None
    return name


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
    config = {key: _json_value(value) for key, value in group.config.items()}
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


def _json_value(value: Any) -> Any:
    """A config value as JSON has it; of what JSON does not have, the type."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__name__}>"


def describe_node(state: FederationState, node: VirtualNode) -> dict[str, Any]:
    """All that a federation knows of one node, as plain data."""
    row, table = node.row, state.table
    cause, last = state.cause_of(row), state.last_errors.get(row)
    bundle = table.value("bundle", row)
    host = state.bundle_actors.get(bundle)
    hosted = host is not None and bool(state.hosted(np.asarray([row]))[0])
    slot = state.pool.slot_of(bundle) if state.pool and bundle >= 0 else None
    seat = state.seats.get(row) or ((bundle, slot.spec) if hosted and slot else None)
    facts = state.bundle_facts.get(bundle, {}) if hosted else state.facts.get(row, {})
    return {
        "id": node.id,
        "state": str(node.state),
        "since": table.value("since", row),
        "why": cause.text if cause else "",
        "traceback": last.cause.traceback if last else "",
        "last_error": last.to_wire() if last else None,
        "roles": str(node.role),
        "bundle": bundle,
        "host": state.pool.host_name(bundle) if state.pool and bundle >= 0 else "",
        "resources": dict(seat[1]) if seat else {},
        "actor": host.name if hosted and host else f"{state.fed_id}/{node.id}",
        "pid": facts.get("pid"),
        "rounds": table.value("rounds", row),
        "rebuilds": table.value("rebuilds", row),
        "seconds": _finite(table.value("seconds", row)),
        "loss": _finite(table.value("loss", row)),
        "losses": [_finite(loss) for loss in state.scores.losses_of(row)],
        "metrics": {name: _finite(value) for name, value in state.scores.metrics_of(row).items()},
        "config": {key: _plain(value) for key, value in node.config.as_dict().items()},
        "state_kept": row in state.kept,
        "log": [],
    }


def _plain(value: Any) -> Any:
    """A value of a config as screens can show it."""
    value = dict(value) if isinstance(value, OwnStrategy) else value
    return value if is_plain(value) else shown(value)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


HOSTS_SHOWN = 8

HostsShown = Sequence[tuple[str, Mapping[str, float], Mapping[str, float]]]


@dataclass(frozen=True)
class Explanation:
    """Why a node is as it is.

    Attributes:
        node_id: The node.
        verdict: `fine`, `fits` (it can be built now), `busy` (it fits when others give back theirs), `infeasible`
            (it never fits as the cluster is), `waits`, or `failed`.
        why: One line.
        asked: Resources that it asks of its bundle.
        hosts: (name, what it has, what of it is free) of each living host.
        advice: What would make it fit, or is to be done; may be empty.
        holders: (who, what they hold) of all who hold resources of the cluster, where the node waits for some.
    """

    node_id: str
    verdict: str
    why: str
    asked: Mapping[str, float] = field(default_factory=dict)
    hosts: HostsShown = ()
    advice: str = ""
    holders: Sequence[tuple[str, Mapping[str, float]]] = ()

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "why": self.why,
            "verdict": self.verdict,
            "advice": self.advice,
            "asked": dict(self.asked),
            "hosts": [[name, dict(has), dict(free)] for name, has, free in self.hosts],
            "holders": [[who, dict(amounts)] for who, amounts in self.holders],
        }

    @classmethod
    def from_wire(cls, node_id: str, data: Mapping[str, Any]) -> Explanation:
        """The explanation that another process gave of a node."""
        return cls(
            node_id,
            data["verdict"],
            data["why"],
            data["asked"],
            [(name, has, free) for name, has, free in data["hosts"]],
            data["advice"],
            [(who, amounts) for who, amounts in data["holders"]],
        )

    def __str__(self) -> str:
        lines = [one_line(self.why + (f"; {self.advice}" if self.advice else ""))]
        if self.asked:
            lines.append(f"asks {amounts_text(self.asked)}")
        for name, has, free in self.hosts[:HOSTS_SHOWN]:
            lines.append(
                f"  {one_line(name, 100)}: has {amounts_text(has)}, free {amounts_text(free) if free else 'nothing'}"
            )
        if len(self.hosts) > HOSTS_SHOWN:
            lines.append(f"  … and {len(self.hosts) - HOSTS_SHOWN} more hosts")
        lines += [f"  {who} holds {amounts_text(amounts)}" for who, amounts in self.holders[:HOLDERS_SHOWN]]
        return "\n".join(lines)


class Explainer:
    """Looks at the cluster, in the caller's thread, and says why."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state

    def node(self, row: int) -> Explanation:
        """Why the node of a row is as it is."""
        table = self._state.table
        state, name = table.state_of(row), table.ids[row]
        if state in BUILT:
            bundle = table.value("bundle", row)
            host = self._lifecycle.pool.host_name(bundle)
            error = self._state.last_errors.get(row)
            advice = f"its last error, {error}" if error is not None else ""
            why = f"is {state} in bundle {bundle}" + (f" on {host}" if host else "")
            best = self._state.history.best
            if name == SERVER_ID and best is not None:
                why += f"; it has aggregated up to round {self._state.completed}, of which the best: {best}"
            return Explanation(name, "fine", why, advice=advice)
        if state is NodeState.REMOVED:
            return Explanation(name, "fine", "has been removed")
        now = look()
        if state is NodeState.FAILED:
            return self._failed(row, name, _hosts(now))
        if state in BUILDABLE:
            return self._buildable(row, name, now)
        return self._waiting(row, name, now)

    def no_room(self) -> str:
        """Why the pool's bundles, which are still to be reserved, do not fit now and what would help; or nothing."""
        now, pool = look(), self._lifecycle.pool
        if pool.ready or now.has_room(pool.specs):
            return ""
        why = now.why_no_room(pool.specs)
        if pool.provisional:
            why = f"no CPU is free, and the pool is planned as if all were; {why}"
        return "; ".join([why, *now.remedies(now.lacking(total_of(pool.specs)))])

    def _failed(self, row: int, name: str, shown: HostsShown) -> Explanation:
        cause = self._state.causes.get(row)
        why = f"failed: {cause.text}" if cause else "failed"
        plan = self._lifecycle.plan([row], rebuild=True)
        if len(plan.left_out):
            return Explanation(
                name, "failed", why, hosts=shown, advice=f"it cannot be rebuilt now: {plan.left_out[0].why}"
            )
        done, most = self._state.table.value("rebuilds", row), self._state.failure.max_rebuilds
        tried = f" (rebuilt {done} times, the policy allows {most})" if self._state.failure.policy == "rebuild" else ""
        return Explanation(
            name, "failed", why, plan.placed[0].resources, shown, f"mend the cause and rebuild it{tried}"
        )

    def _buildable(
        self,
        row: int,
        name: str,
        now: Availability,
    ) -> Explanation:
        state, pool, shown = self._state.table.state_of(row), self._lifecycle.pool, _hosts(now)
        plan = self._lifecycle.plan([row])
        if len(plan.left_out):
            advice = "release idle nodes, or add bundles"
            return Explanation(
                name, "busy", f"is {state} and finds no place: {plan.left_out[0].why}", hosts=shown, advice=advice
            )
        placed = plan.placed[0]
        if pool.ready:
            return Explanation(
                name, "fits", f"is {state}: bundle {placed.bundle_idx} has room for it", placed.resources, shown
            )
        try:
            check_feasible(pool.specs, pool.strategy, now.hosts)
        except PlacementError as error:
            return Explanation(
                name, "infeasible", f"is {state} and never fits: {error.message}", placed.resources, shown
            )
        if not now.has_room(pool.specs):
            why = now.why_no_room(pool.specs, "not reserved")
            help_ = "; ".join(now.remedies(now.lacking(total_of(pool.specs))))
            text = f"is {state}; its pool is not reserved and does not fit now: {why}"
            return Explanation(name, "busy", text, placed.resources, shown, help_, _holders(now))
        return Explanation(
            name, "fits", f"is {state}: the pool will be reserved at the first build", placed.resources, shown
        )

    def _waiting(self, row: int, name: str, now: Availability) -> Explanation:
        state, pool, shown = self._state.table.state_of(row), self._lifecycle.pool, _hosts(now)
        bundle = self._state.table.value("bundle", row)
        slot = pool.slot_of(bundle)
        asked = dict(slot.spec) if slot else {}
        cause = self._state.cause_of(row)
        why = f"is {state}: " + (cause.text if cause else "its `build` runs")
        if state is NodeState.PENDING and pool.ready:
            group, _ = pool.locate(bundle)
            scheduling = group_state(group)
            if scheduling not in ("FINISHED", "CREATED"):
                reason = now.why_no_room(pool.specs, scheduling)
                verdict = "infeasible" if scheduling == "INFEASIBLE" else "busy"
                return Explanation(
                    name, verdict, f"{why}; its placement group is {scheduling.lower()}: {reason}", asked, shown
                )
        return Explanation(name, "waits", why, asked, shown)


def _hosts(now: Availability) -> HostsShown:
    return [(host.name, host.resources, now.free.get(host.host_id, {})) for host in now.hosts]


def _holders(now: Availability) -> Sequence[tuple[str, Mapping[str, float]]]:
    return [(holder.name, holder.amounts) for holder in now.holders]
