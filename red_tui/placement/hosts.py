"""Which bundle lies on which host, as Ray has placed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from red_tui.placement.feasibility import Host, cluster_hosts


def bundle_hosts(groups: Sequence[Any]) -> tuple[dict[int, str], list[Host]]:
    """Host id by bundle index over all groups, and the hosts."""
    from ray.util import placement_group_table

    where: dict[int, str] = {}
    start = 0
    for group in groups:
        table = placement_group_table(group)
        for local_idx, host_id in (table.get("bundles_to_node_id") or {}).items():
            if host_id:
                where[start + int(local_idx)] = str(host_id)
        start += group.bundle_count
    return where, cluster_hosts()
