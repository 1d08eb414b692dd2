"""Federations that grow, shrink and move while they run, and say why something is as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from red_tui.federation.core import core_of
from tests.cluster.conftest import CPUS, eventually, free_cpus, living_groups
from tests.cluster.templates import Counting, Dreamer

Reserve = Callable[..., Any]
ISOLATIONS = pytest.mark.parametrize("isolation", ["process", "bundle"])


def federation_of(config: red.FederationConfig, count: int, template: type = Counting, **options: Any) -> Any:
    return red.StarFederatedLearningSchema(template, ["train"] * count, config, **options)


@ISOLATIONS
def test_a_pool_grows_by_a_group_and_shrinks_again(cluster: None, config: red.FederationConfig, isolation: str) -> None:
    options: dict[str, Any] = {"nodes_per_bundle": 2} if isolation == "bundle" else {}
    with federation_of(config, 4, isolation=isolation, **options) as federation:
        federation.build("client_0")
        had = len(federation.resources)
        made = federation.add_bundles(2, {"CPU": 1.0})
        assert made == [had, had + 1]
        assert len(federation.placement_groups) == 2
        moved = federation.move("client_0", made[1])
        assert moved.built == ("client_0",)
        assert federation["client_0"].bundle_idx == made[1]
        assert federation.run_round().participants
        assert federation.remove_bundles() == made
        assert str(federation["client_0"].state) == "released", "its state is kept, its bundle is gone"
        assert len(federation.resources) == had and len(living_groups()) == 1
        federation.build("client_0")
        assert ray.get(federation["client_0"].handle.seen.remote()) == 1
        with pytest.raises(red.CommandRefused, match="began with"):
            federation.remove_bundles()


def test_growing_by_what_never_fits_leaves_nothing(cluster: None, config: red.FederationConfig) -> None:
    with federation_of(config, 2) as federation:
        federation.build("client_0")
        groups, free = living_groups(), CPUS - sum(bundle["CPU"] for bundle in federation.resources)
        eventually(lambda: free_cpus() == pytest.approx(free, abs=2e-3), "what it has is taken in Ray's account")
        with pytest.raises(red.PlacementError, match="no host has that much"):
            federation.add_bundles(1, {"CPU": CPUS + 1})
        assert living_groups() == groups
        eventually(lambda: free_cpus() == pytest.approx(free, abs=2e-3), "nothing more is reserved")
        with pytest.raises(red.CommandRefused, match="at least 1"):
            federation.add_bundles(0, {"CPU": 1})


@ISOLATIONS
def test_a_node_that_leaves_finishes_its_round_first(
    reserve: Reserve, config: red.FederationConfig, tmp_path: Path, isolation: str
) -> None:
    config = config.updated(who="client_1", gate=str(tmp_path / "gate"), marks=str(tmp_path))
    group = reserve(num_nodes=3, num_cpus=3)
    with federation_of(config, 3, Dreamer, resources=group, isolation=isolation) as federation:
        federation.start_run(2)
        eventually((tmp_path / "client_1").exists, "it is at work")
        assert federation.remove_nodes("client_1", timeout=0).refused["client_1"].startswith("is at work in round 1")
        reports: list[Any] = []
        leaving = threading.Thread(target=lambda: reports.append(federation.remove_nodes("client_1", keep_state=True)))
        leaving.start()
        eventually(lambda: bool(core_of(federation).state.leaving), "it is about to leave")
        (tmp_path / "gate").touch()
        leaving.join(240)
        assert reports[0].done == ("client_1",)
        eventually(lambda: not federation.running, "the run ends")
        first, second = federation.history
        assert "client_1" in first.participants and "client_1" not in second.participants
        assert "client_1" not in federation
        federation.add_nodes(ids=["client_1"], role="train")
        federation.build("client_1")
        assert ray.get(federation["client_1"].handle.seen.remote()) == 1, "it got its state back"


@ISOLATIONS
def test_moving_to_a_bundle_without_room_changes_nothing(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    options: dict[str, Any] = {"nodes_per_bundle": 1} if isolation == "bundle" else {}
    group = reserve(num_nodes=2, num_cpus=2)
    with federation_of(config, 2, resources=group, isolation=isolation, **options) as federation:
        federation.build()
        with pytest.raises(red.CommandRefused, match=r"bundle 2 (has no room|is full)"):
            federation.move("client_0", 2)
        assert (str(federation["client_0"].state), federation["client_0"].bundle_idx) == ("ready", 1)


def test_everything_can_be_explained(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    with federation_of(config, 2, resources=group) as federation:
        before = federation.explain("client_0")
        assert before.verdict == "fits" and before.asked["CPU"] > 0 and before.hosts
        federation.build("client_0")
        assert federation.explain("client_0").verdict == "fine"
        none = federation.explain("client_1")
        assert none.verdict == "busy" and "no free bundle" in none.why and "add bundles" in none.advice
        assert "head" in str(none)


def test_what_never_fits_is_told_from_what_is_busy(cluster: None, config: red.FederationConfig) -> None:
    holder = red.get_resources_split(num_nodes=1, num_cpus=CPUS - 8)
    eventually(lambda: free_cpus() < 9, "what it holds is taken in Ray's account")
    try:
        from red_tui.federation.spec import FederationSpec, PlacementSpec, groups_of_roles

        def explained(cpus: float, number: int) -> Any:
            spec = FederationSpec(
                config.updated(federation_id=f"{config.federation_id}-{number}"),
                groups_of_roles(Counting, ["train"], None),
                placement=PlacementSpec(bundles=[{"CPU": cpus}]),
            )
            with red.StarFederatedLearningSchema.from_spec(spec) as federation:
                return federation.explain("client_0")

        assert explained(CPUS + 1.0, 1).verdict == "infeasible"
        busy = explained(9.0, 2)
        assert busy.verdict == "busy" and "when others give back theirs" in busy.why
        assert explained(1.0, 3).verdict == "fits"
    finally:
        ray.util.remove_placement_group(holder)


def test_a_hung_node_is_ended_and_rebuilt(reserve: Reserve, config: red.FederationConfig, tmp_path: Path) -> None:
    config = config.updated(who="client_0", gate=str(tmp_path / "gate"))
    settings = red.RoundSettings(deadline=3.0, min_results=1)
    policy = red.FailurePolicy("rebuild", backoff=0.01)
    for isolation in ("process", "bundle"):
        named = config.updated(federation_id=f"{config.federation_id}-{isolation}")
        group = reserve(num_nodes=2, num_cpus=2)
        with federation_of(
            named, 2, Dreamer, resources=group, isolation=isolation, settings=settings, failure=policy
        ) as federation:
            result = federation.run_round()
            assert list(result.participants) == ["client_1"]
            eventually(lambda: federation.table.value("rebuilds", 1) == 1, "it was taken for hung and is rebuilt")
            eventually(lambda: str(federation["client_0"].state) == "ready", "it is there again")
            assert np.allclose(federation.parameters()["w"], 1.0)
