"""The topology of a federation: a rule, kept in step with who joins and leaves."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from red_tui.errors import TopologyError
from red_tui.messaging import Topology, TopologyRule
from red_tui.messaging.topology import GraphFacts, star_facts
from red_tui.nodes.ids import SERVER_ID
from red_tui.nodes.table import IntArray, NodeTable


class FederationTopology:
    """Who is whose neighbour in a federation.

    Args:
        rows: Rows of the client nodes now.
        ids_of: Ids of rows.
        membership: Something that changes when nodes join or leave.
        warn: Shows a standing warning, or takes it back (empty).
    """

    def __init__(
        self,
        rows: Callable[[], IntArray],
        ids_of: Callable[[IntArray], Sequence[str]],
        membership: Callable[[], Hashable],
        warn: Callable[[str, str], None],
    ) -> None:
        self._rows, self._ids_of, self._membership, self._warn = rows, ids_of, membership, warn
        self.rule = TopologyRule()
        self.version = 0
        self.aggregators: frozenset[str] = frozenset()
        """Ids of the aggregators of a hierarchy: they are nobody's neighbours in any other shape."""
        self._made: tuple[Hashable, int, Topology] | None = None

    def use(self, rule: TopologyRule) -> None:
        """Go by another rule.

        Raises:
            TopologyError: If these nodes cannot keep it; the rule before stays.
        """
        if rule.name == "star":
            # Any nodes can keep it: a million ids need not be looked at.
            self.rule, self._made = rule, None
            self.version += 1
            self._warn("topology", "")
            return
        ids = self._members(rule)
        rule.check_names(ids)
        made = Topology(rule, ids)
        self.rule = rule
        self.version += 1
        self._made = (self._membership(), self.version, made)
        self._warn("topology", _cut(made))

    def restore(self, wire: Mapping[str, Any]) -> None:
        """Go by the rule that a journal holds; nodes that joined or left since are seen to when it is used."""
        self.rule, self._made = TopologyRule(**wire), None
        self.version += 1

    def current(self) -> Topology:
        """The rule applied to the nodes that are in the federation now.

        Where they cannot keep it any more (k-connected with an odd number of ends, say), the nearest k that
        they can keep is used, with a standing warning.
        """
        key = self._membership()
        made = self._made
        if made is not None and made[:2] == (key, self.version):
            return made[2]
        ids = self._members(self.rule)
        topology, trouble = self._nearest(ids)
        self._made = (key, self.version, topology)
        self._warn("topology", trouble or _cut(topology))
        return topology

    def _members(self, rule: TopologyRule) -> Sequence[str]:
        ids = self._ids_of(self._rows())
        if rule.hierarchy is not None or not self.aggregators:
            return ids
        return [node_id for node_id in ids if node_id not in self.aggregators]

    def _nearest(self, ids: Sequence[str]) -> tuple[Topology, str]:
        try:
            return Topology(self.rule, ids), ""
        except TopologyError as error:
            if self.rule.k is None:
                raise
            below = range(min(self.rule.k, len(ids) - 1), 0, -1)
            for k in (self.rule.k + 1, *below):
                try:
                    made = Topology(replace(self.rule, k=k), ids)
                except TopologyError:
                    continue
                return made, f"{error.message}; until that changes k is {k}"
            # One node has no neighbours under any rule.
            return Topology(TopologyRule("line"), ids), f"{error.message}; until that changes nobody has neighbours"

    def neighbors(self, node_id: str) -> tuple[str, ...]:
        """Ids of the neighbours of a node.

        Raises:
            TopologyError: If it is not in the federation.
        """
        return self.current().neighbors(node_id)

    @property
    def graph(self) -> Any:
        """The `networkx.Graph` over ids."""
        return self.current().graph

    def __str__(self) -> str:
        return str(self.current())


def _cut(topology: Topology) -> str:
    """What is to be said of a topology in parts; nothing where all can reach each other."""
    if topology.rule.name not in ("custom", "k-connected"):
        return ""  # these are connected by their rule
    parts = topology.components()
    if len(parts) < 2:
        return ""
    smallest, more = ", ".join(parts[-1][:3]), " and others" if len(parts[-1]) > 3 else ""
    return (
        f"the topology is in {len(parts)} parts without a path between them (the smallest: {smallest}{more}): what one"
        " part learns does not reach the others"
    )


def rule_of(topology: Any, options: Mapping[str, Any]) -> TopologyRule:
    """The rule that is meant by a name with options, a rule, or a graph.

    Raises:
        TopologyError: If it is none of these, or an option is unknown.
    """
    if isinstance(topology, TopologyRule) and not options:
        return topology
    if isinstance(topology, str):
        known = ("k", "seed", "branching", "rewire", "adjacency", "graph", "levels", "groups")
        for name in options:
            if name not in known:
                raise TopologyError(f"{name!r} is no option of a topology: use {', '.join(known)}", rule=topology)
        return TopologyRule(topology, **options)
    if hasattr(topology, "nodes") and not options:
        return TopologyRule("custom", graph=topology)
    raise TopologyError(
        f"a topology is a name, a TopologyRule or a networkx.Graph, not {type(topology).__name__}"
        + (" with options" if options else "")
    )


EDGES_LISTED = 200_000
"""Max edges of a graph that is sent whole; of a larger one, neighbours are sent node by node on request."""

NEIGHBORS_LISTED = 1000
"""Max neighbours listed in an answer."""


@dataclass(frozen=True)
class GraphView:
    """What an answer about a graph is made of, in a federation that runs and in a replay.

    Attributes:
        topology: Who is whose neighbour.
        version: Version of the topology, read before the graph.
        rows: Rows of the client nodes.
        table: The nodes' table.
    """

    topology: FederationTopology
    version: Sequence[int]
    rows: IntArray
    table: NodeTable


def graph_answer(view: GraphView, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Facts and edges of the graph; with `node`, the neighbours of that node (`most`: max listed, None for all).

    With `rule`, the rule and the ids that it is applied to, from which `messaging.Topology` makes the graph again.
    """
    if arguments.get("rule"):
        current = view.topology.current()
        return {"text": str(current), "rule": current.rule.to_wire(), "ids": list(current.ids)}
    if arguments.get("node") is not None:
        return _neighbors(view, str(arguments["node"]), arguments.get("most", NEIGHBORS_LISTED))
    if view.topology.rule.name == "star":  # its rule says it all: a million ids need not be looked at
        return _facts(view.version, view.topology.rule, star_facts(len(view.rows)))
    topology = view.topology.current()
    facts, rule = topology.facts, topology.rule
    answer = _facts(view.version, rule, facts)
    if rule.name != "mesh" and facts.edges <= EDGES_LISTED:
        known = [view.table.row_of(node_id) for node_id in topology.ids]
        if None not in known:  # else a node has left meanwhile: the console asks again
            rows = np.asarray([*known, view.table.row_of(SERVER_ID)], dtype="<i4")
            answer["pairs"] = np.ascontiguousarray(rows[topology.pairs]).tobytes()
    return answer


def _facts(version: Sequence[int], rule: TopologyRule, facts: GraphFacts) -> dict[str, Any]:
    text = f"{rule}: {facts.nodes} nodes, {facts.edges} edges"
    if facts.parts > 1:
        text += f", in {facts.parts} parts without a path between them"
    return {
        "text": text,
        "version": list(version),
        "rule": rule.name,
        "name": str(rule),
        "facts": dict(facts.__dict__),
        "pairs": None,
    }


def _neighbors(view: GraphView, node_id: str, most: int | None) -> dict[str, Any]:
    if node_id == SERVER_ID and view.topology.rule.name == "star" and most is not None:
        return {"text": "", "neighbors": view.table.ids.take(view.rows[:most]), "count": len(view.rows)}
    found = view.topology.neighbors(node_id)
    return {"text": "", "neighbors": list(found if most is None else found[:most]), "count": len(found)}
