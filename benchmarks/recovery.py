"""How soon a death is noticed, and how soon a killed supervisor answers again, against raw Ray actors."""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray

import red_tui as red
from benchmarks.measuring import cluster

TIMES = 7


class Idle(red.FederatedNode):
    """Does nothing."""


class Raw:
    """An actor with a lifeline, and nothing else."""

    def pid(self) -> int:
        return os.getpid()

    def lifeline(self) -> None:
        threading.Event().wait()


def run() -> list[dict[str, Any]]:
    before = os.environ.get("RED_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["RED_HOME"] = home
        try:
            with cluster(16):
                return [*deaths(), supervisor(Path(home))]
        finally:
            os.environ.pop("RED_HOME") if before is None else os.environ.update(RED_HOME=before)


def deaths() -> list[dict[str, Any]]:
    """From SIGKILL to the event, in both isolations."""
    raw = []
    for _ in range(TIMES):
        actor = ray.remote(num_cpus=0.1, max_concurrency=2)(Raw).remote()
        lifeline, pid = actor.lifeline.remote(), ray.get(actor.pid.remote())
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        ray.wait([lifeline])
        raw.append(time.perf_counter() - began)
    results = []
    for isolation in ("process", "bundle"):
        group = red.get_resources_split(2, 2)
        config = red.FederationConfig(federation_id=f"deaths-{isolation}")
        with red.StarFederatedLearningSchema(
            Idle, ["train"] * 2, config, resources=group, isolation=isolation
        ) as federation:
            ours = []
            for _ in range(TIMES):
                federation.rebuild("client_0") if ours else federation.build("client_0")
                pid = ray.get(federation["client_0"].handle.red_detail.remote())["pid"]
                began = time.perf_counter()
                os.kill(pid, signal.SIGKILL)
                with federation._state.changed:
                    federation._state.changed.wait_for(lambda: str(federation["client_0"].state) == "failed", 30)
                ours.append(time.perf_counter() - began)
        ray.util.remove_placement_group(group)
        mine, base = statistics.median(ours), statistics.median(raw)
        results.append(
            {
                "what": f"SIGKILL to the event, {isolation} : a raw lifeline",
                "figure": f"{mine / base:.2f} × ({mine * 1e3:.0f} ms : {base * 1e3:.0f} ms)",
                "goal": "≤ 1 s",
                "reached": mine <= 1.0,
                "ratio": mine / base,
            }
        )
    return results


def supervisor(home: Path) -> dict[str, Any]:
    """From SIGKILL of the supervisor to its first answer, against a bare actor that Ray restarts."""
    layout = home / "bench.yaml"
    layout.write_text(
        "federation: bench\ntemplate: red_tui.examples.digits:DigitsClient\n"
        "nodes: [{count: 10000, role: train}]\nplacement: {isolation: bundle, cpus: 2, bundles: 2}\n"
        "rounds: {fraction: 0.01}\n"
    )
    client = red.launch(layout, address=ray.get_runtime_context().gcs_address, namespace="bench")
    client.run(3)
    actor = ray.remote(num_cpus=0, max_restarts=-1)(Raw).remote()

    def back(pid: int, call: Any) -> float:
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while True:
            try:
                call()
                return time.perf_counter() - began
            except (ray.exceptions.RayError, red.NotConnected):
                time.sleep(0.02)

    ours, theirs = [], []
    for _ in range(3):
        theirs.append(back(ray.get(actor.pid.remote()), lambda: ray.get(actor.pid.remote())))
        ours.append(back(client.status()["pid"], client.status))
    assert client.run(1)[-1].number == 4
    client.down()
    mine, base = statistics.median(ours), statistics.median(theirs)
    return {
        "what": "a killed supervisor of 10,000 nodes answers again : a bare actor",
        "figure": f"{mine / base:.2f} × ({mine:.2f} s : {base:.2f} s)",
        "goal": "–",
        "reached": None,
        "ratio": mine / base,
    }
