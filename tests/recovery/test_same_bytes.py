"""A run that lost its server, its supervisor, a round and its cluster gives the bytes of one that lost nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

import red_tui as red
from tests.heads import BARE
from tests.system.support import eventually

ROUNDS = 12
LAYOUT = """
federation: {fed}
template: keeping_nodes:Learner
{server}
nodes: [{{count: 3, role: train-eval}}]
placement: {{isolation: {isolation}, cpus: 1.2, bundles: 3}}
rounds: {{strategy: {strategy}, deadline: 60, min_results: 1.0, seed: 3}}
failure: {{policy: rebuild, max_rebuilds: 9, backoff: 0.01}}
config: {{stage: {stage}}}
"""
CASES = {
    "noisy": ("process", "{name: fedadam}", "server: keeping_nodes:Noisy"),
    "own": ("bundle", "{name: 'keeping_nodes:Momentum', momentum: 0.7}", ""),
}


class Broken:
    """One federation that is to be broken, and the folder in which its nodes look whether they are to wait."""

    def __init__(self, name: str, folder: Path, address: str) -> None:
        self.fed_id, self.stage = name, folder / name
        self.stage.mkdir()
        self.layout = folder / f"{name}.yaml"
        self.layout.write_text(self.text(name, str(self.stage)))
        self.client = red.launch(self.layout, address=address)

    @staticmethod
    def text(name: str, stage: str) -> str:
        isolation, strategy, server = CASES[name.removesuffix("-whole")]
        return LAYOUT.format(fed=name, isolation=isolation, strategy=strategy, server=server, stage=stage or "''")

    @contextlib.contextmanager
    def evaluating(self, number: int) -> Iterator[None]:
        """While nodes are held in the evaluation of a round, which has been aggregated."""
        hold = self.stage / f"hold-{number}"
        hold.touch()
        self.client.start_run(1)
        eventually(lambda: list(self.stage.glob(f"held-{number}-*")), f"{self.fed_id} evaluates round {number}")
        try:
            yield
        finally:
            hold.unlink()

    def is_at(self, number: int) -> None:
        """Wait until no round runs, everybody is there, and this one was the last."""

        def idle() -> bool:
            status = self.client.status()
            return not status["running"] and status["states"].get("ready") == 3 and status["round"] == number

        eventually(idle, f"{self.fed_id} has done {number} rounds and is idle", 120.0)

    def lose_server(self) -> None:
        """SIGKILL the server, and wait for the next one."""
        pid = self.client.node("server")["pid"]
        os.kill(pid, signal.SIGKILL)

        def another() -> bool:
            server = self.client.node("server")
            return server["state"] == "ready" and server["pid"] != pid

        eventually(another, f"{self.fed_id} has another server")

    def play(self) -> None:
        """Nine rounds, and what comes between them."""
        self.client.run(3)
        self.lose_server()
        self.client.run(1)
        with self.evaluating(5):
            psutil.Process(self.client.status()["pid"]).kill()
            eventually(lambda: self.client.status()["round"] == 4, "the next supervisor answers")
        self.is_at(5)
        self.client.run(1)
        with self.evaluating(7):
            self.client.stop(now=True)
        self.is_at(6)
        assert [result.number for result in self.client.run(3)] == [7, 8, 9]


def undisturbed(name: str, folder: Path, address: str) -> tuple[dict[str, Any], list[Any]]:
    layout = folder / f"{name}-whole.yaml"
    layout.write_text(Broken.text(f"{name}-whole", ""))
    client = red.launch(layout, address=address)
    client.run(ROUNDS)
    parameters, losses = client.parameters(), list(client.history.loss)
    client.down()
    return parameters, losses


@pytest.mark.usefixtures("disconnected", "home")
def test_a_run_that_was_broken_in_every_way_gives_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    def cluster(act: Callable[[Cluster], None]) -> None:
        hosts = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, **BARE})
        try:
            act(hosts)
        finally:
            ray.shutdown()
            hosts.shutdown()

    def before(hosts: Cluster) -> None:
        for name in CASES:
            Broken(name, tmp_path, hosts.address).play()

    def after(hosts: Cluster) -> None:
        for name in CASES:
            client = red.adopt(name, hosts.address)
            assert [result.number for result in client.run(3)] == [10, 11, 12]
            told = [event.text for event in client.events(limit=500)]
            assert not [text for text in told if "begins without" in text or "does not say so" in text]
            parameters, losses = client.parameters(), list(client.history.loss)
            client.down()
            whole, right = undisturbed(name, tmp_path, hosts.address)
            assert losses == right, f"{name}: the runs part where the losses do"
            assert {key: value.tobytes() for key, value in parameters.items()} == {
                key: value.tobytes() for key, value in whole.items()
            }, name

    cluster(before)
    cluster(after)
