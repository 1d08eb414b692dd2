"""Who is whose neighbour: drawn where nodes are few, else listed; large stars are told by their rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from textual import events

from red_tui.console.config.themes import COUNT_ORDER, STATE_NAMES, Glyphs
from red_tui.console.connection.traffic import Traffic, per_second
from red_tui.console.grid.labels import Marks
from red_tui.console.screens.topology_graph import BY_RULE, Drawing, Graph
from red_tui.console.text import clip, plain, plural
from red_tui.console.widgets.lists import Line, set_border, wrap
from red_tui.console.widgets.node_list import NodeList

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror

Ints = npt.NDArray[np.integer[Any]]

MOST_DRAWN = 400
"""Nodes up to which a drawing is tried."""

MOST_LISTED = 1000
"""Nodes up to which a star or a mesh is listed: each line of it says the same."""

FORMS = ("drawing", "list")
"""How a topology is shown."""

_NEIGHBORS_NAMED = 60
_SAID = {
    "star": "a star: every node talks with the server, and with nobody else",
    "mesh": "a mesh: every node talks with every other one",
}


class TopologyView(NodeList):
    """A graph, drawn or listed, with the neighbours of the node under the cursor.

    Args:
        glyphs: The signs.
    """

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(glyphs, **keywords)
        self.graph: Graph | None = None
        self.trouble = ""
        self.marks = Marks()
        self.traffic = Traffic()
        self.asked_neighbors: tuple[str, list[str], int] | None = None
        """Id, neighbours' ids and their number, where the graph is too large to be told whole."""
        self.chosen: str | None = None
        self._rows: Ints = np.empty(0, dtype=np.int64)
        self._drawing: Drawing | None = None
        self._drawn_for: tuple[Any, ...] = ()
        self._shown: npt.NDArray[np.bool_] | None = None

    # -- data ------------------------------------------------------------------------------------

    def take(self, graph: Graph) -> None:
        """Show another graph."""
        self.graph, self.trouble, self.asked_neighbors = graph, "", None
        self._arrange()
        self.draw()

    def fail(self, why: str) -> None:
        """Say why there is no graph."""
        self.trouble = why
        self.draw()

    def filter(self, shown: npt.NDArray[np.bool_] | None) -> None:
        """Show these rows only."""
        self._shown = shown

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Draw the nodes' present states; find them again where nodes came or went."""
        fresh = self.mirror is not mirror or changes is None or changes.full or changes.placement
        self.mirror = mirror
        if fresh:
            self._arrange()
        self.draw()

    def _arrange(self) -> None:
        """Find the rows that are shown, and the cursor among them."""
        if self.mirror is None or self.graph is None:
            return
        table = self.mirror.table
        members = self.graph.members(table)
        if self._shown is not None:
            shown = self._shown[: len(members)]
            members = members[: len(shown)] & shown
        self._rows = np.flatnonzero(members)
        self._drawn_for = ()
        row = None if self.cursor_id is None else table.row_of(self.cursor_id)
        found = np.flatnonzero(self._rows == row) if row is not None else self._rows[:0]
        self.place = int(found[0]) if len(found) else min(self.place, max(0, len(self._rows) - 1))
        if not self.by_rule:
            self.cursor_id = table.ids[int(self._rows[self.place])] if len(self._rows) else None

    @property
    def by_rule(self) -> bool:
        """Whether only the rule is told: a line for each node would say the same a thousand times."""
        graph = self.graph
        return graph is not None and graph.rule in BY_RULE and graph.nodes > MOST_LISTED and self._shown is None

    @property
    def drawn(self) -> bool:
        """Whether the graph is drawn."""
        drawing = None if self.chosen == "list" else self._draw_up()
        return drawing is not None and drawing.fits

    def switch(self, value: str | None = None) -> str:
        """Draw or list; gives what is to be said of it."""
        if self.by_rule:
            return "it is told by its rule; a filter lists the nodes that it shows"
        wanted = value or ("list" if self.drawn else "drawing")
        self.chosen = wanted
        if wanted == "drawing" and not self.drawn:
            self.chosen = None
            return f"{plural(len(self._rows), 'node')} find no room to be drawn here; a filter shows fewer"
        self.draw()
        return "drawn" if wanted == "drawing" else "listed with their neighbours"

    def _draw_up(self) -> Drawing | None:
        """The drawing for the present size, made once."""
        graph, mirror = self.graph, self.mirror
        count = len(self._rows)
        if graph is None or mirror is None or not graph.told or not 0 < count <= MOST_DRAWN or self.by_rule:
            return None
        width, height = self.size.width - 2, self.size.height - 2
        asked = (graph.version, graph.name, width, height, mirror.table.version if mirror.table else 0)
        if asked[:4] != self._drawn_for:
            names = [plain(name) for name in mirror.table.ids.take(self._rows)]
            pairs = graph.pairs_among(self._rows, mirror.table)
            self._drawing = Drawing(graph.rule, names, pairs, width, height, self.glyphs.ascii_only)
            self._drawn_for = asked[:4]
        return self._drawing

    # -- the cursor and its neighbours -----------------------------------------------------------

    @property
    def current_row(self) -> int | None:
        """Row of the node under the cursor."""
        return None if self.mirror is None or self.cursor_id is None else self.mirror.table.row_of(self.cursor_id)

    @property
    def wants_neighbors(self) -> str | None:
        """The node whose neighbours have to be asked for."""
        if self.graph is None or self.graph.told or self.cursor_id is None:
            return None
        return None if self.asked_neighbors and self.asked_neighbors[0] == self.cursor_id else self.cursor_id

    def take_neighbors(self, node_id: str, names: list[str], count: int) -> None:
        """Show neighbours that were asked for."""
        self.asked_neighbors = (node_id, names, count)
        self.draw()

    def neighbors_of(self, node_id: str, most: int = _NEIGHBORS_NAMED) -> tuple[list[str], int] | None:
        """Ids of a node's neighbours, `most` of them, and how many there are; None if that is not known."""
        if self.graph is None or self.mirror is None:
            return None
        if not self.graph.told:
            asked = self.asked_neighbors
            return (asked[1][:most], asked[2]) if asked and asked[0] == node_id else None
        table = self.mirror.table
        row = table.row_of(node_id)
        if row is None:
            return None
        count = self.graph.degree(row, table)
        if self.graph.rule in BY_RULE and count > MOST_LISTED:
            return [], count
        return table.ids.take(self.graph.neighbors(row, table)[:most]), count

    def move(self, way: str) -> None:
        """Move the cursor: in a drawing to the node that lies next."""
        if self.by_rule:
            return
        steps = {"page_up": -1, "page_down": 1, "home": -(1 << 40), "end": 1 << 40}
        if not self.drawn:
            super().move(way)
        elif way in steps:
            self.select(self.place + steps[way])
        elif self._drawing is not None and len(self._rows):
            self.select(self._drawing.towards(self.place, way))

    def select(self, place: int) -> None:
        """Put the cursor on a node."""
        self.place = min(max(0, place), max(0, len(self._rows) - 1))
        if self.mirror is not None and len(self._rows):
            self.cursor_id = self.mirror.table.ids[int(self._rows[self.place])]
        self.draw()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the clicked node."""
        if not self.drawn or self._drawing is None:
            super().on_click(event)
            return
        offset = event.get_content_offset(self)
        found = None if offset is None else self._drawing.at(offset.x - 1, offset.y - 2)
        if found is not None:
            self.select(found)

    # -- drawing ---------------------------------------------------------------------------------

    def count(self) -> int:
        """How many nodes are listed."""
        return 0 if self.graph is None or self.mirror is None else len(self._rows)

    def nothing(self) -> str:
        """What is said where there are none."""
        if self.graph is None:
            return self.trouble or "asking the federation who is whose neighbour…"
        return "no node matches the filter" if self._shown is not None else "this federation has no nodes"

    def draw(self) -> None:
        """Draw the graph, list it, or tell its rule."""
        if self.mirror is None:
            return
        self._tell()
        if self.graph is not None and self.by_rule:
            self.show([*self.make_head(), (), *self._rule_lines()])
            set_border(self, None, [])
        elif self.graph is not None and self.drawn:
            self.show([*self.make_head(), *self._drawn_lines()])
            dense = self._drawing is not None and self._drawing.dense
            set_border(self, None, [("edges of the node under the cursor", "$red-dim")] if dense else [])
        else:
            super().draw()

    def _tell(self) -> None:
        """Write the rule, the filter and the marks into the frame."""
        name = self.graph.name if self.graph is not None else "topology"
        title = [(name, "$red-bright")]
        if self.traffic:
            rate = per_second(self.traffic.total_rate("sent"))
            told = f"{self.traffic.totals.get('sent', 0):,} messages" + (f", {rate}" if rate else "")
            title.append((f" {self.glyphs.dot} {told}", "$red-text"))
            if waiting := self.traffic.totals.get("waiting", 0):
                title.append((f", {waiting:,} wait", "$red-pending"))
            if dropped := self.traffic.totals.get("dropped", 0):
                title.append((f", {dropped:,} dropped", "$red-failed"))
        if self._shown is not None and self.graph is not None:
            title.append((f" {self.glyphs.dot} {len(self._rows):,} of {self.graph.nodes:,} shown", "$red-pending"))
        if self.marks.count:
            title.append((f" {self.glyphs.dot} {self.marks.count:,} marked", "$red-busy"))
        if self.trouble and self.graph is not None:
            title.append((f" {self.glyphs.dot} {clip(self.trouble, 40)}", "$red-failed"))
        set_border(self, title)

    def make_head(self) -> list[Line]:
        """The topology in numbers, and the node under the cursor with its neighbours."""
        if self.graph is None:
            return []
        lines: list[Line] = [((f" {self.graph.told_in_numbers(self.glyphs.dash)}", "dim"),), self._current_line()]
        if self.by_rule or self.drawn or not len(self._rows):
            return lines
        counted = f"{'sends':>8}{'hears':>8}{'waits':>6} " if self.traffic else ""
        return [*lines, ((f"   {'node':<{self._name_width}} degree {counted} neighbours", "dim"),)]

    @property
    def _name_width(self) -> int:
        """Cells of a node's name in the list."""
        return max(8, min(24, self.size.width // 4))

    def _current_line(self) -> Line:
        """The node under the cursor and its neighbours, with what goes between them."""
        node_id = self.cursor_id
        if node_id is None or self.mirror is None or self.by_rule or not len(self._rows):
            return ()
        known = self.neighbors_of(node_id)
        if known is None:
            return ((f" {plain(node_id)}", "title"), ("  asking for its neighbours…", "dim"))
        names, count = known
        told = []
        for name in names:
            rate = self.traffic.edge_rate(node_id, name)
            told.append(plain(name) + (f" {per_second(rate)}" if rate else ""))
        more = f" and {count - len(names):,} more" if count > len(names) else ""
        return (
            (f" {plain(node_id)}", "title"),
            (f"  {plural(count, 'neighbour')}: " if count else "  no neighbours", "dim"),
            (", ".join(told) + more, "text"),
        )

    def _drawn_lines(self) -> list[Line]:
        drawing, mirror = self._drawing, self.mirror
        assert drawing is not None and mirror is not None and self.graph is not None
        codes = mirror.table.column("state")[self._rows].tolist()
        row = self.current_row
        near: frozenset[int] = frozenset()
        if row is not None and self.place < len(self._rows):
            others = np.isin(self._rows, self.graph.neighbors(row, mirror.table))
            near = frozenset(np.flatnonzero(others).tolist())
        styles = [self._style_of_node(place, STATE_NAMES[code]) for place, code in enumerate(codes)]
        lines = drawing.lines([self.glyphs.states[code] for code in codes], styles, self.place, near)
        return [((" ", "text"), *line) for line in lines]

    def _style_of_node(self, place: int, state: str) -> str:
        marked = self._is_marked(int(self._rows[place]))
        return state + ("+marked" if marked else "") + ("+cursor" if place == self.place else "")

    def _is_marked(self, row: int) -> bool:
        return bool(self.marks.count) and row < len(self.marks.mask) and bool(self.marks.mask[row])

    def make_line(self, place: int) -> Line:
        """A node, how many neighbours it has, what it sends and receives, and who they are."""
        mirror, graph = self.mirror, self.graph
        assert mirror is not None and graph is not None
        row = int(self._rows[place])
        table = mirror.table
        node_id = table.ids[row]
        state = STATE_NAMES[int(table.column("state")[row])]
        near = self._near(row)
        sign = self.glyphs.mark if self._is_marked(row) else self.glyphs.arrow if near else " "
        parts: list[tuple[str, str]] = [
            (sign, "busy"),
            (f"{self.glyphs.of(state)} ", state),
            (clip(plain(node_id), self._name_width).ljust(self._name_width + 1), "title" if near else "text"),
        ]
        known = self.neighbors_of(node_id)
        parts.append((f"{known[1]:>6,} " if known is not None else " " * 7, "text"))
        if self.traffic:
            told = [per_second(self.traffic.rate(node_id, name)) for name in ("sent", "received")]
            waiting = self.traffic.count(node_id, "waiting")
            parts.append((f"{told[0]:>8}{told[1]:>8}{'' if waiting is None else f'{waiting:,}':>6} ", "dim"))
        parts.append((" " + ", ".join(map(plain, known[0])) if known is not None else "", "dim"))
        return tuple(parts)

    def _near(self, row: int) -> bool:
        """Whether a node is a neighbour of the one under the cursor."""
        current = self.current_row
        if current is None or self.graph is None or self.mirror is None:
            return False
        if not self.graph.told:
            asked = self.asked_neighbors
            return bool(asked and asked[0] == self.cursor_id and self.mirror.table.ids[row] in asked[1])
        found = self.graph.neighbors(current, self.mirror.table)
        at = int(np.searchsorted(found, row))
        return at < len(found) and int(found[at]) == row

    def _rule_lines(self) -> list[Line]:
        """A star or a mesh of many nodes: what its rule says, and how its nodes are."""
        graph, mirror = self.graph, self.mirror
        assert graph is not None and mirror is not None
        width = max(20, self.size.width - 4)
        lines: list[Line] = [((f"  {row}", "title"),) for row in wrap(_SAID[graph.rule], width)]
        server = mirror.table.row_of("server") if graph.rule == "star" else None
        lines.append(())
        if server is not None:
            state = str(mirror.table.state_of(server))
            lines.append((
                ("  server    ", "dim"), (f"{self.glyphs.of(state)} {state}", state),
                (f"   {plural(graph.nodes, 'neighbour')}", "dim"),
            ))  # fmt: skip
        counts = {str(state): count for state, count in mirror.node_counts.items() if count}
        for number, name in enumerate(name for name in COUNT_ORDER if name in counts):
            label = f"{plural(graph.nodes, 'node')}, of them" if number == 0 else ""
            lines.append(((f"  {label:<26}", "dim"), (f"{self.glyphs.of(name)} {counts[name]:>9,} {name}", name)))
        each = "1 neighbour: the server" if graph.rule == "star" else plural(graph.most, "neighbour")
        lines += [(), (("  each has ", "dim"), (each, "text"))]
        return lines
