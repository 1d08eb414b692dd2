"""What nodes keep lies in files once it outgrows its bound: rounds are the same, whoever is killed between them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui import FederationConfig
from red_tui.state_folder import home
from tests.cluster.conftest import eventually
from tests.cluster.state_nodes import Locked, Remembering


def make(
    config: FederationConfig, reserve: Any, count: int, isolation: str, template: Any = Remembering, **more: Any
) -> Any:
    held = {"nodes_per_bundle": 4} if isolation == "bundle" else {}
    return red.StarFederatedLearningSchema(
        template,
        ["train"] * count,
        config,
        isolation=isolation,
        resources=reserve(num_nodes=2, num_cpus=3),
        failure={"policy": "rebuild", "max_rebuilds": 50, "backoff": 0.01},
        **held,
        **more,
    )


def kill_all(fed: Any) -> None:
    """Kill the server and whatever holds client nodes, and wait until others have taken their places."""
    names = ["server", *(node.id for node in fed.nodes if node.built)]
    before = {name: fed.describe_node(name)["pid"] for name in names}
    for pid in set(before.values()):
        os.kill(pid, signal.SIGKILL)
    eventually(
        lambda: all(fed.describe_node(name)["pid"] not in (None, pid) for name, pid in before.items()),
        "all are replaced",
        120,
    )
    eventually(lambda: not fed.select("state:pending,starting,failed"), "all are ready again", 120)


def figures(fed: Any) -> list[Any]:
    return [(result.number, len(result.participants), dict(result.train_metrics)) for result in fed.history]


@pytest.mark.parametrize(("isolation", "count", "rounds"), [("bundle", 20, 3), ("process", 2, 2)])
def test_states_in_files_give_the_rounds_that_states_in_memory_give_whoever_is_killed(
    config: FederationConfig, reserve: Any, isolation: str, count: int, rounds: int
) -> None:
    with make(config, reserve, count, isolation, state_memory=None) as fed:
        fed.run(rounds)
        expected, parameters = figures(fed), fed.parameters()
        assert not fed.feed.kept.on_disk
    other = FederationConfig(federation_id=f"{config.federation_id}-disk")
    bound = "1MB" if isolation == "bundle" else "100KB"
    with make(other, reserve, count, isolation, state_memory=bound) as fed:
        fed.run(1)
        kept = fed.feed.kept
        assert kept.on_disk and any("has outgrown state_memory" in event.text for event in fed.feed.events)
        for _ in range(rounds - 1):
            eventually(lambda: kept.memory == 0, "all states lie in files")
            kill_all(fed)
            fed.run(1)
        assert figures(fed) == expected
        assert fed.parameters()["w"].tobytes() == parameters["w"].tobytes()
        eventually(lambda: kept.memory == 0, "all states lie in files")
        assert len(kept) == count and kept.disk >= count * 100_000
        folder = kept.place.folder()
        eventually(lambda: len(list(folder.glob("*.states"))) == len(kept.files()), "what nobody wants is cleared away")
        assert folder.is_relative_to(home())
    assert not folder.exists(), "nobody can go on with it"


def test_a_later_script_goes_on_with_what_nodes_kept(config: FederationConfig, reserve: Any, tmp_path: Path) -> None:
    keep = {"state_memory": 0, "keep": tmp_path / "run"}
    with make(config, reserve, 6, "bundle", **keep) as fed:
        fed.run(2)
        fed.remove_nodes("id:client_5", keep_state=True)
    with make(config, reserve, 6, "bundle", resume=True, **keep) as fed:
        added = fed.add_nodes(ids=["client_5"], role="train")
        assert added.ids == ["client_5"]
        fed.run(1)
        assert fed.history[-1].train_metrics["seen"] == 3, "each of the six has seen three rounds"
        assert any("go on with what they kept" in event.text for event in fed.feed.events)


def test_a_damaged_file_costs_its_own_states_and_says_whose(
    config: FederationConfig, reserve: Any, tmp_path: Path
) -> None:
    keep = {"state_memory": 0, "keep": tmp_path / "run"}
    with make(config, reserve, 3, "bundle", **keep) as fed:
        fed.run(1)
        stored = fed.feed.kept.stored(fed.table.row_of("client_1"))
    path = tmp_path / "run" / "states" / stored.file
    raw = bytearray(path.read_bytes())
    raw[stored.offset + 5_000] ^= 1
    path.write_bytes(raw)
    with make(config, reserve, 3, "bundle", resume=True, **keep) as fed:
        fed.run(1)
        assert fed.history[-1].train_metrics["seen"] == pytest.approx((2 + 1 + 2) / 3)
        (told,) = [event for event in fed.feed.events if "the state of" in event.text]
        assert told.subject == "client_1" and str(path) in told.text and "damaged at byte" in told.text
        assert told.level == "error" and "go on without" in told.text


@pytest.mark.parametrize("state_memory", [0, None])
def test_what_cannot_be_kept_fails_its_node_and_names_the_key(
    config: FederationConfig, reserve: Any, state_memory: int | None
) -> None:
    with make(config, reserve, 3, "bundle", Locked, state_memory=state_memory) as fed:
        fed.run(1)
        (why,) = fed.history[-1].failures.values()
        assert "the state of node 'client_1' cannot be" in why and "state['lock'] is <unlocked _thread.lock" in why
        assert sorted(fed.history[-1].failures) == ["client_1"]


def test_a_disk_that_takes_no_more_leaves_states_in_memory_and_loses_none(
    config: FederationConfig, reserve: Any
) -> None:
    with make(config, reserve, 8, "bundle", state_memory=0) as fed:
        fed.run(1)
        kept = fed.feed.kept
        eventually(lambda: kept.memory == 0, "all states lie in files")
        folder = kept.place.folder()
        moved = folder.with_name(folder.name + "-aside")
        folder.rename(moved)
        folder.write_text("in place of the folder")
        fed.release("state:ready")
        assert kept.memory == 0, "what had not changed is where it was"
        folder.unlink()
        moved.rename(folder)
        fed.run(1)
        assert fed.history[-1].train_metrics["seen"] == 2
        assert np.all(fed.parameters()["w"] > 0)
