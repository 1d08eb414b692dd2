"""The account of a cluster: what is free, what is being given back and who holds the rest."""

from __future__ import annotations

from typing import Any

from red_tui.placement.availability import Availability, account, script_group_name
from red_tui.placement.feasibility import Host

HEAD = Host("h1", "head", {"CPU": 4.0}, head=True)
WORKER = Host("h2", "worker", {"CPU": 8.0, "GPU": 2.0})
FREE = {"h1": {"CPU": 4.0, "memory": 1e9}, "h2": {"CPU": 8.0, "GPU": 2.0}}


def group(name: str, state: str, *bundles: tuple[str, dict[str, float]]) -> dict[str, Any]:
    """An entry of Ray's table of placement groups."""
    return {
        "name": name,
        "state": state,
        "bundles": {index: amounts for index, (_, amounts) in enumerate(bundles)},
        "bundles_to_node_id": {index: host for index, (host, _) in enumerate(bundles)},
    }


def test_an_empty_cluster_is_free_and_held_by_nobody() -> None:
    now = account([HEAD, WORKER], FREE, {})
    assert now.total == now.total_free == {"CPU": 12.0, "GPU": 2.0}
    assert now.holders == () and now.returning == {} and now.held({"CPU"}) == ""
    assert now.has_room([{"CPU": 8.0}, {"CPU": 4.0}]) and not now.has_room([{"CPU": 6.0}, {"CPU": 6.0}])


def test_groups_are_named_by_who_holds_them_the_largest_first() -> None:
    free = {"h1": {}, "h2": {"CPU": 1.0, "GPU": 2.0}}
    now = account(
        [HEAD, WORKER],
        free,
        {
            "a1": group("digits/pool-0", "CREATED", ("h2", {"CPU": 3.0})),
            "a2": group("digits/pool-1", "CREATED", ("h2", {"CPU": 2.0})),
            "b": group(f"{script_group_name('mine')}-0", "CREATED", ("h1", {"CPU": 2.0})),
            "c": group("theirs/script-77@box-deadbeef-00000000-0", "CREATED", ("h1", {"CPU": 1.0})),
            "d": group("", "CREATED", ("h2", {"CPU": 1.0})),
            "waiting": group("later/pool-0", "PENDING", ("", {"CPU": 9.0})),
        },
    )
    assert [(holder.name, dict(holder.amounts)) for holder in now.holders] == [
        ("federation 'digits'", {"CPU": 5.0}),
        ("actors and tasks outside of placement groups", {"CPU": 2.0}),
        ("federation 'mine' of this very process", {"CPU": 2.0}),
        ("a placement group without a name", {"CPU": 1.0}),
        ("federation 'theirs' of process 77 on box", {"CPU": 1.0}),
    ]
    assert [holder.here for holder in now.holders] == [False, False, True, False, False]
    helped = " ".join(now.remedies({"CPU"}))
    assert "red-console down digits" in helped and "'mine' is still open here" in helped and "'theirs'" in helped
    assert now.holders_of({"GPU"}) == [], "nobody holds a GPU"


def test_a_removed_group_is_being_given_back_until_its_host_keeps_none_of_its_bundles() -> None:
    groups = {"abc123": group("x/pool-0", "REMOVED", ("h1", {"CPU": 4.0}), ("h2", {"CPU": 2.0, "GPU": 1.0}))}
    kept = {"bundle_group_abc123": 1000.0, "bundle_group_0_abc123": 1000.0}
    now = account([HEAD, WORKER], {"h1": kept, "h2": FREE["h2"]}, groups)
    assert now.returning == {"h1": {"CPU": 4.0}}, "the worker has given its bundle back already"
    assert now.free_soon() == [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}] and now.total_free["CPU"] == 8.0
    assert now.holders == () and "CPU 4 is being given back" in now.held({"CPU"})
    assert account([HEAD, WORKER], FREE, groups).returning == {}


def test_what_is_lacking_is_told_with_who_holds_it() -> None:
    now = account([HEAD], {"h1": {"CPU": 1.0}}, {"a": group("digits/pool-0", "CREATED", ("h1", {"CPU": 3.0}))})
    assert now.lacking({"CPU": 3.0}) == {"CPU": 2.0} and now.lacking({"CPU": 1.0}) == {}
    why = now.why_no_room([{"CPU": 2.0}, {"CPU": 1.0}])
    assert "CPU 3 asked, 1 of 4 free" in why and "federation 'digits' holds CPU 3" in why


def test_a_long_list_of_holders_is_cut_and_says_so() -> None:
    groups = {str(n): group(f"fed-{n}/pool-0", "CREATED", ("h2", {"CPU": 1.0})) for n in range(8)}
    now: Availability = account([WORKER], {"h2": {}}, groups)
    assert "2 more hold CPU 2" in now.held({"CPU"}) and "fed-7" not in now.held({"CPU"})
