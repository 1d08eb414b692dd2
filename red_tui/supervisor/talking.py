"""The verbs of sessions, messages and topologies that a supervisor takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from red_tui.federation.base import FederatedBase
from red_tui.federation.state import SERVER_ID
from red_tui.messaging import TopologyRule
from red_tui.messaging.topology import GraphFacts, star_facts

EDGES_TOLD = 200_000
"""Edges up to which a graph is told whole; of larger ones a node's neighbours are told when they are asked for."""

NEIGHBORS_TOLD = 1000
"""Neighbours that are named at most."""

TRAFFIC_TOLD = 2000
"""Nodes whose messages are told at most, unless more are asked for."""

Arguments = Mapping[str, Any]


def _train(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    server, client = arguments.get("server_args") or {}, arguments.get("client_args") or {}
    result = federation.train(server, client, blocking=wait)
    if result is None:
        return {"text": "a session begins"}
    return {
        "text": f"the session has ended: {len(result.results)} nodes came back, {len(result.failures)} failed",
        "results": dict(result.results),
        "failures": dict(result.failures),
        "seconds": result.seconds,
        "stopped": result.stopped,
    }


def _stop_session(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    timeout = arguments.get("timeout")
    return {"text": federation.stop_session() if timeout is None else federation.stop_session(float(timeout))}


def _test(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    phase, further = str(arguments.get("phase", "test")), dict(arguments.get("kwargs") or {})
    found = federation.test(phase, aggregate=bool(arguments.get("aggregate", True)), **further)
    if isinstance(found, Mapping):
        return {"text": f"{len(found)} nodes judged", "values": {name: list(told) for name, told in found.items()}}
    return {"text": f"{phase}: {found:.6g}", "value": found}


def _send(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    count = federation.send(str(arguments.get("header") or ""), arguments.get("body"), arguments.get("to"))
    text = f"sent to {count} node{'' if count == 1 else 's'}" if count else "nobody is built: it was sent to no one"
    return {"text": text, "count": count}


def _pull_version(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    return {"text": "", "version": federation.pull_version(arguments["ids"], float(arguments.get("timeout", 5.0)))}


def _graph(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    if arguments.get("node") is not None:
        return _neighbors(federation, str(arguments["node"]), arguments.get("most", NEIGHBORS_TOLD))
    version = federation.topology_version  # before the graph: if nodes join meanwhile, it is asked for again
    if federation.topology.rule.name == "star":  # told by its rule: a million ids need not be looked at
        return _told(version, federation.topology.rule, star_facts(federation.num_nodes))
    topology = federation.topology.current()
    facts, rule = topology.facts, topology.rule
    told = _told(version, rule, facts)
    if rule.name != "mesh" and facts.edges <= EDGES_TOLD:
        known = [federation.table.row_of(node_id) for node_id in topology.ids]
        if None not in known:  # else somebody has left meanwhile: it is asked for again
            rows = np.asarray([*known, federation.table.row_of(SERVER_ID)], dtype="<i4")
            told["pairs"] = np.ascontiguousarray(rows[topology.pairs]).tobytes()
    return told


def _told(version: list[int], rule: TopologyRule, facts: GraphFacts) -> dict[str, Any]:
    text = f"{rule}: {facts.nodes} nodes, {facts.edges} edges"
    if facts.parts > 1:
        text += f", in {facts.parts} parts without a path between them"
    return {
        "text": text,
        "version": version,
        "rule": rule.name,
        "name": str(rule),
        "facts": dict(facts.__dict__),
        "pairs": None,
    }


def _neighbors(federation: FederatedBase, node_id: str, most: int | None) -> dict[str, Any]:
    if node_id == SERVER_ID and federation.topology.rule.name == "star" and most is not None:
        first = federation.nodes.rows[:most]
        return {"text": "", "neighbors": federation.table.ids.take(first), "count": federation.num_nodes}
    found = federation.topology.neighbors(node_id)
    return {"text": "", "neighbors": list(found if most is None else found[:most]), "count": len(found)}


def _traffic(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    traffic = federation.traffic()
    asked = arguments.get("ids")
    names = [name for name in asked if name in traffic] if asked is not None else list(traffic)
    names = names[: arguments.get("most", TRAFFIC_TOLD)]
    totals = {
        name: sum(int(told.get(name, 0)) for told in traffic.values())
        for name in ("sent", "sent_bytes", "received", "doubles", "dropped", "waiting")
    }
    return {"text": "", "nodes": {name: dict(traffic[name]) for name in names}, "totals": totals, "count": len(traffic)}


TALKING: dict[str, Callable[[FederatedBase, Arguments, bool], dict[str, Any]]] = {
    "train": _train,
    "stop_session": _stop_session,
    "test": _test,
    "send": _send,
    "pull_version": _pull_version,
    "graph": _graph,
    "traffic": _traffic,
}
