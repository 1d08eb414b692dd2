"""The answer to `graph`: which topology there is, its facts and edges, or the neighbours of one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from red_tui.federation.federation_topology import FederationTopology
from red_tui.messaging import TopologyRule
from red_tui.messaging.topology import GraphFacts, star_facts
from red_tui.nodes.table import IntArray, NodeTable

SERVER_ID = "server"

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
