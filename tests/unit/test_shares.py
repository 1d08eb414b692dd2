from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, strategies as st

from red_tui.errors import PlacementError
from red_tui.placement.feasibility import Host, check_feasible, packs, why_pending
from red_tui.placement.shares import UNIT, shares, split_bundles, total_of


@given(
    st.floats(0.001, 512),
    st.integers(1, 300),
    st.sampled_from(["uniform", "random", "weighted"]),
    st.integers(0, 9),
)
def test_shares_are_positive_whole_units_and_never_exceed_the_total(
    total: float, count: int, split: str, seed: int
) -> None:
    assume(total >= count * UNIT * 1.01)
    weights = [1.0 + (number * seed) % 7 for number in range(count)]
    parts = shares(total, count, split, seed=seed, weights=weights)
    assert len(parts) == count
    assert all(part >= UNIT - 1e-12 for part in parts)
    assert math.fsum(parts) <= total + 1e-9
    assert all(abs(part / UNIT - round(part / UNIT)) < 1e-6 for part in parts), "Ray counts in units of 0.0001"


@given(st.floats(0.01, 512), st.integers(1, 64), st.floats(0, 16))
def test_all_bundles_together_fit_what_was_given_the_coordinators_included(
    cpus: float, count: int, gpus: float
) -> None:
    assume(cpus >= (count + 1) * UNIT * 2 and (gpus == 0 or gpus >= count * UNIT * 1.01))
    bundles = split_bundles(count, cpus, gpus)
    total = total_of(bundles)
    assert len(bundles) == count + 1
    assert total["CPU"] <= cpus + 1e-9
    assert total.get("GPU", 0) <= gpus + 1e-9
    assert "GPU" not in bundles[0] and bundles[0]["CPU"] > 0
    assert all(bundle["CPU"] > 0 and (gpus == 0 or bundle["GPU"] > 0) for bundle in bundles[1:])


def test_a_share_of_gpus_above_one_is_whole_as_ray_wants_it() -> None:
    assert [bundle["GPU"] for bundle in split_bundles(2, 4, 3)[1:]] == [1.0, 1.0]
    assert [bundle["GPU"] for bundle in split_bundles(4, 4, 2)[1:]] == [0.5] * 4


def test_a_random_split_repeats_with_its_seed_and_differs_between_seeds() -> None:
    assert shares(8, 5, "random", seed=1) == shares(8, 5, "random", seed=1)
    assert shares(8, 5, "random", seed=1) != shares(8, 5, "random", seed=2)


def test_a_weighted_split_follows_its_weights() -> None:
    assert shares(6, 3, "weighted", weights=[1, 2, 3]) == pytest.approx([1, 2, 3], abs=1e-3)


@pytest.mark.parametrize("weights", [None, [1.0], [1.0, 0.0], [1.0, math.nan], [1.0, -2.0]])
def test_weights_that_make_no_split_are_refused(weights: list[float] | None) -> None:
    with pytest.raises(PlacementError, match="positive weights"):
        shares(1, 2, "weighted", weights=weights)


@pytest.mark.parametrize(("total", "count"), [(0.0001, 2), (0.0, 1)])
def test_too_little_to_share_is_said(total: float, count: int) -> None:
    with pytest.raises(PlacementError, match="cannot be split"):
        shares(total, count, "uniform")


HOSTS = [Host("a", "head", {"CPU": 4.0}, head=True), Host("b", "worker-1", {"CPU": 4.0, "GPU": 1.0})]


@pytest.mark.parametrize(
    ("bundles", "strategy", "what"),
    [
        ([{"CPU": 5.0}], "PACK", "bundle 0 asks CPU 5 and no host has that much"),
        ([{"CPU": 1.0, "GPU": 2.0}], "PACK", "GPU 2"),
        ([{"CPU": 3.0}] * 3, "PACK", "too little CPU"),
        ([{"CPU": 3.0}] * 2, "STRICT_PACK", "on one host and none has"),
        ([{"CPU": 1.0}] * 3, "STRICT_SPREAD", "a host for each of the 3 bundles"),
    ],
)
def test_what_no_cluster_of_these_hosts_can_give_is_refused(
    bundles: list[dict[str, float]], strategy: str, what: str
) -> None:
    with pytest.raises(PlacementError, match=what) as caught:
        check_feasible(bundles, strategy, HOSTS)
    assert caught.value.fields["asked"] and caught.value.fields["available"]


def test_what_fits_is_not_refused() -> None:
    check_feasible([{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}], "STRICT_SPREAD", HOSTS)
    check_feasible([{"CPU": 2.0}] * 4, "PACK", HOSTS)


def test_a_dead_host_counts_for_nothing() -> None:
    dead = [HOSTS[0], Host("b", "worker-1", {"CPU": 4.0}, alive=False)]
    with pytest.raises(PlacementError, match="too little CPU"):
        check_feasible([{"CPU": 3.0}] * 2, "PACK", dead)


def test_pending_says_whether_it_is_busy_or_can_never_fit() -> None:
    busy = why_pending([{"CPU": 4.0}], HOSTS, {"CPU": 1.0}, "NO_RESOURCES")
    assert busy.startswith("busy") and "CPU 4 asked, 1 of 8 free" in busy
    never = why_pending([{"GPU": 2.0}], HOSTS, {"CPU": 8.0, "GPU": 1.0}, "INFEASIBLE")
    assert "bundle 0 asks GPU 2, no host has that" in never
    scattered = why_pending([{"CPU": 3.0}, {"CPU": 3.0}], HOSTS, {"CPU": 6.0}, "NO_RESOURCES")
    assert "hosts' free resources" in scattered


@given(st.lists(st.floats(0.1, 8), min_size=1, max_size=12), st.lists(st.floats(0.1, 16), min_size=1, max_size=4))
def test_what_packs_fits_each_host(cpus: list[float], hosts: list[float]) -> None:
    bundles, free = [{"CPU": cpu} for cpu in cpus], [{"CPU": host} for host in hosts]
    if packs(bundles, free):
        assert sum(cpus) <= sum(hosts) + 1e-4 and max(cpus) <= max(hosts) + 1e-4
    else:
        assert not packs([*bundles, {"CPU": 0.1}], free)


def test_equal_parts_of_all_that_is_free_may_not_pack() -> None:
    assert not packs([{"CPU": 0.94}] * 17, [{"CPU": 10.0}, {"CPU": 6.0}])
    assert packs([{"CPU": 0.90}] * 17, [{"CPU": 10.0}, {"CPU": 6.0}])
