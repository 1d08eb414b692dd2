"""Launch a federation in the cluster, attach to one, list them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from red_tui import checks
from red_tui.checkpoints.sources import find_checkpoint
from red_tui.errors import CommandRefused, NameTaken, NotConnected, RedError, from_wire
from red_tui.federation.schemas import check_start, working_dir_of as working_dir_of
from red_tui.journal.launch_record import LaunchRecord
from red_tui.layout import Layout, load, loads, refuse_contradictions, resolve
from red_tui.nodes.ids import check_id
from red_tui.runtime.node_actor import NAMESPACE
from red_tui.state_folder import federation_folder, operator_name
from red_tui.supervisor.client import Client
from red_tui.supervisor.connect import ClusterConnection, connect
from red_tui.supervisor.local_cluster import Step
from red_tui.supervisor.registry import SUPERVISOR, end_begun, listed, supervisor_of, wait_until_gone
from red_tui.supervisor.working_folder import WorkingFolder

START_TIMEOUT = 120.0
WITHDRAW_TIMEOUT = 30.0
"""Seconds for the end of a supervisor that did not start."""


def launch(
    layout: str | Path,
    address: str | None = None,
    *,
    namespace: str = NAMESPACE,
    working_dir: str | None = None,
    cpus: int | None = None,
    resume: bool = False,
    start_from: str | None = None,
    step: Step | None = None,
) -> Client:
    """Start the federation of a layout in a cluster.  It outlives this process.

    Args:
        layout: Path of a layout, or the name of one that red-tui ships.
        address: Cluster, `HOST:PORT`; None: `RAY_ADDRESS`, else one that runs here, else an embedded one.
        namespace: Ray namespace of the federation's actors.
        working_dir: Folder whose modules travel to the cluster; None: the layout's, if it holds Python files.
        cpus: Logical CPUs of an embedded cluster that is started.
        resume: Go on from the journal and the last good checkpoint of the federation of this id, if it was launched
            from here before; see `adopt`.
        start_from: Parameters to start from, in place of the layout's: a safetensors file, `FEDERATION@best`,
            `FEDERATION@last`, or `FEDERATION@12` for round 12.
        step: Told of what takes time.

    Raises:
        CheckpointError: If there are no such parameters.
        LayoutError: With file, line, column and field.
        NotConnected: If there is no cluster to be had.
        NameTaken: If a federation of this id runs there.
    """
    checks.flag(resume, "resume", refusal=CommandRefused)
    path = resolve(layout)
    parsed, text = started_from(path, start_from)
    if resume and start_from is not None:
        raise CommandRefused(
            "resume goes on from the federation's own checkpoint, and start_from begins a new one: give one of them"
        )
    check_files(parsed.federation)
    if resume:
        check_same_layout(parsed)
    else:
        refuse_contradictions(parsed, str(path))
        check_start(parsed, str(path))
    connection = connect(
        address,
        namespace=namespace,
        working_dir=working_folder(parsed, path, working_dir),
        cpus=cpus,
        step=step,
    )
    _check_cpus(cpus)
    if resume:
        return adopt(parsed.federation, namespace=namespace, connected=True, step=step)
    return start_supervisor(parsed, path, connection, namespace=namespace, step=step, text=text)


def started_from(path: Path, start_from: str | None) -> tuple[Layout, str]:
    """A layout and its text, with where it starts from, if that is given.

    Raises:
        CheckpointError: If there are no such parameters.
    """
    parsed, text = load(path), path.read_text(encoding="utf-8")
    if start_from is None:
        return parsed, text
    found = find_checkpoint(checks.text(start_from, "start_from", refusal=CommandRefused))
    # A relative file is meant from here, and one in a layout from the layout's folder.
    source = str(found.absolute()) if Path(start_from).expanduser().is_file() else start_from
    changed = parsed.model_copy(update={"start_from": source})
    return changed, changed.to_yaml()


def _check_cpus(cpus: int | None) -> None:
    """Raise CommandRefused if the cluster runs with another number of CPUs than was asked for."""
    if cpus is None:
        return
    import ray

    found = ray.cluster_resources().get("CPU", 0.0)
    if found != cpus:
        raise CommandRefused(
            f"cpus={cpus} is for a local Ray that has to be started, and this cluster runs already with {found:g} CPUs:"
            " leave cpus out (--cpus), or end the cluster first (red-console down --all)"
        )


def check_files(fed_id: str) -> None:
    """Raise StateFolderError if files of a federation are not this user's alone: before anything is started."""
    with contextlib.suppress(OSError):  # a disk that cannot be written is told of by the federation, which runs
        federation_folder(fed_id)


def working_folder(parsed: Layout, path: Path, given: str | None) -> Path | None:
    """The folder that travels with a layout, once it is seen that its modules do.

    Raises:
        LayoutError: If the folder cannot travel, or an ignore file keeps back a module that the layout needs.
    """
    folder = working_dir_of(path, given)
    if folder is not None:
        WorkingFolder(folder).refuse_ignored(parsed, str(path))
    return folder


def check_same_layout(parsed: Layout) -> None:
    """Raise RedError unless a federation of this id was launched before, with this layout."""
    record = LaunchRecord.read(federation_folder(parsed.federation))
    differs = loads(record.layout, record.path).differences(parsed)
    if differs:
        raise RedError(
            f"federation {parsed.federation!r} was launched with another layout ({'; '.join(differs[:3])}): resume it"
            f" with `red-console adopt {parsed.federation}`, or launch this one anew without --resume"
        )


def start_supervisor(
    parsed: Layout,
    path: Path,
    connection: ClusterConnection,
    *,
    namespace: str = NAMESPACE,
    step: Step | None = None,
    text: str | None = None,
) -> Client:
    """Start a federation's supervisor on the cluster that this process is connected to.

    Raises:
        NameTaken: If a federation of this id runs there; it says in what the layouts differ.
        RedError: What the supervisor refused to start with.
    """
    tell = step or (lambda key, text, state: None)
    fed_id, text = parsed.federation, path.read_text(encoding="utf-8") if text is None else text
    tell("launch", f"launching {fed_id}", "running")
    refuse_taken(parsed, namespace)
    facts = {"address": connection.address, "embedded": connection.embedded}

    def start(handle: Any) -> Any:
        return handle.start.remote(text, str(path.resolve()), facts, operator_name(), namespace)

    try:
        return _started(
            fed_id,
            namespace,
            start,
            taken=lambda: refuse_taken(parsed, namespace),
            withdraw=lambda: end_begun(fed_id, namespace),
            done=lambda: tell("launch", f"launching {fed_id}", "done"),
        )
    except BaseException:
        tell("launch", f"launching {fed_id}", "failed")
        raise


def _started(
    fed_id: str,
    namespace: str,
    start: Callable[[Any], Any],
    *,
    taken: Callable[[], None],
    withdraw: Callable[[], None],
    done: Callable[[], None],
) -> Client:
    """Make the supervisor actor of a federation and let it start.

    Ray starts it anew whenever its process ends: it then takes the federation up again by itself.

    Args:
        fed_id: Id of the federation.
        namespace: Ray namespace of its actors.
        start: Calls what the supervisor begins with; gives the reference to its answer.
        taken: Raises NameTaken with what is known of the federation that has the name.
        withdraw: Ends what was begun; called once the supervisor is killed, if it did not start or this is interrupted.
        done: Told as soon as it runs.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from red_tui.supervisor.supervisor_actor import COMMANDERS, WATCHERS, Supervisor

    # Its files are on this host: where the host is gone nobody can go on from them, and Ray does not try elsewhere.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_concurrency=COMMANDERS, concurrency_groups={"watch": WATCHERS})(Supervisor)

    def create() -> Any:
        return actor.options(
            name=f"{fed_id}/{SUPERVISOR}",
            namespace=namespace,
            lifetime="detached",
            max_restarts=-1,
            scheduling_strategy=here,
        ).remote(fed_id)

    # In a thread of its own, as Ctrl+C may interrupt any line of this one: what was created is known in any case.
    creating = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="red-launch").submit(create)
    try:
        answer = ray.get(start(creating.result()), timeout=START_TIMEOUT)
        if "error" in answer:
            raise from_wire(answer["error"])
        client = Client(creating.result(), fed_id, namespace=namespace)
        done()
        return client
    except ray.exceptions.ActorAlreadyExistsError:
        taken()
        raise NameTaken(
            f"federation {fed_id!r} has just been launched by somebody else: attach to it",
            name=fed_id,
            holder="another client",
        ) from None
    except BaseException as error:
        with contextlib.suppress(Exception):
            ray.kill(creating.result(START_TIMEOUT), no_restart=True)
            withdraw()
        if isinstance(error, (ray.exceptions.RayError, TimeoutError)):
            raise RedError(
                f"the supervisor of {fed_id!r} did not start: {str(error).strip()[-600:]}; is red-tui installed on"
                " every host of the cluster?"
            ) from error
        raise


def adopt(
    fed_id: str,
    address: str | None = None,
    *,
    namespace: str = NAMESPACE,
    cpus: int | None = None,
    connected: bool = False,
    step: Step | None = None,
) -> Client:
    """Give a federation that has lost its supervisor a new one, which goes on from its journal and checkpoints.

    What still lives of it is taken over by name; where nothing does (the cluster was restarted), its nodes are
    virtual again and its rounds go on from the last good checkpoint.

    Args:
        fed_id: Id of the federation; its files lie on this host.
        address: Cluster, `HOST:PORT`; None: `RAY_ADDRESS`, else one that runs here, else an embedded one.
        namespace: Ray namespace of the federation's actors.
        cpus: Logical CPUs of an embedded cluster that is started.
        connected: This process is connected to the cluster already.
        step: Told of what takes time.

    Returns:
        A client of it.

    Raises:
        NotConnected: If there is no cluster.
        NameTaken: If it has a supervisor.
        RedError: If its files are not on this host, or cannot be read.
    """
    check_id(fed_id, "federation id")
    tell = step or (lambda key, text, state: None)
    record = LaunchRecord.read(federation_folder(fed_id))
    if not connected:
        given = working_dir_of(Path(record.path), None)
        connect(address, namespace=namespace, working_dir=given, cpus=cpus, step=step)
        _check_cpus(cpus)
    if supervisor_of(fed_id, namespace) is not None:
        raise NameTaken(
            f"federation {fed_id!r} has a supervisor: attach to it with `red-console {fed_id}`",
            name=fed_id,
            holder="its supervisor",
        )
    tell("adopt", f"taking {fed_id} up again", "running")
    try:
        return _started(
            fed_id,
            namespace,
            lambda handle: handle.take_up.remote(operator_name()),
            taken=lambda: None,
            # What lives of the federation stays: it can be taken up again.
            withdraw=lambda: wait_until_gone(fed_id, time.monotonic() + WITHDRAW_TIMEOUT, namespace, (SUPERVISOR,)),
            done=lambda: tell("adopt", f"taking {fed_id} up again", "done"),
        )
    except BaseException:
        tell("adopt", f"taking {fed_id} up again", "failed")
        raise


def refuse_taken(parsed: Layout, namespace: str) -> None:
    """Raise NameTaken if a federation of a layout's id is on the cluster."""
    fed_id = parsed.federation
    same = next((row for row in listed(namespace) if row["id"] == fed_id), None)
    if same is None:
        return
    if same["orphan"]:
        raise NameTaken(
            f"a federation {fed_id!r} that has lost its supervisor is on this cluster"
            f" (left: {', '.join(same['alive'][:4]) or 'its bundles'}): go on with it with"
            f" `red-console adopt {fed_id}`, or end it with `red-console down {fed_id}`",
            name=fed_id,
            holder="an orphan",
        )
    try:
        differs = differences(parsed, namespace)
    except NotConnected:
        if any(row["id"] == fed_id for row in listed(namespace)):
            raise
        return  # it could not be started, or has just been ended: the name is free
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
    """Give a client of a federation that runs in the cluster.

    Args:
        fed_id: Id of the federation.
        address: Cluster, `HOST:PORT`; None: `RAY_ADDRESS`, else one that runs here.
        namespace: Ray namespace of the federation's actors.
        read_only: Refuse what changes the federation, here and in the supervisor.
        connected: This process is connected to the cluster already.
        step: Told of what takes time.

    Returns:
        The client.

    Raises:
        NotConnected: If there is no cluster, no such federation, or only an orphan of one.
    """
    check_id(fed_id, "federation id")
    if not connected:
        connect(address, namespace=namespace, start=False, step=step)
    handle = supervisor_of(fed_id, namespace)
    if handle is None:
        rows = listed(namespace)
        if any(row["id"] == fed_id for row in rows):
            raise NotConnected(
                f"federation {fed_id!r} has lost its supervisor: give it a new one with `red-console adopt {fed_id}`,"
                f" or end what is left with `red-console down {fed_id}`",
                address=address or "",
            )
        names = ", ".join(row["id"] for row in rows) or "none"
        raise NotConnected(
            f"no federation {fed_id!r} runs on this cluster (there: {names}): launch it with `red-console up LAYOUT`",
            address=address or "",
        )
    return Client(handle, fed_id, namespace=namespace, read_only=read_only)


def federations(address: str | None = None, *, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """List what runs on the cluster, orphans included.

    Args:
        address: Cluster, `HOST:PORT`; None: `RAY_ADDRESS`, else one that runs here.
        namespace: Ray namespace of the federations' actors.

    Returns:
        For each federation `id`, `state`, `age_s` (seconds), `nodes`, `round`, `orphan`, and `alive`: names of actors.

    Raises:
        NotConnected: If there is no cluster.
    """
    connect(address, namespace=namespace, start=False)
    return listed(namespace)
