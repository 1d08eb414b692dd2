"""The verbs that a supervisor takes: each turns plain arguments into an act and gives plain data back."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from red_tui.errors import CommandRefused, NothingToDo
from red_tui.federation.base import FederatedBase
from red_tui.federation.federation_topology import GraphView, graph_answer
from red_tui.federation.reports import BuildReport, NodeReport
from red_tui.federation.selections import Selection
from red_tui.placement.build_plan import LeftOutNodes

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
    # The version is read before the graph: if nodes join meanwhile, the console asks again.
    version = federation.topology_version
    return graph_answer(GraphView(federation.topology, version, federation.nodes.rows, federation.table), arguments)


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


HISTORY_PORTION = 200
"""Max rounds of one answer about the history."""

SHOWN = 1000
"""Nodes that an answer names at most where it names reasons."""

Verb = Callable[[FederatedBase, Arguments, bool], dict[str, Any]]
"""(federation, arguments, whether to wait for the outcome) → plain data with `text`."""


def targets(federation: FederatedBase, arguments: Arguments, default: str | None = None) -> Selection:
    """The nodes that a command names by `ids` or by `query`.

    Raises:
        CommandRefused: If it names none.
    """
    if arguments.get("ids") is not None:
        found = federation.select(list(arguments["ids"]))
    elif arguments.get("query") is not None:
        found = federation.select(str(arguments["query"]))
    elif default is not None:
        found = federation.select(default)
    else:
        raise CommandRefused("name nodes by ids or by a query")
    if len(found) == 0:
        asked = arguments.get("query") or default or "the ids given"
        raise CommandRefused(f"no node matches {asked!r}")
    return found


def _build(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    chosen = targets(federation, arguments)
    if arguments.get("available") is not None:
        within = federation.build_within(
            chosen,
            dict(arguments["available"]),
            skip_large=bool(arguments.get("skip_large")),
            wait=wait,
            timeout=arguments.get("timeout"),
        )
        return {"text": _started(within, wait), "report": report_to_wire(within)}
    report = federation.build(chosen, wait=wait, timeout=arguments.get("timeout"), **(arguments.get("kwargs") or {}))
    return {"text": _started(report, wait), "report": report_to_wire(report)}


def _wave(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    query = arguments.get("query")
    chosen = federation.select(query) if query else federation.select("state:virtual or state:released")
    if len(chosen) == 0:
        raise CommandRefused("every node has a process already: there is no next wave")
    size = arguments.get("size")
    plan = federation.plan(chosen if size is None else chosen[: int(size)])
    if not plan.placed:
        raise CommandRefused(plan.left_out[0].why)
    federation.announce("wave", "info", f"wave of {len(plan)}", f"{', '.join(plan.ids[:4])}{' …' * (len(plan) > 4)}")
    report = federation.build(
        replace(plan, left_out=LeftOutNodes(plan.ids_space)), wait=wait, timeout=arguments.get("timeout")
    )
    left = len(chosen) - len(plan)
    more = f"; {left} are left for later waves" if left else ""
    return {"text": _started(report, wait) + more, "report": report_to_wire(report)}


def _started(report: BuildReport, wait: bool) -> str:
    if wait or not report.waiting:
        return str(report)
    names = ", ".join(report.waiting[:3]) + (" …" if len(report.waiting) > 3 else "")
    return f"building {names}" if len(report.waiting) == 1 else f"building {len(report.waiting)} nodes: {names}"


def _round(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    return _run(federation, {**arguments, "rounds": 1}, wait)


def _run(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    rounds, until = arguments.get("rounds", 1), arguments.get("until")
    named = arguments.get("ids") is not None or arguments.get("query") is not None
    nodes = targets(federation, arguments) if named else None
    if not wait:
        federation.start_run(rounds, until, nodes=nodes)
        what = "a round" if rounds == 1 else f"{rounds} rounds"
        return {"text": f"running {what}" + (f" until {until}" if until else "")}
    history = federation.run(rounds, until, nodes=nodes)
    wires = [
        {
            **result.to_wire(),
            "ids": list(result.participants),
            "failures": dict(result.failures),
            "left_out": dict(result.left_out),
        }
        for result in history
    ]
    return {"text": f"{len(history)} rounds done", "rounds": wires}


def _set(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    data = {"command": arguments["command"]} if arguments.get("command") else None
    changes = federation.change_rounds(dict(arguments.get("values") or {}), str(arguments.get("who") or ""), data)
    text = ", ".join(map(str, changes)) or "nothing changes"
    return {"text": text, "changes": [[change.name, change.old, change.new, change.fresh] for change in changes]}


def _history(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    if arguments.get("nodes") is not None:
        number = int(arguments["nodes"])
        return {"text": f"the nodes of round {number}", "number": number, "nodes": federation.history.nodes(number)}
    # A long history goes out in portions: what an answer of all rounds takes, its process keeps.
    done = federation.history.rounds
    first = bisect_right(done, int(arguments.get("after") or 0), key=lambda result: result.number)
    portion = done[first : first + HISTORY_PORTION]
    return {
        "text": f"{len(portion)} rounds",
        "rounds": [result.to_wire() for result in portion],
        "more": first + len(portion) < len(done),
    }


def _spread(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    number = int(arguments["number"])
    found = federation.history.of_number(number)
    spread = {} if found is None else dict(found.spread)
    why = f"no round {number} has ended" if found is None else "" if spread else "the journal has lost it"
    return {"text": why, "number": number, "spread": spread}


def _stop(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    return {"text": federation.stop(now=bool(arguments.get("now", False)))}


def _release(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    return _told("released", federation.release(targets(federation, arguments)))


def _remove(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    timeout = arguments.get("timeout", 60.0 if wait else 0.0)
    keep = bool(arguments.get("keep_state"))
    return _told("removed", federation.remove_nodes(targets(federation, arguments), keep_state=keep, timeout=timeout))


def _move(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    bundle = int(arguments["bundle"])
    report = federation.move(targets(federation, arguments), bundle, timeout=arguments.get("timeout", 120.0))
    return {"text": f"moved to bundle {bundle}: {report}", "report": report_to_wire(report)}


def _topology(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    if arguments.get("rule") is not None:
        rule = dict(arguments["rule"])
        return {"text": f"the topology is {federation.set_topology(rule.pop('name', None), **rule)}"}
    return {"text": str(federation.topology), "rule": federation.topology.rule.to_wire()}


def _grow(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    made = federation.add_bundles(int(arguments.get("count", 1)), dict(arguments.get("resources") or {"CPU": 1.0}))
    return {"text": f"the pool has bundles {made[0]} to {made[-1]} more", "bundles": made}


def _shrink(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    gone = federation.remove_bundles()
    return {"text": f"bundles {gone[0]} to {gone[-1]} are given back", "bundles": gone}


def _release_bundles(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    report = federation.release_bundles()
    text = f"{len(report)} nodes are released and all bundles are given back; the next build reserves them again"
    return {"text": text, "done": list(report.done), "refused": dict(report.refused)}


def _told(what: str, report: NodeReport) -> dict[str, Any]:
    if not report.done and report.refused:
        node_id, why = next(iter(report.refused.items()))
        raise CommandRefused(f"{node_id} {why}")
    text = f"{report.done[0] if len(report) == 1 else len(report)} {what}"
    if report.refused:
        node_id, why = next(iter(report.refused.items()))
        text += f", {len(report.refused)} not ({node_id} {why})"
    return {"text": text, "done": list(report.done), "refused": dict(report.refused)}


def _rebuild(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    if arguments.get("ids") is None and not arguments.get("query"):
        failed = [node.id for node in federation.select("state:failed or (id:server state:failed)")]
        if not failed:
            raise NothingToDo("no node has failed: there is nothing to rebuild")
        arguments = {"ids": failed}
    report = federation.rebuild(targets(federation, arguments), wait=wait, timeout=arguments.get("timeout"))
    if not (report.built or report.waiting or report.failed) and report.left_out:
        node_id, why = next(iter(report.left_out.items()))
        raise CommandRefused(why if why.startswith("node ") else f"{node_id} {why}")
    return {"text": "re" + _started(report, wait), "report": report_to_wire(report)}


def _add(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    added = federation.add_nodes(arguments.get("count"), arguments.get("role", "train"), ids=arguments.get("ids"))
    names = added[0].id if len(added) == 1 else f"{added[0].id} to {added[len(added) - 1].id}"
    return {"text": f"added {names}", "ids": added.ids}


def _plan(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    plan = federation.plan(targets(federation, arguments, "state:virtual or state:released"))
    left = len(plan.left_out)
    text = f"{len(plan)} nodes would be built" + (f", {left} {'is' if left == 1 else 'are'} left out" if left else "")
    return {"text": text, "table": str(plan), **plan.to_wire(arguments.get("most", SHOWN))}


def _describe(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    description = federation.describe()
    return {"text": description.summary, "table": str(description), **description.to_wire()}


def _select(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    found = federation.select(arguments.get("query"))
    return {"text": f"{len(found)} nodes", "ids": found.ids}


def _explain(federation: FederatedBase, arguments: Arguments, wait: bool) -> dict[str, Any]:
    node = targets(federation, {"ids": [arguments["id"]]})[0]
    told = federation.explain(node.id)
    return {
        "text": f"{node.id}: {told.why}" + (f"; {told.advice}" if told.advice else ""),
        **told.to_wire(),
        "state": str(node.state),
        "table": str(told),
    }


VERBS: dict[str, Verb] = {
    "build": _build,
    "wave": _wave,
    "round": _round,
    "run": _run,
    "set": _set,
    "history": _history,
    "spread": _spread,
    "stop": _stop,
    "release": _release,
    "remove": _remove,
    "rebuild": _rebuild,
    "move": _move,
    "topology": _topology,
    "grow": _grow,
    "shrink": _shrink,
    "release_bundles": _release_bundles,
    "add": _add,
    "plan": _plan,
    "select": _select,
    "explain": _explain,
    "describe": _describe,
    "train": _train,
    "stop_session": _stop_session,
    "test": _test,
    "send": _send,
    "pull_version": _pull_version,
    "graph": _graph,
    "traffic": _traffic,
}


def report_to_wire(report: BuildReport) -> dict[str, Any]:
    """A build report as plain data."""
    return {
        "built": list(report.built),
        "failed": {name: [failure.why, failure.traceback] for name, failure in report.failed.items()},
        "waiting": list(report.waiting),
        "left_out": {name: report.left_out[name] for name in itertools.islice(report.left_out, SHOWN)},
        "left_out_count": len(report.left_out),
        "seconds": report.seconds,
        "already": list(report.already),
    }
