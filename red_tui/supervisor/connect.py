"""Finding a cluster and connecting this process to it, with a clear error instead of a long silence."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_tui import checks
from red_tui.errors import CommandRefused, NotConnected
from red_tui.placement.local_ray import is_own, loopback_only, noted_ray, use_local_addresses
from red_tui.plain_text import one_line
from red_tui.state_folder import user_name
from red_tui.supervisor.cluster_probe import probe, refused, short_patience
from red_tui.supervisor.local_cluster import (
    ClusterFile,
    Step,
    credentials,
    require_open_files,
    running_cluster,
    speaks_grpc,
    start_cluster,
)
from red_tui.supervisor.working_folder import WorkingFolder

PROBE_TIMEOUT = 5.0


@dataclass(frozen=True)
class ClusterConnection:
    """Where this process is connected."""

    address: str
    embedded: bool


def connect(
    address: str | None = None,
    *,
    namespace: str = "red",
    working_dir: Path | None = None,
    start: bool = True,
    cpus: int | None = None,
    step: Step | None = None,
) -> ClusterConnection:
    """Connect to a cluster: the given address, else `RAY_ADDRESS`, else one that runs here, else an embedded one.

    Args:
        address: `HOST:PORT` of a cluster's control service; `auto` looks for one on this machine.
        namespace: Ray namespace.
        working_dir: A folder whose modules travel to the cluster with what this process starts.
        start: Whether an embedded cluster may be started where none is found.
        cpus: Logical CPUs of an embedded cluster that is started.
        step: Told of what takes time.

    Raises:
        LayoutError: If `working_dir` cannot travel.
        NotConnected: Within 10 s if nothing answers at an address that was given; else if there is no cluster.
    """
    if address is not None:
        checks.text(address, "address", refusal=CommandRefused)
    checks.text(namespace, "namespace", refusal=CommandRefused)
    checks.whole(cpus, "cpus", least=1, none="as many as the machine has", refusal=CommandRefused)
    tell = step or (lambda key, text, state: None)
    require_open_files()
    travelling = WorkingFolder(working_dir) if working_dir is not None else None
    if travelling is not None and travelling.odd:
        left = ", ".join(travelling.odd[:3]) + (", …" if len(travelling.odd) > 3 else "")
        tell("folder", f"left behind, as no file to travel: {one_line(left)}", "done")
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    embedded: ClusterFile | None = None
    if address is None and (here := _connected_to()):
        # Looking for another one, or starting it, could only end in a refusal.
        known = running_cluster() if _noted_address() == here else None
        _init(here, namespace, travelling)
        return ClusterConnection(here, known is not None)
    if wanted in (None, "auto", "local"):
        embedded = running_cluster()
        found = embedded.address if embedded else _running_here()
        if found is None:
            other = stranger()
            if not start or wanted == "auto":
                raise NotConnected(
                    "no Ray cluster runs on this machine: start one with `red-console` or `red-console up LAYOUT`, or"
                    f" name one with --address HOST:PORT{other and '; '}{other}",
                    address=wanted or "",
                )
            if other:
                tell("stranger", other, "done")
            embedded = start_cluster(cpus, step=step)
            found = embedded.address
        wanted = found
    else:
        assert wanted is not None
        known = running_cluster() if _noted_address() == wanted else None
        embedded = known
        if "://" in wanted:
            raise NotConnected(
                f"{wanted}: name the cluster by its control service, HOST:PORT (6379 by default); Ray Client addresses"
                " cannot hold a federation's handles",
                address=wanted,
            )
        tell("connect", f"asking {wanted}", "running")
        why = speaks_grpc(wanted, PROBE_TIMEOUT)
        if why:
            tell("connect", f"asking {wanted}", "failed")
            raise NotConnected(
                f"no Ray cluster answers at {wanted}: {why}; check the address and that the cluster is up"
                " (`ray status` on its head), or leave --address away",
                address=wanted,
            )
        if embedded is None and not is_own(wanted):
            probe(wanted)
    tell("connect", f"connecting to {wanted}", "running")
    if embedded is not None:
        credentials(embedded)
    _init(wanted, namespace, travelling)
    tell("connect", f"connecting to {wanted}", "done")
    return ClusterConnection(wanted, embedded is not None)


def address_of(address: str | None = None) -> str | None:
    """Address of the cluster that `connect` would take for this one, starting none; None if there is none.

    Args:
        address: As `connect` takes it.
    """
    if address is None and (here := _connected_to()):
        return here
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted not in (None, "auto", "local"):
        return wanted
    embedded = running_cluster()
    return embedded.address if embedded else _running_here()


def _connected_to() -> str | None:
    """Address of the cluster that this process is connected to already."""
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().gcs_address) if ray is not None and ray.is_initialized() else None


def _noted_address() -> str | None:
    from red_tui.supervisor.local_cluster import read_cluster

    noted = read_cluster()
    return noted.address if noted else None


def _running_here() -> str | None:
    """Address of a Ray that this user started on this machine by other means, if it answers."""
    noted = noted_ray()
    return noted.address if noted is not None and noted.own and not speaks_grpc(noted.address, PROBE_TIMEOUT) else None


def stranger() -> str:
    """What is said of a Ray on this machine that is another user's, or whose note is; nothing if there is none."""
    noted = noted_ray()
    if noted is None or noted.own or speaks_grpc(noted.address, PROBE_TIMEOUT):
        return ""
    if noted.owner == os.geteuid():
        return f"the Ray at {noted.address} is not this user's and left alone: --address {noted.address} would use it"
    return (
        f"the Ray at {noted.address}, which {user_name(noted.owner)} noted in {noted.note}, is left alone:"
        f" --address {noted.address} would use it, and let whoever runs it run code as you"
    )


def _init(address: str, namespace: str, travelling: WorkingFolder | None) -> None:
    import ray

    if ray.is_initialized():
        if ray.get_runtime_context().gcs_address == address:
            return
        raise NotConnected(
            f"this process is connected to {ray.get_runtime_context().gcs_address} already: call ray.shutdown() first",
            address=address,
        )
    use_local_addresses(loopback_only(address))
    options: dict[str, Any] = {}
    if travelling is not None:
        options["runtime_env"] = {"working_dir": str(travelling.folder), "excludes": travelling.excludes}
    try:
        with short_patience():
            ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level="ERROR", **options)
    except Exception as error:
        raise refused(address, str(error)) from error
