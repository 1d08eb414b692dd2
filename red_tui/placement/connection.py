"""The driver's connection to Ray."""

from __future__ import annotations

import atexit
import os
import shutil
import time
from pathlib import Path
from typing import Any

from red_tui.errors import NotConnected
from red_tui.placement.local_ray import noted_ray, ray_folder
from red_tui.placement.short_folders import make_short_folder, sockets_fit

REMOVAL_TIMEOUT = 5.0


def connection_id() -> str:
    """What tells this process's connection to Ray from an earlier or a later one; empty without a connection."""
    import ray

    if not ray.is_initialized():
        return ""
    context = ray.get_runtime_context()
    return f"{context.gcs_address} {context.get_job_id()}"


def ensure_ray() -> None:
    """Connect this process to Ray unless it is: `RAY_ADDRESS`, else one's own running cluster, else a new one.

    Scripts that want another cluster call `ray.init` themselves beforehand.

    Raises:
        NotConnected: If `RAY_ADDRESS` is `auto`, and no cluster of this user runs here.
    """
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(namespace="red", log_to_driver=False, logging_level="ERROR", include_dashboard=False, **_where())


def _where() -> dict[str, Any]:
    """What `ray.init` is told of the cluster; Ray by itself would take anybody's that is noted on this machine."""
    named = os.environ.get("RAY_ADDRESS") or ""
    if named not in ("", "auto", "local"):
        return {}
    noted = None if named == "local" else noted_ray()
    if noted is not None and noted.own:
        return {"address": noted.address}
    if named == "auto":
        raise NotConnected(
            "RAY_ADDRESS is auto, and no Ray cluster of yours runs on this machine: start one with `ray start --head`,"
            " or name one with RAY_ADDRESS=HOST:PORT",
            address=named,
        )
    options: dict[str, Any] = {"address": "local"}
    if not sockets_fit(ray_folder()):
        folder = make_short_folder("red-ray-", "r")
        options["_temp_dir"] = str(folder / "r")
        atexit.register(_end_and_remove, os.getpid(), folder)
    return options


def _end_and_remove(pid: int, folder: Path) -> None:
    """End this process's Ray and remove its folder, in the process that made it and not in what was forked from it."""
    if os.getpid() != pid:
        return
    import ray

    ray.shutdown()
    # Workers that are still ending may write to their logs meanwhile.
    give_up = time.monotonic() + REMOVAL_TIMEOUT
    while folder.exists() and time.monotonic() < give_up:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
