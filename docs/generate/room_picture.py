"""The picture of the rooms: boxes in rows, each below all that use it, and arrows that run between the boxes."""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import pairwise

import networkx as nx

WIDTH, HEIGHT, RISE, GAP = 150, 40, 92, 22
LANE = 16
"""Width that an arrow needs where it passes a row."""
SWEEPS = 8

TITLE = "The rooms of red_tui, each below those that use it"
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" fill="#888"/></marker></defs>'
)


def picture(graph: nx.DiGraph, modules: Mapping[str, int]) -> str:
    """An SVG of a graph without circles; arrows that follow from others are left out.

    Args:
        graph: The rooms; an edge leads from a room to one that it uses.
        modules: How many modules each room has.
    """
    routes, rows = _routed(nx.transitive_reduction(graph), _row_of(graph))
    order = _ordered(routes, rows)
    place, width = _placed(order, modules)
    arrows = (_arrow(route, place, modules) for route in routes)
    boxes = (_box(room, place[room], count) for room, count in sorted(modules.items()))
    size = f'viewBox="0 0 {width:.0f} {len(order) * RISE - RISE + HEIGHT + 2 * GAP}"'
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    lines = (f"<title>{TITLE}</title>", TIP, background, *arrows, *boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" role="img">\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def _row_of(graph: nx.DiGraph) -> dict[str, int]:
    """Each room right below the lowest room that uses it; what nobody uses right above what it uses."""
    rows: dict[str, int] = {}
    for room in nx.lexicographical_topological_sort(graph):
        rows[room] = max((rows[user] + 1 for user in graph.predecessors(room)), default=0)
    for room in graph:
        if not graph.in_degree(room):
            rows[room] = min((rows[used] - 1 for used in graph.successors(room)), default=0)
    return rows


def _routed(reduced: nx.DiGraph, rows: dict[str, int]) -> tuple[list[list[str]], dict[str, int]]:
    """The way of each arrow, with a point in each row that it passes; and the rows of rooms and points."""
    routes = []
    for upper, lower in sorted(reduced.edges):
        passed = range(rows[upper] + 1, rows[lower])
        points = [f"{upper} to {lower} in {row}" for row in passed]
        rows = {**rows, **dict(zip(points, passed, strict=True))}
        routes.append([upper, *points, lower])
    return routes, rows


def _ordered(routes: list[list[str]], rows: Mapping[str, int]) -> list[list[str]]:
    """The rows from left to right, so that arrows are short: each stands in the middle of its neighbours."""
    near: dict[str, dict[bool, list[str]]] = {name: {True: [], False: []} for name in rows}
    for route in routes:
        for upper, lower in pairwise(route):
            near[upper][True].append(lower)
            near[lower][False].append(upper)
    order = [sorted(name for name in rows if rows[name] == number) for number in sorted(set(rows.values()))]
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        for row in order if downward else reversed(order):
            where = {name: (index + 0.5) / len(line) for line in order for index, name in enumerate(line)}
            middle = {
                name: sum(where[other] for other in beside) / len(beside)
                if (beside := near[name][not downward])
                else where[name]
                for name in row
            }
            row[:] = [name for _, name in sorted((middle[name], name) for name in row)]
    return order


def _placed(order: list[list[str]], modules: Mapping[str, int]) -> tuple[dict[str, tuple[float, float]], float]:
    """Left upper corner of each room and point, and the width of the whole."""
    widths = [[WIDTH if name in modules else LANE for name in row] for row in order]
    width = max(sum(row) + GAP * (len(row) + 1) for row in widths)
    place = {}
    for number, (row, sizes) in enumerate(zip(order, widths, strict=True)):
        left = (width - sum(sizes) - GAP * (len(row) - 1)) / 2
        for name, size in zip(row, sizes, strict=True):
            place[name] = (left, float(GAP + number * RISE))
            left += size + GAP
    return place, width


def _arrow(route: list[str], place: Mapping[str, tuple[float, float]], modules: Mapping[str, int]) -> str:
    path: list[str] = []
    x = y = 0.0
    for name in route:
        left, top = place[name]
        to_x = left + (WIDTH if name in modules else LANE) / 2
        if not path:
            path.append(f"M{to_x:.0f},{top + HEIGHT:.0f}")
        else:
            bend = (top - y) / 2
            end = top - 2 if name == route[-1] else top
            path.append(f"C{x:.0f},{y + bend:.0f} {to_x:.0f},{top - bend:.0f} {to_x:.0f},{end:.0f}")
            if name != route[-1]:
                path.append(f"V{top + HEIGHT:.0f}")
        x, y = to_x, top + HEIGHT
    return f'<path d="{" ".join(path)}" fill="none" stroke="#888" stroke-width="1.3" marker-end="url(#tip)"/>'


def _box(room: str, at: tuple[float, float], modules: int) -> str:
    x, y = at
    count = f"{modules} modules" if modules > 1 else "a module"
    middle = f'x="{x + WIDTH / 2:.0f}" text-anchor="middle"'
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#f6f1ee" stroke="#b3261e"/>'
        f'<text {middle} y="{y + 17:.0f}" font-size="14" fill="#222">{html.escape(room)}</text>'
        f'<text {middle} y="{y + 32:.0f}" font-size="10" fill="#666">{count}</text>'
    )
