"""Topologies: who is whose neighbour, by a rule that also holds for those who join later."""

from __future__ import annotations

import difflib
import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui import checks
from red_tui.aggregation.weighted_sum import consensus_distance
from red_tui.errors import TopologyError
from red_tui.nodes.hierarchy import ROOT, Hierarchy

if TYPE_CHECKING:
    # Imported where a graph is made: it costs each process of a federation 0.1 CPU-seconds, and a star needs none.
    import networkx as nx


def over(ids: Sequence[str], edges: Any) -> nx.Graph:
    """A graph of ids from pairs of places."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(ids)
    graph.add_edges_from((ids[one], ids[other]) for one, other in edges)
    return graph


def custom_graph(graph: Any, adjacency: Any, ids: Sequence[str]) -> nx.Graph:
    """The graph over `ids` that a networkx graph, lists of neighbours or a matrix tell.

    Raises:
        TopologyError: If it breaks a rule, naming the row.
    """
    if graph is not None:
        return _of_graph(graph, ids)
    if isinstance(adjacency, Mapping):
        return _of_lists(adjacency, ids)
    return _of_matrix(adjacency, ids)


def _of_graph(graph: Any, ids: Sequence[str]) -> nx.Graph:
    import networkx as nx

    if not isinstance(graph, nx.Graph) or graph.is_directed():
        raise TopologyError("custom: the graph must be an undirected networkx.Graph", rule="custom")
    loops = [str(one) for one in nx.nodes_with_selfloops(graph)]
    if loops:
        raise TopologyError(f"custom: {loops[0]!r} is its own neighbour: take the edge to itself out", rule="custom")
    made = nx.Graph()
    made.add_nodes_from(ids)
    inside = set(ids)
    made.add_edges_from(
        (str(one), str(other)) for one, other in graph.edges if str(one) in inside and str(other) in inside
    )
    return made


def _is_graph(value: Any) -> bool:
    import networkx as nx

    return isinstance(value, nx.Graph)


def _of_lists(adjacency: Mapping[str, Sequence[str]], ids: Sequence[str]) -> nx.Graph:
    import networkx as nx

    for one, others in adjacency.items():
        if isinstance(others, str) or not isinstance(others, Sequence):
            raise TopologyError(f"custom: row {one!r} must be a list of ids, not {others!r}", rule="custom")
        for other in others:
            if other == one:
                raise TopologyError(f"custom: row {one!r}: a node is not its own neighbour", rule="custom")
            if one not in adjacency.get(other, ()):
                raise TopologyError(
                    f"custom: row {one!r} names {other!r}, but row {other!r} does not name {one!r}: neighbours are"
                    " each other's",
                    rule="custom",
                )
    made = nx.Graph()
    made.add_nodes_from(ids)
    inside = set(ids)
    made.add_edges_from(
        (one, other) for one, others in adjacency.items() for other in others if one in inside and other in inside
    )
    return made


def _of_matrix(adjacency: Any, ids: Sequence[str]) -> nx.Graph:
    count = len(ids)
    rows = list(adjacency)
    for place, row in enumerate(rows):
        if len(row) != len(rows):
            raise TopologyError(
                f"custom: row {place} has {len(row)} entries in a matrix of {len(rows)} rows: it must be square",
                rule="custom",
            )
    if len(rows) != count:
        raise TopologyError(
            f"custom: a matrix of {len(rows)} rows for {count} nodes: write one row a node", rule="custom"
        )
    matrix = np.asarray(rows) != 0
    for place in range(count):
        if matrix[place, place]:
            raise TopologyError(
                f"custom: row {place} ({ids[place]}): the diagonal must be 0, a node is not its own neighbour",
                rule="custom",
            )
        other = np.flatnonzero(matrix[place] != matrix[:, place])
        if len(other):
            raise TopologyError(
                f"custom: row {place} ({ids[place]}) and row {int(other[0])} ({ids[int(other[0])]}) differ about each"
                " other: the matrix must be symmetric",
                rule="custom",
            )
    return over(ids, np.argwhere(np.triu(matrix)).tolist())


__all__ = ["consensus_distance", "mixing_matrix", "mixing_weights", "spectral_gap"]

Floats = npt.NDArray[np.float64]


def mixing_weights(graph: nx.Graph, taking_part: Sequence[Hashable]) -> list[dict[Any, float]]:
    """Metropolis-Hastings weights of each node over itself and its neighbours that take part.

    The weight of an edge is 1 / (1 + the larger degree of its two ends), counted among those who take part;
    what is left of 1 is the node's own.  The matrix is symmetric and doubly stochastic, so mixing keeps the mean
    of all models (Xiao, Boyd and Lashkari 2006, Distributed average consensus with least-mean-square deviation).

    Args:
        graph: Who is whose neighbour.
        taking_part: Nodes that mix, in order; only edges between them count.  Neighbours stand in this order too: a
            subgraph of networkx gives them in that of a set, which differs from process to process.
    """
    among = graph.subgraph(taking_part)
    place = {one: index for index, one in enumerate(taking_part)}
    degree = dict(among.degree)
    weights = []
    for one in taking_part:
        row = {
            other: 1.0 / (1 + max(degree[one], degree[other])) for other in sorted(among[one], key=place.__getitem__)
        }
        weights.append({one: 1.0 - sum(row.values()), **row})
    return weights


def mixing_matrix(graph: nx.Graph, taking_part: Sequence[Hashable] | None = None) -> Floats:
    """`mixing_weights` as a matrix W: the models after a round's gossip are `W @ x`."""
    order = list(graph.nodes) if taking_part is None else list(taking_part)
    place = {one: index for index, one in enumerate(order)}
    matrix = np.zeros((len(order), len(order)))
    for index, row in enumerate(mixing_weights(graph, order)):
        for other, weight in row.items():
            matrix[index, place[other]] = weight
    return matrix


def spectral_gap(matrix: Floats) -> float:
    """1 - |the second largest eigenvalue| of a symmetric mixing matrix: how fast models agree; 0 for a cut graph."""
    if len(matrix) < 2:
        return 1.0
    sizes = np.sort(np.abs(np.linalg.eigvalsh(matrix)))
    return float(1.0 - sizes[-2])


MOST_FOR_GAP = 400
"""Nodes up to which the eigenvalues of a graph without a formula are computed: they take a twentieth of a second."""


@dataclass(frozen=True)
class GraphFacts:
    """A topology in numbers.

    Attributes:
        nodes: Client nodes.
        edges: Pairs that are neighbours.
        least: The smallest number of neighbours that a node has; the server of a star counts as a node.
        mean: Neighbours of a node on average.
        most: The largest number.
        parts: Parts between which there is no path.
        gap: Spectral gap of the Metropolis-Hastings matrix: how fast gossip agrees; None where nobody gossips (a
            star) or where it would take long.
    """

    nodes: int
    edges: int
    least: int
    mean: float
    most: int
    parts: int
    gap: float | None


def facts_of(topology: Topology) -> GraphFacts:
    """The numbers of a topology; those of stars and meshes come from their rule."""
    count, edges = len(topology.ids), topology.num_edges
    if count == 0:
        return GraphFacts(0, 0, 0, 0.0, 0, 0, None)
    if topology.rule.name == "star":
        return star_facts(count)
    if topology.rule.name == "mesh":
        return GraphFacts(count, edges, count - 1, float(count - 1), count - 1, 1, 1.0 if count > 1 else None)
    import networkx as nx

    degrees = [degree for _, degree in topology.graph.degree]
    parts = nx.number_connected_components(topology.graph)
    gap = _gap(topology, count, parts) if count > 1 and not topology.rule.served else None
    return GraphFacts(count, edges, min(degrees), 2 * edges / count, max(degrees), parts, gap)


def star_facts(count: int) -> GraphFacts:
    """The numbers of a star of `count` client nodes, none of which is looked at."""
    if count == 0:
        return GraphFacts(0, 0, 0, 0.0, 0, 0, None)
    return GraphFacts(count, count, 1, 2 * count / (count + 1), count, 1, None)


def _gap(topology: Topology, count: int, parts: int) -> float | None:
    if parts > 1:
        return 0.0
    if topology.rule.name == "ring" and count > 2:
        # All weights are 1/3: the eigenvalues are those of a circulant matrix, and the least of them is -1/3.
        return 1.0 - max(1.0 / 3.0 * (count % 2 == 0), abs(1.0 + 2.0 * math.cos(2.0 * math.pi / count)) / 3.0)
    if count > MOST_FOR_GAP:
        return None
    return max(0.0, spectral_gap(mixing_matrix(topology.graph)))


CENTER = ROOT
"""The node in the middle of a star, and at the root of a hierarchy."""

SERVED = frozenset({"star", "hierarchical"})
"""Rules in which a server aggregates; in all others neighbours mix their models."""

MAX_EDGES = 2_000_000
"""Max edges of a mesh."""

CONNECTED_TRIES = 100
"""Max random graphs that are drawn until one is connected."""


@dataclass(frozen=True)
class TopologyRule:
    """How a topology is made of the ids of a federation.

    Attributes:
        name: One of `RULES`.
        k: Neighbours of each node (k-connected), or of each before rewiring (small-world).
        seed: Of the random rules.
        branching: Children of each node (tree).
        rewire: Probability that an edge is rewired (small-world).
        adjacency: For custom: neighbours by id, or a square matrix in the order of the nodes.
        graph: For custom: a `networkx.Graph` over ids.
        levels: For hierarchical: aggregators below each one of the level above; see `Hierarchy`.
        groups: For hierarchical: clients by the id of their aggregator.

    Raises:
        TopologyError: If there is no such rule, or one of its numbers is missing, unknown to it or out of range.
    """

    name: str = "star"
    k: int | None = None
    seed: int = 0
    branching: int = 2
    rewire: float = 0.1
    adjacency: Any = None
    graph: Any = None
    levels: Any = None
    groups: Any = None

    def __post_init__(self) -> None:
        if self.name not in RULES:
            near = difflib.get_close_matches(self.name, RULES, 1) if isinstance(self.name, str) else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TopologyError(f"there is no topology {self.name!r}: use {', '.join(RULES)}{hint}")
        if self.name in ("k-connected", "small-world") and self.k is None:
            raise TopologyError(f"{self.name} needs k, the number of neighbours of each node: k=4", rule=self.name)
        if self.name not in ("k-connected", "small-world") and self.k is not None:
            raise TopologyError(f"{self.name} takes no k: leave it out, or use k-connected", rule=self.name)
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise TopologyError(f"k must be a whole number of at least 1, not {self.k!r}", rule=self.name)
        given = (self.adjacency is not None) + (self.graph is not None)
        if self.name == "custom" and given != 1:
            raise TopologyError("custom needs either an adjacency or a networkx graph", rule=self.name)
        if self.name != "custom" and given:
            raise TopologyError(f"{self.name} takes no adjacency and no graph: use custom", rule=self.name)
        refusal = partial(TopologyError, rule=self.name)
        checks.whole(self.branching, "branching", least=1, refusal=refusal)
        checks.number(self.rewire, "rewire", least=0, most=1, refusal=refusal)
        checks.whole(self.seed, "seed", least=0, refusal=refusal)
        self._check_custom()
        if self.name == "hierarchical":
            _ = self.hierarchy
        elif self.levels is not None or self.groups is not None:
            raise TopologyError(f"{self.name} takes no levels and no groups: use hierarchical", rule=self.name)

    def _check_custom(self) -> None:
        """Raise TopologyError if an adjacency or a graph is none."""
        if self.graph is not None and not _is_graph(self.graph):
            raise TopologyError(
                f"graph must be a networkx.Graph over ids, not {checks.shown(self.graph)}", rule=self.name
            )
        given = self.adjacency
        if given is None or isinstance(given, Mapping):
            return
        square = not isinstance(given, (str, bytes)) and hasattr(given, "__len__") and hasattr(given, "__iter__")
        if not square or not all(hasattr(row, "__len__") for row in given):
            allowed = "a square matrix (a list of lists, or an array), or lists of neighbours by id"
            raise TopologyError(f"adjacency must be {allowed}, not {checks.shown(given)}", rule=self.name)

    @cached_property
    def hierarchy(self) -> Hierarchy | None:
        """The tree of aggregators; None for other rules.

        Raises:
            TopologyError: If levels or groups make none.
        """
        if self.name != "hierarchical":
            return None
        try:
            return Hierarchy(self.levels, self.groups)
        except ValueError as error:
            raise TopologyError(f"hierarchical: {error}", rule=self.name) from None

    @property
    def served(self) -> bool:
        """Whether a server aggregates; else neighbours mix their models."""
        return self.name in SERVED

    def check_names(self, ids: Sequence[str]) -> None:
        """Raise TopologyError if an adjacency, a graph or a group names somebody who is not among `ids`.

        Asked when a rule is taken up; nodes that leave later may go on being named.
        """
        if self.hierarchy is not None:
            inside = set(self.hierarchy.aggregators)
            lacking = sorted(inside - set(ids))
            if lacking:
                raise TopologyError(
                    f"hierarchical: this federation has no aggregator {lacking[0]!r}: aggregators are made with the"
                    " federation (HierarchicalFederatedLearningSchema, or schema: hierarchical in a layout)",
                    rule=self.name,
                )
            if trouble := self.hierarchy.trouble(one for one in ids if one not in inside):
                raise TopologyError(f"hierarchical: {trouble}", rule=self.name)
        named: list[str] = []
        if self.graph is not None:
            named = [str(node_id) for node_id in self.graph.nodes]
        elif isinstance(self.adjacency, Mapping):
            named = [*self.adjacency, *(other for others in self.adjacency.values() for other in others)]
        unknown = sorted(set(named) - set(ids))
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise TopologyError(
                f"custom: {unknown[0]!r}{more} is no node of this federation: use its ids", rule="custom"
            )

    def to_wire(self) -> dict[str, Any]:
        """The rule as plain data, from which `TopologyRule(**data)` makes it again."""
        wire: dict[str, Any] = {"name": self.name}
        if self.k is not None:
            wire["k"] = self.k
        if self.name in ("k-connected", "small-world"):
            wire["seed"] = self.seed
        if self.name == "small-world":
            wire["rewire"] = self.rewire
        if self.name == "tree":
            wire["branching"] = self.branching
        if self.hierarchy is not None:
            wire.update(self.hierarchy.to_wire())
        if self.graph is not None:
            wire["adjacency"] = {str(one): [str(other) for other in self.graph[one]] for one in self.graph}
        elif isinstance(self.adjacency, Mapping):
            wire["adjacency"] = {str(one): list(others) for one, others in self.adjacency.items()}
        elif self.adjacency is not None:
            wire["adjacency"] = np.asarray(self.adjacency).tolist()
        return wire

    def __str__(self) -> str:
        if self.hierarchy is not None:
            return f"{self.name} ({self.hierarchy})"
        return f"{self.name} (k = {self.k})" if self.k is not None else self.name

    def __hash__(self) -> int:
        return hash((self.name, self.k, self.seed))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TopologyRule) and self.to_wire() == other.to_wire()


class Topology:
    """A rule applied to the nodes of a federation.

    Args:
        rule: The rule.
        ids: Ids of the client nodes, in order.

    Raises:
        TopologyError: If the rule cannot be kept by these nodes.
    """

    def __init__(self, rule: TopologyRule, ids: Sequence[str]) -> None:
        self.rule = rule
        self.ids = ids
        if rule.name != "star":
            # A star of a million nodes is told by its rule; every other shape is checked when it is made.
            _ = self.graph

    @cached_property
    def graph(self) -> nx.Graph:
        """The graph over ids; that of a star has the server in it."""
        return RULES[self.rule.name](self.rule, self.ids)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.ids)

    def neighbors(self, node_id: str) -> tuple[str, ...]:
        """Give the neighbours of a node, in the order of the federation; in a hierarchy the one above it first.

        Args:
            node_id: Id of the node.

        Returns:
            Their ids.

        Raises:
            TopologyError: If the node is not in the topology.
        """
        if self.rule.name == "star":
            if node_id == CENTER:
                return tuple(self.ids)
            if node_id in self._known:
                return (CENTER,)
        elif node_id in self.graph:
            found = set(self.graph[node_id])
            above = self.parents.get(node_id)
            rest = tuple(other for other in self.ids if other in found and other != above)
            return rest if above is None else (above, *rest)
        raise TopologyError(
            f"{node_id!r} is not in the topology ({self.rule}): its nodes are those of the federation", node=node_id
        )

    @property
    def num_edges(self) -> int:
        """How many pairs are neighbours."""
        return len(self.ids) if self.rule.name == "star" else int(self.graph.number_of_edges())

    @cached_property
    def facts(self) -> GraphFacts:
        """Nodes, edges, degrees, parts and the spectral gap."""
        return facts_of(self)

    @cached_property
    def parents(self) -> Mapping[str, str]:
        """In a hierarchy: who stands above each node; else nothing."""
        hierarchy = self.rule.hierarchy
        return {} if hierarchy is None else hierarchy.parents(self.ids)

    @cached_property
    def pairs(self) -> npt.NDArray[np.int32]:
        """The edges as pairs of places in `ids`; the server at the root of a hierarchy has the place after the last."""
        place = {node_id: index for index, node_id in enumerate(self.ids)}
        if self.rule.hierarchy is not None:
            place[CENTER] = len(self.ids)
        found = [(place[one], place[other]) for one, other in self.graph.edges if one in place and other in place]
        return np.asarray(found, dtype=np.int32).reshape(-1, 2)

    def components(self) -> list[list[str]]:
        """The parts between which there is no path, largest first; one for a connected topology."""
        import networkx as nx

        if self.rule.name == "star":
            return [[CENTER, *self.ids]]
        order = {CENTER: -1, **{node_id: place for place, node_id in enumerate(self.ids)}}
        parts = [sorted(part, key=order.__getitem__) for part in nx.connected_components(self.graph)]
        return sorted(parts, key=lambda part: (-len(part), order[part[0]]))

    def __str__(self) -> str:
        parts = len(self.components()) if self.ids else 0
        cut = f", in {parts} parts without a path between them" if parts > 1 else ""
        return f"{self.rule}: {len(self.ids)} nodes, {self.num_edges} edges{cut}"


def _star(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from([CENTER, *ids])
    graph.add_edges_from((CENTER, node_id) for node_id in ids)
    return graph


def _ring(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    count = len(ids)
    return over(ids, ((place, (place + 1) % count) for place in range(count if count > 2 else count - 1)))


def _line(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    return over(ids, ((place, place + 1) for place in range(len(ids) - 1)))


def _mesh(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    import networkx as nx

    edges = len(ids) * (len(ids) - 1) // 2
    if edges > MAX_EDGES:
        raise TopologyError(
            f"mesh: {len(ids):,} nodes have {edges:,} edges, more than {MAX_EDGES:,}: use k-connected with a k of a few"
            " dozen, which mixes nearly as fast",
            rule="mesh",
        )
    return over(ids, nx.complete_graph(len(ids)).edges)


def _grid(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    width = max(1, math.ceil(math.sqrt(len(ids))))
    right = [(place, place + 1) for place in range(len(ids) - 1) if (place + 1) % width]
    return over(ids, right + [(place, place + width) for place in range(len(ids) - width)])


def _tree(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    return over(ids, (((place - 1) // rule.branching, place) for place in range(1, len(ids))))


def _k_connected(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    import networkx as nx

    count, k = len(ids), rule.k or 0
    if k >= count:
        raise TopologyError(
            f"k-connected: k = {k} with {count} nodes: a node has at most {max(0, count - 1)} neighbours",
            rule="k-connected",
        )
    if count * k % 2:
        raise TopologyError(
            f"k-connected: {count} nodes with k = {k}: one of the two must be even, for each edge has two ends;"
            f" use k = {k - 1 or 2} or k = {k + 1}",
            rule="k-connected",
        )
    draws = random.Random(rule.seed)
    graph = nx.random_regular_graph(k, count, seed=draws)
    for _ in range(CONNECTED_TRIES if k > 1 else 0):
        if nx.is_connected(graph):
            break
        graph = nx.random_regular_graph(k, count, seed=draws)
    return over(ids, graph.edges)


def _hierarchical(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    import networkx as nx

    assert rule.hierarchy is not None
    graph = nx.Graph()
    graph.add_nodes_from([CENTER, *ids])
    inside = {CENTER, *ids}
    graph.add_edges_from(
        (above, node_id) for node_id, above in rule.hierarchy.parents(ids).items() if {node_id, above} <= inside
    )
    return graph


def _small_world(rule: TopologyRule, ids: Sequence[str]) -> nx.Graph:
    import networkx as nx

    count, k = len(ids), rule.k or 0
    if k < 2 or k >= count:
        raise TopologyError(f"small-world: k = {k} with {count} nodes: k must be 2 to {count - 1}", rule="small-world")
    try:
        graph = nx.connected_watts_strogatz_graph(count, k, rule.rewire, tries=CONNECTED_TRIES, seed=rule.seed)
    except nx.NetworkXError as error:
        raise TopologyError(
            f"small-world: no connected graph of {count} nodes with k = {k} came of {CONNECTED_TRIES} draws: use a"
            " larger k",
            rule="small-world",
        ) from error
    return over(ids, graph.edges)


RULES: Mapping[str, Callable[[TopologyRule, Sequence[str]], nx.Graph]] = {
    "star": _star,
    "ring": _ring,
    "line": _line,
    "mesh": _mesh,
    "grid": _grid,
    "k-connected": _k_connected,
    "tree": _tree,
    "small-world": _small_world,
    "custom": lambda rule, ids: custom_graph(rule.graph, rule.adjacency, ids),
    "hierarchical": _hierarchical,
}
"""The topologies by name."""
