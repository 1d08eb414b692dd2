"""What a grid says besides its nodes: its frame, and what to do where nothing is built or nothing is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from red_tui.console.actions import key_name
from red_tui.console.canvas import NO_MATCH
from red_tui.console.glyphs import COUNT_ORDER
from red_tui.console.text import clip, nodes_told, plain
from red_tui.nodes.states import NodeState

if TYPE_CHECKING:
    from red_tui.console.grid import Grid
    from red_tui.console.lines import Line

Parts = list[tuple[str, str]]

FIRST_STEPS = {
    "wave": "builds as many nodes as there is room for",
    "round": "runs a round, and builds what it needs",
    "help": "tells all keys, and what the words mean",
}
"""What is said below nodes of which none is built, by action id."""


def frame_words(grid: Grid) -> tuple[Parts, Parts]:
    """Title and subtitle of the frame: nodes, filter and marks; the node under the cursor, and counts by state."""
    dot, mirror = grid.glyphs.dot, grid.mirror
    counts = {str(state): count for state, count in mirror.node_counts.items()}
    title = [(nodes_told(mirror.total, mirror.server_total), "$red-bright")]
    if grid.filtered_by is not None and grid.arrangement is not None:
        by = f" by {clip(grid.asked, 32)}" if grid.asked else ""
        title.append((f" {dot} {grid.arrangement.total:,} shown{by}", "$red-pending"))
    if part := grid.part_in_view():
        title.append((f" {dot} {part}", "$red-dim"))
    if grid.marks.count:
        title.append((f" {dot} {grid.marks.count:,} marked", "$red-busy"))
    # Where no panel beside the grid tells of it, the frame names the node under the cursor.
    named = grid.cursor_id is not None and not grid.app.has_class("wide")
    here = f"{clip(plain(grid.cursor_id or ''), 24)} {dot} " if named else ""
    told = "  ".join(f"{counts[name]:,} {name}" for name in COUNT_ORDER if counts[name])
    if len(here) + len(told) > grid.outer_size.width - 6:
        told = "  ".join(f"{grid.glyphs.of(name)} {counts[name]:,}" for name in COUNT_ORDER if counts[name])
    return title, [*([(here, "$red-bright")] if here else []), (told, "$red-dim")]


def hint_lines(grid: Grid) -> Sequence[Line]:
    """What to do where nothing is built yet, and that a filter hides all nodes."""
    if grid.filtered_by is not None:
        empty = grid.arrangement is not None and not grid.arrangement.total
        return [((f"  {NO_MATCH}", "pending"),)] if empty else []
    mirror, actions = grid.mirror, getattr(grid.app, "actions", None)
    untouched = mirror.total and mirror.node_counts[NodeState.VIRTUAL] == mirror.total and not mirror.round.number
    if actions is None or actions.read_only or not untouched or mirror.session.running:
        return []
    lines: list[Line] = [(("  no node has a process yet", "text"),)]
    for name, words in FIRST_STEPS.items():
        if actions.keys.get(name):
            lines.append(((f"  {key_name(actions.keys[name][0]):<3}", "key"), (words, "dim")))
    return lines
