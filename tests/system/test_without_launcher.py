"""A federation whose launcher has gone: rounds need no new processes, whoever starts them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil

import red_tui
from tests.system.support import Home, cluster_processes, eventually, write_layout

ADDS = """\
import numpy as np
import red_tui as red


class Adds(red.FederatedNode):
    def initial_parameters(self):
        return {"w": np.zeros(3)}

    def fit(self, parameters, config):
        return red.FitResult({"w": parameters["w"] + 1.0}, 1)

    def evaluate(self, parameters, config):
        return red.EvaluateResult(1.0 / (1.0 + float(parameters["w"][0])), 1, {})
"""

ROUNDS = 40


def worker_logs(cluster: Home) -> set[str]:
    """Log files of worker processes, those of processes that have ended too."""
    assert cluster.noted is not None
    return {path.name for path in Path(cluster.noted["folder"]).rglob("logs/worker-*.out")}


def checkpoint_writers(cluster: Home) -> list[psutil.Process]:
    """Those of this cluster: other tests run at the same time, in clusters of their own."""
    found = []
    for process in cluster_processes(cluster):
        with contextlib.suppress(psutil.Error):
            if any("CheckpointWriter" in part for part in process.cmdline()):
                found.append(process)
    return found


def test_rounds_after_the_launcher_left_are_saved_by_one_process_which_is_replaced_when_it_dies(
    cluster: Home, fed_id: str, tmp_path: Path
) -> None:
    path = write_layout(tmp_path / "layout.yaml", fed_id, template="adding_nodes:Adds")
    path.with_name("adding_nodes.py").write_text(ADDS)
    up = cluster.red("up", str(path))
    assert up.code == 0, up.err
    client = red_tui.attach(fed_id, connected=True)
    try:
        others = {process.pid for process in checkpoint_writers(cluster)}
        client.run(3)  # its nodes are built and its server is up
        before = worker_logs(cluster)
        assert before
        client.run(ROUNDS)
        assert len(worker_logs(cluster) - before) <= 1, "rounds start processes"  # Ray itself may keep one in reserve
        (writer,) = [process for process in checkpoint_writers(cluster) if process.pid not in others]
        assert client.events(limit=10_000) and not troubles(client)

        os.kill(writer.pid, signal.SIGKILL)
        client.run(2)
        assert not troubles(client)
        saved = sorted(one.name for one in Path(client.status()["journal"]).parent.glob("checkpoints/*"))
        assert saved == [f"round-{number:06d}.safetensors" for number in range(ROUNDS + 3, ROUNDS + 6)]
        (writer,) = [process for process in checkpoint_writers(cluster) if process.pid not in others]
    finally:
        client.down()
    eventually(lambda: not writer.is_running(), "the process that saved ends with its federation")


def troubles(client: red_tui.Client) -> list[str]:
    return [event.text for event in client.events(limit=10_000) if "cannot be saved" in event.text]
