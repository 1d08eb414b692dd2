"""Rules that the parts of a layout must keep, as functions that raise `Refused`."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.ids import SERVER_ID, ListedIds, PatternIds, Segment, check_id, is_pattern
from red_tui.nodes.states import BUILTIN_ROLES, Roles

SCHEMAS = ("star", "ring", "mesh", "k-connected", "custom", "hierarchical")
"""Schemas of this version; `module:Class` names one of one's own."""

_ADAPTIVE: dict[str, type] = {"learning_rate": float, "beta1": float, "beta2": float, "tau": float}

STRATEGIES: dict[str, dict[str, type]] = {
    "fedavg": {},
    "fedavgm": {"learning_rate": float, "momentum": float},
    "fedadagrad": _ADAPTIVE,
    "fedadam": _ADAPTIVE,
    "fedyogi": _ADAPTIVE,
    "median": {},
    "trimmed-mean": {"trim": float},
    "krum": {"byzantine": int, "keep": int},
}
"""Strategies by name, each with its options and their types."""

PARTITIONS: dict[str, tuple[str, ...]] = {
    "iid": ("seed",),
    "dirichlet": ("seed", "by", "alpha", "min_size"),
    "shards": ("seed", "by", "per_part"),
    "pathological": ("seed", "by", "classes"),
    "power-law": ("seed", "exponent", "min_size"),
    "sizes": ("seed", "sizes"),
    "natural-id": ("seed", "by", "column"),
    "explicit": ("seed", "parts", "overlap"),
}
"""Rules that deal data out, by name, each with its options; those of `red_tui.data`."""

NEED_EACH = frozenset({"median", "trimmed-mean", "krum"})
"""Strategies that need every update: a mean of a group is of no use to them."""

NODE_ROLES = tuple(sorted(BUILTIN_ROLES - {"server"}))
DEFAULT_ID = "client_{i}"
MAX_NODES = 50_000_000
"""Nodes of a layout: as many as a journal names, with room for those that join (`journal.limits.ROWS_LIMIT`)."""
MAX_WIDTH = 60

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z")
CLASS_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
"""How `module:Class` is written, for schemas."""
_WIDTH = re.compile(r"\{i:0*(\d{1,9})\d*d\}")
_OWNED_KEYS = ("federation_id", "FEDERATION_ID")


class Refused(ValueError):
    """A value breaks a rule.

    Args:
        text: What is wrong and what to do.
        allowed: What may stand there instead.
        word: What was written, if a word of `allowed` may have been meant.
        path: Where, seen from the part that raises.
        at_key: Whether the key itself is wrong, not its value.
    """

    def __init__(
        self,
        text: str,
        *,
        allowed: Sequence[str] | None = None,
        word: str = "",
        path: tuple[str | int, ...] = (),
        at_key: bool = False,
    ) -> None:
        super().__init__(text)
        self.text, self.allowed, self.word, self.path, self.at_key = text, allowed, word, path, at_key

    def at(self, *path: str | int) -> Refused:
        """The same, further up."""
        return Refused(self.text, allowed=self.allowed, word=self.word, path=(*path, *self.path), at_key=self.at_key)


def check_federation_id(value: str) -> str:
    """Return a federation's id if it can name actors."""
    try:
        return check_id(value, "federation id")
    except ValueError as error:
        raise Refused(str(error)) from None


def check_spec(value: str) -> str:
    """Return `module:Class` if it is written so."""
    if not _SPEC.match(value):
        raise Refused(f"{value!r} is not of the form module:Class, such as my_nodes:Client")
    return value


def is_class_spec(value: str) -> bool:
    """Whether a text is written as `module:Class`."""
    return bool(_SPEC.match(value))


def check_schema(value: str) -> str:
    """Return the name of a schema that this version has, or `module:Class`."""
    if value in SCHEMAS or _SPEC.match(value):
        return value
    allowed = [*SCHEMAS, "module:Class"]
    raise Refused(f"{value!r} is not a schema", allowed=allowed, word=value)


def check_role_words(value: str) -> str:
    """Return roles that are words joined by dashes; which words are known is the layout's business."""
    try:
        return str(Roles(value))
    except ValueError as error:
        raise Refused(str(error)) from None


def unknown_role(role: str, further: Sequence[str]) -> Refused | None:
    """What is wrong with the words of a role, or None."""
    known = [*NODE_ROLES, *further]
    for word in role.split("-"):
        if word == "server":
            return Refused("the role server is that of the server, which the federation adds itself", allowed=known)
        if word == AGGREGATOR_ROLE:
            return Refused(
                "the role aggregator is that of a hierarchy's aggregators, which the federation adds itself",
                allowed=known,
            )
        if word not in known:
            return Refused(
                f"{word!r} is not a role; a role of your own is declared under `roles:`", allowed=known, word=word
            )
    return None


def check_id_pattern(value: str) -> str:
    """Return a node's id, or a pattern that makes such ids."""
    width = _WIDTH.search(value)
    if width and int(width.group(1)) > MAX_WIDTH:
        raise Refused(f"{value!r} makes ids that are too long: an id has at most 63 characters")
    try:
        if is_pattern(value) or "{" in value or "}" in value:
            PatternIds.parse(value, 1)
        else:
            check_id(value)
    except ValueError as error:
        raise Refused(str(error)) from None
    if value == SERVER_ID:
        raise Refused("'server' cannot be a node id: it is the server's, which the federation adds itself")
    return value


def check_config(value: dict[str, Any]) -> dict[str, Any]:
    """Return keys for a config if they are plain data and none is one that the federation sets."""
    for key in _OWNED_KEYS:
        if key in value:
            raise Refused(
                f"{key} is set by the layout's own key federation; leave it out here", path=(key,), at_key=True
            )
    _check_plain(value, ())
    return value


def check_partition(name: str, options: Mapping[str, Any]) -> None:
    """Raise Refused if a rule that deals data out cannot have such options."""
    # Here, as a console reads no layout before its first frame and numpy takes its time.
    from red_tui.data.label_groups import PartitionError
    from red_tui.data.partition import make_partition

    try:
        make_partition(name, options)
    except PartitionError as error:
        raise Refused(error.message.removeprefix(f"{name}: ")) from None


def _check_plain(value: Any, path: tuple[str | int, ...]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise Refused(f"the key {key!r} must be text: put it in quotes", path=path)
            _check_plain(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(item, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        raise Refused(f"must be a finite number, not {value}", path=path)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise Refused(f"must be plain data (text, numbers, lists, mappings), not {type(value).__name__}", path=path)


# -- ids over all groups -------------------------------------------------------------------------


class Clash(NamedTuple):
    """A group whose ids cannot be, and why."""

    group: int
    text: str


def segments_of(groups: Sequence[tuple[str, int]]) -> list[Segment]:
    """Ids of groups given as (id pattern, count); groups that write the same pattern count on."""
    used: dict[str, int] = {}
    segments: list[Segment] = []
    for index, (pattern, count) in enumerate(groups):
        if is_pattern(pattern):
            first = used.get(pattern, 0)
            used[pattern] = first + count
            try:
                segments.append(PatternIds.parse(pattern, count, first))
            except ValueError as error:
                raise Refused(str(error), path=("nodes", index, "id")) from None
        else:
            segments.append(ListedIds((pattern,)))
    return segments


MOST_COMPARED = 1_000_000
"""Comparisons of ids and patterns after which a layout is refused: each takes about a microsecond."""


def clashing_ids(segments: Sequence[Segment]) -> Clash | None:
    """The first id that two groups make, or that is the server's."""
    seen = _SeenIds()
    for index, segment in enumerate(segments):
        if segment.index(SERVER_ID) is not None:
            return Clash(index, "'server' cannot be a node id: it is the server's")
        shared = seen.shared_with(segment)
        if shared is not None:
            earlier = next(place for place in range(index) if segments[place].index(shared) is not None)
            return Clash(index, f"{shared!r} stands twice: nodes[{earlier}] makes it too; write another id pattern")
        if seen.compared >= MOST_COMPARED:
            return Clash(index, "there are too many groups to see whether their ids differ: write fewer of them")
        seen.add(segment)
    return None


class _SeenIds:
    """The ids of earlier groups: those written out by name, and groups that count on as one pattern."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._patterns: dict[tuple[str, str, int], PatternIds] = {}
        self.compared = 0

    def add(self, segment: Segment) -> None:
        """Remember a group."""
        if isinstance(segment, ListedIds):
            self._names.update(segment)
            return
        key = (segment.prefix, segment.suffix, segment.width)
        known = self._patterns.get(key)
        first = segment.first if known is None else known.first
        count = segment.first + segment.count - first
        self._patterns[key] = PatternIds(segment.prefix, segment.suffix, first, count, segment.width)

    def shared_with(self, segment: Segment) -> str | None:
        """An id that a group shares with earlier ones."""
        if isinstance(segment, ListedIds):
            self.compared += len(self._patterns)
            return next((name for name in segment if name in self._names or any(self._makes(name))), None)
        self.compared += len(self._names)
        shared = next((name for name in self._names if segment.index(name) is not None), None)
        key = (segment.prefix, segment.suffix, segment.width)
        for known, pattern in self._patterns.items():
            if shared is not None or self.compared >= MOST_COMPARED:
                break
            if known != key:  # groups that write the same pattern count on
                shared, tried = _shared_id(pattern, segment, MOST_COMPARED - self.compared)
                self.compared += tried + 1
        return shared

    def _makes(self, name: str) -> Iterator[bool]:
        return (pattern.index(name) is not None for pattern in self._patterns.values())


def _shared_id(one: PatternIds, other: PatternIds, most: int) -> tuple[str | None, int]:
    """An id that two patterns make, if they do, and how many ids were tried, `most` at most."""
    long, short = sorted((one.prefix, other.prefix), key=len, reverse=True)
    if not long.startswith(short):
        return None, 0
    long, short = sorted((one.suffix, other.suffix), key=len, reverse=True)
    if not long.endswith(short):
        return None, 0
    if (one.prefix, one.suffix) == (other.prefix, other.suffix):
        # The widths differ: only numbers that fill both are written alike.
        wider = max(one.width, other.width)
        low = max(one.first, other.first, 10 ** (wider - 1) if wider > 1 else 0)
        high = min(one.first + one.count, other.first + other.count)
        return (one[low - one.first], 0) if low < high else (None, 0)
    few, many = sorted((one, other), key=len)
    shared = next((node_id for node_id in itertools.islice(few, most) if many.index(node_id) is not None), None)
    return shared, min(len(few), most)
