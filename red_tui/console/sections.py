"""The rows of the grid: bundles, hosts or states, and the pool of what is not placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.states import STATES, NodeState

if TYPE_CHECKING:
    from red_tui.nodes.table import NodeTable
    from red_tui.protocol.snapshot import Bundle

Ints = npt.NDArray[np.integer[Any]]

GROUPINGS = ("bundle", "host", "state")
UNKNOWN = -1


@dataclass(frozen=True)
class Section:
    """One row of the grid, over as many lines as its fullest cell needs.

    Attributes:
        kind: `bundle`, `host`, `state` or `pool`.
        name: Host's or state's name, or the bundle's index as text.
        bundle: The bundle of a `bundle` section.
        bundles: How many bundles a `host` section has.
        cpu: CPUs of the bundle, or of the host's bundles together.
        gpu: GPUs likewise.
    """

    kind: str
    name: str
    bundle: Bundle | None = None
    bundles: int = 0
    cpu: float = 0.0
    gpu: float = 0.0


class Sections:
    """The sections of a grouping, and which of them a node stands in.

    Args:
        items: The sections, top to bottom.
        column: The table's column that decides.
        lookup: Section by that column's value; the last one answers for -1, the last but one for all that is beyond.
    """

    def __init__(self, items: Sequence[Section], column: str, lookup: Ints) -> None:
        self.items = tuple(items)
        self._column = column
        self._lookup = lookup
        self.optional = np.array([section.kind != "bundle" for section in items], dtype=bool)
        """Which of them are hidden while they hold no node: they would say nothing."""

    def of(self, table: NodeTable, rows: Ints | slice) -> Ints:
        """The section of each of some rows; `UNKNOWN` where none is."""
        values = table.column(self._column)[rows]
        found: Ints = self._lookup[np.minimum(values, len(self._lookup) - 2)]
        return found

    def same_places(self, other: Sections) -> bool:
        """Whether every node stands in the same place with the other ones: only labels differ."""
        return (
            self._column == other._column
            and len(self.items) == len(other.items)
            and np.array_equal(self._lookup, other._lookup)
            and all(one.kind == two.kind for one, two in zip(self.items, other.items, strict=True))
        )


def sections_for(grouping: str, bundles: Sequence[Bundle], seated: Ints, hosts: Sequence[str] = ()) -> Sections:
    """The sections of a grouping.

    Args:
        grouping: One of `GROUPINGS`.
        bundles: The bundles that are known.
        seated: How many nodes sit in each bundle, by its index: some may be in one that is not known yet.
        hosts: Names of the hosts, in their order.
    """
    if grouping == "state":
        names = [str(state) for state in STATES if state is not NodeState.REMOVED]
        lookup = np.arange(len(STATES) + 2, dtype=np.int32)
        lookup[len(names) :] = UNKNOWN
        return Sections([Section("state", name) for name in names], "state", lookup)
    by_index = {bundle.idx: bundle for bundle in bundles}
    known = sorted({*by_index, *np.flatnonzero(seated).tolist()})
    lookup = np.full(max(known, default=-1) + 3, UNKNOWN, dtype=np.int32)
    rank = {name: place for place, name in enumerate(hosts)}
    sections = (_by_host if grouping == "host" else _by_bundle)(known, by_index, rank, lookup)
    lookup[-1] = len(sections)
    sections.append(Section("pool", "pool"))
    return Sections(sections, "bundle", lookup)


def _by_bundle(known: list[int], by_index: dict[int, Bundle], rank: dict[str, int], lookup: Ints) -> list[Section]:
    known.sort(key=lambda i: (rank.get(by_index[i].host, len(rank)) if i in by_index else len(rank) + 1, i))
    sections = []
    for place, index in enumerate(known):
        bundle = by_index.get(index)
        lookup[index] = place
        cpu, gpu = (bundle.cpu, bundle.gpu) if bundle else (0.0, 0.0)
        sections.append(Section("bundle", str(index), bundle, 1, cpu, gpu))
    return sections


def _by_host(known: list[int], by_index: dict[int, Bundle], rank: dict[str, int], lookup: Ints) -> list[Section]:
    of_host: dict[str, list[int]] = {}
    for index in known:
        of_host.setdefault(by_index[index].host if index in by_index else "?", []).append(index)
    sections = []
    for place, name in enumerate(sorted(of_host, key=lambda name: (rank.get(name, len(rank)), name))):
        mine = of_host[name]
        lookup[mine] = place
        cpu = sum(by_index[index].cpu for index in mine if index in by_index)
        gpu = sum(by_index[index].gpu for index in mine if index in by_index)
        sections.append(Section("host", name, None, len(mine), cpu, gpu))
    return sections
