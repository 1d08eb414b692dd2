"""Launch a federation in the cluster, attach to one, list them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from red_tui.errors import NameTaken, NotConnected, RedError, from_wire
from red_tui.federation.layouts import working_dir_of as working_dir_of
from red_tui.layout import Layout, load, loads, resolve
from red_tui.nodes.process import NAMESPACE
from red_tui.supervisor.client import Client, whoami
from red_tui.supervisor.cluster import Step
from red_tui.supervisor.connect import Connection, connect
from red_tui.supervisor.registry import SUPERVISOR, listed, supervisor_of

START_TIMEOUT = 60.0


def launch(
    layout: str | Path,
    address: str | None = None,
    *,
    namespace: str = NAMESPACE,
    working_dir: str | None = None,
    cpus: int | None = None,
    step: Step | None = None,
) -> Client:
    """Start the federation of a layout in a cluster.  It outlives this process.

    Args:
        layout: Path of a layout, or the name of one that red-tui ships.
        address: Cluster, `HOST:PORT`; None: `RAY_ADDRESS`, else one that runs here, else an embedded one.
        namespace: Ray namespace of the federation's actors.
        working_dir: Folder whose modules travel to the cluster; None: the layout's, if it holds Python files.
        cpus: Logical CPUs of an embedded cluster that is started.
        step: Told of what takes time.

    Raises:
        LayoutError: With file, line, column and field.
        NotConnected: If there is no cluster to be had.
        NameTaken: If a federation of this id runs there.
    """
    path = resolve(layout)
    parsed = load(path)
    connection = connect(
        address,
        namespace=namespace,
        working_dir=working_dir_of(path, working_dir),
        cpus=cpus,
        step=step,
    )
    return start_supervisor(parsed, path, connection, namespace=namespace, step=step)


def start_supervisor(
    parsed: Layout, path: Path, connection: Connection, *, namespace: str = NAMESPACE, step: Step | None = None
) -> Client:
    """Start a federation's supervisor on the cluster that this process is connected to.

    Raises:
        NameTaken: If a federation of this id runs there; it says in what the layouts differ.
        RedError: What the supervisor refused to start with.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from red_tui.supervisor.actor import COMMANDERS, WATCHERS, Supervisor

    tell = step or (lambda key, text, state: None)
    fed_id, text = parsed.federation, path.read_text(encoding="utf-8")
    tell("launch", f"launching {fed_id}", "running")
    refuse_taken(parsed, namespace)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0, max_concurrency=COMMANDERS, concurrency_groups={"watch": WATCHERS})(Supervisor)
    try:
        handle = actor.options(
            name=f"{fed_id}/{SUPERVISOR}",
            namespace=namespace,
            lifetime="detached",
            scheduling_strategy=here,
        ).remote(fed_id)
    except ray.exceptions.ActorAlreadyExistsError:
        refuse_taken(parsed, namespace)
        raise NameTaken(
            f"federation {fed_id!r} has just been launched by somebody else: attach to it",
            name=fed_id,
            holder="another client",
        ) from None
    facts = {"address": connection.address, "embedded": connection.embedded}
    try:
        answer = ray.get(handle.start.remote(text, str(path), facts, whoami(), namespace), timeout=START_TIMEOUT)
    except BaseException as error:
        with contextlib.suppress(Exception):
            ray.kill(handle, no_restart=True)
        tell("launch", f"launching {fed_id}", "failed")
        if isinstance(error, (ray.exceptions.RayError, TimeoutError)):
            raise RedError(
                f"the supervisor of {fed_id!r} did not start: {str(error).strip()[-600:]}; is red-tui installed on"
                " every host of the cluster?"
            ) from error
        raise
    if "error" in answer:
        ray.kill(handle, no_restart=True)
        tell("launch", f"launching {fed_id}", "failed")
        raise from_wire(answer["error"])
    tell("launch", f"launching {fed_id}", "done")
    return Client(handle, fed_id, namespace=namespace)


def refuse_taken(parsed: Layout, namespace: str) -> None:
    """Raise NameTaken if a federation of a layout's id is on the cluster."""
    fed_id = parsed.federation
    same = next((row for row in listed(namespace) if row["id"] == fed_id), None)
    if same is None:
        return
    if same["orphan"]:
        raise NameTaken(
            f"a federation {fed_id!r} that has lost its supervisor is on this cluster"
            f" (left: {', '.join(same['alive'][:4]) or 'its bundles'}): end it with `red-console down {fed_id}`",
            name=fed_id,
            holder="an orphan",
        )
    differs = differences(parsed, namespace)
    how = f"another layout ({'; '.join(differs[:3])})" if differs else "the same layout"
    raise NameTaken(
        f"federation {fed_id!r} runs already, of {how}: attach to it with `red-console {fed_id}`, end it with"
        f" `red-console down {fed_id}`, or give this layout another federation id",
        name=fed_id,
        holder=f"a federation of {same['nodes']} nodes, {same['state']}",
    )


def differences(parsed: Layout, namespace: str) -> list[str]:
    """In what a layout differs from that of the running federation of the same id; empty for nothing."""
    running = attach(parsed.federation, namespace=namespace, connected=True).status()
    if running["digest"] == parsed.digest():
        return []
    return loads(running["layout"], running["layout_path"]).differences(parsed)


def attach(
    fed_id: str,
    address: str | None = None,
    *,
    namespace: str = NAMESPACE,
    read_only: bool = False,
    connected: bool = False,
    step: Step | None = None,
) -> Client:
    """A client of a federation that runs in the cluster.

    Raises:
        NotConnected: If there is no cluster, no such federation, or only an orphan of one.
    """
    if not connected:
        connect(address, namespace=namespace, start=False, step=step)
    handle = supervisor_of(fed_id, namespace)
    if handle is None:
        rows = listed(namespace)
        if any(row["id"] == fed_id for row in rows):
            raise NotConnected(
                f"federation {fed_id!r} has lost its supervisor: end what is left with `red-console down {fed_id}`",
                address=address or "",
            )
        names = ", ".join(row["id"] for row in rows) or "none"
        raise NotConnected(
            f"no federation {fed_id!r} runs on this cluster (there: {names}): launch it with `red-console up LAYOUT`",
            address=address or "",
        )
    return Client(handle, fed_id, namespace=namespace, read_only=read_only)


def federations(address: str | None = None, *, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """What runs on the cluster, orphans included: id, state, age_s, nodes, round, orphan, alive.

    Raises:
        NotConnected: If there is no cluster.
    """
    connect(address, namespace=namespace, start=False)
    return listed(namespace)
