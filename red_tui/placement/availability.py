"""What a cluster has, what of it is free, what is being given back, and who holds the rest.

Everybody who asks whether something fits asks here: the pools of federations, `explain`, plans and error messages.
Ray's own account lags behind: the CPUs of a placement group that was removed are free some 50 to 150 ms later.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from red_tui.placement.feasibility import ROUNDING, Host, cluster_hosts, packs, why_pending
from red_tui.placement.shares import Bundle, amounts_text, total_of

WAIT_FOR_RESOURCES = 10.0
"""Seconds that a build waits for resources that are not free, unless the federation says otherwise."""

RETURN_TIMEOUT = 30.0
"""Max seconds to wait after groups were removed until Ray counts their resources as free."""

NEWS_TIMEOUT = 1.0
"""Seconds within which the account shows a placement group that is reserved, where its hosts live."""

POLL = 0.02
"""Seconds between two looks; Ray tells nobody when resources become free."""

HOLDERS_SHOWN = 6

HOW_TO_CLOSE = (
    "close it with its close(), or all of this process with `for fed in red.open_federations(): fed.close()`"
    " (a `with` block closes its federation by itself)"
)
"""How a script or a notebook ends federations of its own process."""

_PROCESS = uuid.uuid4().hex[:8]
_GROUP_RESOURCE = re.compile(r"^bundle_group_(?:\d+_)?([0-9a-f]+)$")
_POOL_NAME = re.compile(r"^(?P<fed>[^/]+)/pool-\d+$")
_SCRIPT_NAME = re.compile(r"^(?P<fed>[^/]*)/script-(?P<pid>\d+)@(?P<host>.+)-(?P<process>[0-9a-f]{8})-[0-9a-f]{8}-\d+$")


def script_group_name(fed_id: str = "") -> str:
    """A name for placement groups that this process makes, which tells others who holds them.

    Args:
        fed_id: The federation that they are for; empty for those of `get_resources_split`.
    """
    return f"{fed_id}/script-{os.getpid()}@{socket.gethostname()}-{_PROCESS}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Holder:
    """Who holds resources.

    Attributes:
        name: In words, such as `federation 'digits'`.
        amounts: What they hold.
        fed_id: Id of the federation; empty if it is none.
        launched: Whether it is a federation with a supervisor.
        here: Whether it is a federation of this very process.
    """

    name: str
    amounts: Mapping[str, float]
    fed_id: str = ""
    launched: bool = False
    here: bool = False

    def __str__(self) -> str:
        return f"{self.name} holds {amounts_text(self.amounts)}"

    @property
    def remedy(self) -> str:
        """What makes this holder give its resources back."""
        if self.here and not self.fed_id:
            return "pass that group as resources=group, or give it back with ray.util.remove_placement_group(group)"
        if self.here:
            return f"{self.fed_id!r} is still open here: {HOW_TO_CLOSE}"
        if self.launched:
            return f"end {self.fed_id!r} with `red-console down {self.fed_id}`"
        return f"end the script of {self.fed_id!r}" if self.fed_id else ""


@dataclass(frozen=True)
class Availability:
    """The account of a cluster at one moment.

    Attributes:
        hosts: The living hosts, the head first.
        free: What is free on each host, by the host's id.
        returning: What is being given back on each host: its placement group is removed and it is not free yet.
        holders: Who holds the rest, those who hold most CPUs first.
    """

    hosts: Sequence[Host]
    free: Mapping[str, Bundle]
    returning: Mapping[str, Bundle] = field(default_factory=dict)
    holders: Sequence[Holder] = ()

    @property
    def total(self) -> Bundle:
        """What the living hosts have in all."""
        return total_of([host.resources for host in self.hosts])

    @property
    def total_free(self) -> Bundle:
        """What is free in all."""
        return total_of(list(self.free.values()))

    def free_now(self) -> list[Bundle]:
        """What is free on each host now."""
        return [dict(self.free.get(host.host_id, {})) for host in self.hosts]

    def free_soon(self) -> list[Bundle]:
        """What is free on each host once all that is being given back has arrived."""
        return [
            total_of([self.free.get(host.host_id, {}), self.returning.get(host.host_id, {})]) for host in self.hosts
        ]

    def has_room(self, bundles: Sequence[Bundle]) -> bool:
        """Whether bundles fit into what is free now."""
        return packs(bundles, self.free_now())

    def lacking(self, asked: Mapping[str, float]) -> Bundle:
        """What is asked beyond what is free, by resource."""
        free = self.total_free
        short = {name: round(amount - free.get(name, 0.0), 4) for name, amount in asked.items()}
        return {name: amount for name, amount in short.items() if amount > ROUNDING}

    def holders_of(self, names: Collection[str]) -> list[Holder]:
        """Those who hold any of these resources, and how much of these."""
        found = []
        for holder in self.holders:
            amounts = {name: amount for name, amount in holder.amounts.items() if name in names}
            if amounts:
                found.append(replace(holder, amounts=amounts))
        return found

    def held(self, names: Collection[str]) -> str:
        """In words, who holds these resources; empty if nobody does."""
        holders = self.holders_of(names)
        told = [str(holder) for holder in holders[:HOLDERS_SHOWN]]
        if len(holders) > HOLDERS_SHOWN:
            told.append(f"{len(holders) - HOLDERS_SHOWN} more hold {amounts_text(_sum(holders[HOLDERS_SHOWN:]))}")
        back = {name: amount for name, amount in total_of(list(self.returning.values())).items() if name in names}
        if back:
            told.append(f"{amounts_text(back)} is being given back")
        return "; ".join(told)

    def why_no_room(self, bundles: Sequence[Bundle], state: str = "NO_RESOURCES") -> str:
        """In words, why bundles do not fit now: what they ask, what is free and who holds the rest.

        Args:
            bundles: What is asked.
            state: Ray's `scheduling_state` of their placement group, where they have one.
        """
        asked = total_of(bundles)
        why = why_pending(bundles, self.hosts, self.total_free, state)
        held = self.held(self.lacking(asked) or asked)
        return f"{why}: {held}" if held else why

    def is_held_here(self, names: Collection[str]) -> bool:
        """Whether only this very process holds these resources: waiting for them is of no use."""
        holders = self.holders_of(names)
        returning = total_of(list(self.returning.values()))
        return bool(holders) and all(one.here for one in holders) and not any(name in returning for name in names)

    def remedies(self, names: Collection[str]) -> list[str]:
        """What would make these resources free, the largest holder first."""
        return list(dict.fromkeys(holder.remedy for holder in self.holders_of(names) if holder.remedy))[:3]


def _sum(holders: Iterable[Holder]) -> Bundle:
    return total_of([holder.amounts for holder in holders])


def look() -> Availability:
    """Ask Ray for the account of the cluster, with a constant number of calls."""
    from ray._private.state import available_resources_per_node
    from ray.util import placement_group_table

    hosts = [host for host in cluster_hosts() if host.alive]
    available = {str(host_id): dict(amounts) for host_id, amounts in available_resources_per_node().items()}
    return account(hosts, available, placement_group_table())


def account(
    hosts: Sequence[Host], available: Mapping[str, Mapping[str, float]], groups: Mapping[str, Mapping[str, Any]]
) -> Availability:
    """The account of a cluster.

    Args:
        hosts: The living hosts.
        available: What Ray calls available on each host, the names that it makes for placement groups included.
        groups: Ray's table of placement groups.
    """
    names = {host.host_id: set(host.resources) for host in hosts}
    free = {
        host.host_id: {
            name: round(amount, 4)
            for name, amount in available.get(host.host_id, {}).items()
            if name in names[host.host_id] and amount > 0
        }
        for host in hosts
    }
    kept = {host.host_id: _groups_on(available.get(host.host_id, {})) for host in hosts}
    returning: dict[str, Bundle] = {}
    in_groups: dict[str, Bundle] = {}
    holders: dict[str, Holder] = {}
    for group_id, entry in groups.items():
        removed = entry.get("state") == "REMOVED"
        for index, host_id in (entry.get("bundles_to_node_id") or {}).items():
            if host_id not in names or (removed and group_id not in kept[host_id]):
                continue
            bundle = {name: float(amount) for name, amount in entry["bundles"][index].items()}
            _add(in_groups, host_id, bundle)
            if removed:
                _add(returning, host_id, bundle)
                continue
            holder = _holder_of(str(entry.get("name") or ""))
            before = holders.get(holder.name, holder)
            holders[holder.name] = replace(before, amounts=total_of([before.amounts, bundle]))
    others = _outside_of_groups(hosts, free, in_groups)
    if others:
        holders["others"] = Holder("actors and tasks outside of placement groups", others)
    ordered = sorted(holders.values(), key=lambda one: (-one.amounts.get("CPU", 0.0), one.name))
    return Availability(tuple(hosts), free, returning, tuple(ordered))


def _add(amounts: dict[str, Bundle], host_id: str, bundle: Bundle) -> None:
    amounts[host_id] = total_of([amounts.get(host_id, {}), bundle])


def _outside_of_groups(hosts: Sequence[Host], free: Mapping[str, Bundle], in_groups: Mapping[str, Bundle]) -> Bundle:
    """What is neither free nor in a placement group."""
    used: list[Bundle] = []
    for host in hosts:
        known = total_of([free.get(host.host_id, {}), in_groups.get(host.host_id, {})])
        left = {name: round(amount - known.get(name, 0.0), 4) for name, amount in host.resources.items()}
        used.append({name: amount for name, amount in left.items() if amount > ROUNDING})
    return total_of(used)


def _groups_on(available: Mapping[str, float]) -> set[str]:
    """Ids of the placement groups that a host still keeps bundles for."""
    return {match[1] for match in map(_GROUP_RESOURCE.match, available) if match}


def _holder_of(name: str) -> Holder:
    """Who holds a placement group of this name, as yet without amounts."""
    if match := _POOL_NAME.match(name):
        return Holder(f"federation {match['fed']!r}", {}, match["fed"], launched=True)
    if match := _SCRIPT_NAME.match(name):
        here = match["process"] == _PROCESS
        whose = "of this very process" if here else f"of process {match['pid']} on {match['host']}"
        what = f"federation {match['fed']!r}" if match["fed"] else "a group of get_resources_split"
        return Holder(f"{what} {whose}", {}, match["fed"], here=here)
    return Holder(f"placement group {name!r}" if name else "a placement group without a name", {})


def wait_for(condition: Callable[[Availability], bool], timeout: float, ended: threading.Event | None = None) -> bool:
    """Look until a condition holds, for at most `timeout` seconds or until `ended` is set; says whether it holds."""
    stop = ended or threading.Event()
    deadline = time.monotonic() + timeout
    while not condition(look()):
        if time.monotonic() >= deadline or stop.wait(POLL):
            return False
    return True


def remove_groups(groups: Sequence[Any], timeout: float = RETURN_TIMEOUT) -> bool:
    """Remove placement groups and wait until Ray counts their resources as free; says whether it does in time."""
    from ray.util.placement_group import remove_placement_group

    ids = {group.id.hex() for group in groups}
    # The account may not show yet what has just been reserved: it would look as if nothing had to come back.
    _wait_until(lambda: ids <= _accounted_groups(), NEWS_TIMEOUT)
    for group in groups:
        remove_placement_group(group)
    return _wait_until(lambda: not ids & _accounted_groups(), timeout)


def _accounted_groups() -> set[str]:
    """Ids of the placement groups that any host keeps bundles for, as far as the account shows it."""
    from ray._private.state import available_resources_per_node

    return {group_id for amounts in available_resources_per_node().values() for group_id in _groups_on(amounts)}


def _wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True
