"""Levels of stars: which aggregators stand between the server and the clients, and who stands below whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from itertools import accumulate
from operator import mul
from typing import Any

from red_tui.nodes.ids import check_id
from red_tui.plain_text import brief

ROOT = "server"
AGGREGATOR_ROLE = "aggregator"
EDGE = "edge"
MOST_AGGREGATORS = 10_000
MOST_COMPARED = 20_000_000
"""Nodes times patterns of groups: as many comparisons take some seconds."""
MOST_LETTERS = 200
"""Characters of a pattern."""
_WILD = frozenset("*?[")


class Hierarchy:
    """The shape of a tree: `levels` of aggregators that are alike, or named `groups` of clients.

    `levels=[4]`: four aggregators below the server, among whom the clients are shared out in order; `[4, 8]`: eight
    more below each of the four, and the clients below those 32.  Their ids are `edge_0`, `edge_0_3` and so on.
    `groups={"north": ["client_0", "client_1*"], ...}`: an aggregator `north` with these clients.

    Args:
        levels: How many aggregators stand below each one of the level above.
        groups: Ids of clients, or patterns with `*`, by the aggregator's id.

    Raises:
        ValueError: If neither or both are given, or one of them names no tree.
    """

    def __init__(self, levels: Sequence[int] | None = None, groups: Mapping[str, Sequence[str]] | None = None) -> None:
        if (levels is None) == (groups is None):
            raise ValueError("a hierarchy is told by levels, such as [4] or [4, 8], or by groups: give one of the two")
        self.levels = None if levels is None else _checked_levels(levels)
        self.groups = None if groups is None else _checked_groups(groups)
        self._parents: dict[str, str] = {}
        self._depths: dict[str, int] = {}
        if self.groups is not None:
            self._lowest = list(self.groups)
            self._parents = dict.fromkeys(self._lowest, ROOT)
            self._depths = dict.fromkeys(self._lowest, 1)
            return
        above = [ROOT]
        for depth, fan_out in enumerate(self.levels or (), start=1):
            made = []
            for parent in above:
                stem = EDGE if parent == ROOT else parent
                children = [f"{stem}_{number}" for number in range(fan_out)]
                self._parents.update(dict.fromkeys(children, parent))
                self._depths.update(dict.fromkeys(children, depth))
                made += children
            above = made
        self._lowest = above

    @property
    def aggregators(self) -> list[str]:
        """Ids of the aggregators, the upper levels first."""
        return list(self._parents)

    def depth(self, aggregator: str) -> int:
        """How far below the server an aggregator stands: 1 for its children."""
        return self._depths[aggregator]

    def parents(self, ids: Iterable[str]) -> dict[str, str]:
        """Who stands above each of the nodes, aggregators among them."""
        clients = [node_id for node_id in ids if node_id not in self._parents]
        if self.groups is None:
            count, lowest = len(clients), self._lowest
            # Shares differ by one at most, and neighbours in the table stand below the same aggregator.
            below = {one: lowest[place * len(lowest) // count] for place, one in enumerate(clients)}
        else:
            below = self._by_group(clients)
        return {**self._parents, **below}

    def _by_group(self, clients: Sequence[str]) -> dict[str, str]:
        assert self.groups is not None
        exact = {name: group for group, names in self.groups.items() for name in names}
        wild = [(_matches(name), group) for group, names in self.groups.items() for name in names if _WILD & set(name)]
        found: dict[str, str] = {}
        sizes = dict.fromkeys(self.groups, 0)
        strays = []
        for one in clients:
            group = exact.get(one) or next((group for matches, group in wild if matches(one)), None)
            if group is None:
                strays.append(one)
            else:
                found[one] = group
                sizes[group] += 1
        for one in strays:
            # Who joined later and is named nowhere goes where the fewest are.
            found[one] = min(sizes, key=lambda group: sizes[group])
            sizes[found[one]] += 1
        return found

    def trouble(self, ids: Iterable[str]) -> str:
        """What is wrong with the hierarchy for these nodes, aggregators left out; nothing if it fits."""
        clients = list(ids)
        known = set(clients)
        taken = sorted(known & set(self._parents))
        if taken:
            return f"{taken[0]!r} is an aggregator's id and a node's too: name one of them otherwise"
        if self.groups is None:
            if len(self._lowest) > len(clients):
                return (
                    f"levels {list(self.levels or ())} make {len(self._lowest)} groups for {len(clients)} nodes: each"
                    " group needs a node"
                )
            return ""
        patterns = sum(bool(_WILD & set(name)) for names in self.groups.values() for name in names)
        if patterns * len(clients) > MOST_COMPARED:
            return f"{patterns:,} patterns over {len(clients):,} nodes are too many to compare: write fewer patterns"
        for group, names in self.groups.items():
            for name in names:
                if not (_WILD & set(name)) and name not in known:
                    return f"group {group!r} names {name!r}, which is no node of this federation: use its ids"
                if _WILD & set(name) and not any(map(_matches(name), clients)):
                    return f"group {group!r}: {name!r} matches no node of this federation"
        return self._trouble_of_each(clients)

    def _trouble_of_each(self, clients: Sequence[str]) -> str:
        assert self.groups is not None
        exact: dict[str, list[str]] = {}
        for group, names in self.groups.items():
            for name in names:
                if not (_WILD & set(name)):
                    exact.setdefault(name, []).append(group)
        wild = [(_matches(name), group) for group, names in self.groups.items() for name in names if _WILD & set(name)]
        for one in clients:
            groups = list(dict.fromkeys([*exact.get(one, []), *(group for matches, group in wild if matches(one))]))
            if len(groups) > 1:
                return f"{one!r} is in group {groups[0]!r} and in group {groups[1]!r}: each node is in one"
            if not groups:
                return f"{one!r} is in no group: name it in one"
        return ""

    def to_wire(self) -> dict[str, Any]:
        """As plain data, from which `Hierarchy(**data)` makes it again."""
        if self.groups is not None:
            return {"groups": {group: list(names) for group, names in self.groups.items()}}
        return {"levels": list(self.levels or ())}

    def __str__(self) -> str:
        if self.groups is not None:
            return f"{len(self.groups)} groups"
        return "levels " + " × ".join(str(fan_out) for fan_out in self.levels or ())


def _matches(pattern: str) -> Callable[[str], object]:
    """A test of ids, read once: `fnmatch` itself keeps only the last 256 patterns."""
    return re.compile(translate(pattern)).match


def _checked_levels(levels: Any) -> tuple[int, ...]:
    if isinstance(levels, (str, Mapping)) or not isinstance(levels, Sequence) or len(levels) == 0:
        raise ValueError(f"levels is a list of whole numbers, such as [4] or [4, 8], not {brief(repr(levels))}")
    for fan_out in levels:
        if isinstance(fan_out, bool) or not isinstance(fan_out, int) or fan_out < 1:
            raise ValueError(f"levels: each is a whole number of at least 1, not {brief(repr(fan_out))}")
    count = 0
    for aggregators in accumulate(levels, mul):
        count += aggregators
        if count > MOST_AGGREGATORS:
            shown = f"levels {brief(str(list(levels)))} make {count:,} aggregators"
            raise ValueError(f"{shown}{' and more' if len(levels) > 1 else ''}, more than {MOST_AGGREGATORS:,}")
    return tuple(levels)


def _checked_groups(groups: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError("groups is a mapping of aggregators' ids to lists of nodes' ids, with one group at least")
    made = {}
    for name, members in groups.items():
        check_id(name, "group")
        if name == ROOT:
            raise ValueError(f"{ROOT!r} cannot be a group: it is the server's id")
        if isinstance(members, str) or not isinstance(members, Sequence) or not members:
            raise ValueError(
                f"group {name!r} is a list of ids or patterns such as client_1*, not {brief(repr(members))}"
            )
        made[name] = tuple(str(member) for member in members)
        for member in made[name]:
            if len(member) > MOST_LETTERS:
                raise ValueError(f"group {name!r}: {brief(member)!r} is longer than {MOST_LETTERS} characters")
    return made
