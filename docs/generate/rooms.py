"""The map of the rooms: which package uses which, counted in the imports of the code, and a picture of it."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import grimp
import networkx as nx

from docs.generate.docstrings import first_sentence
from docs.generate.markdown import sentence, table
from docs.generate.room_picture import picture

PACKAGE = "red_tui"
ROOT = Path(__file__).parents[2]

INTRODUCTION = """\
# The rooms

A *room* is a package, or a module that stands alone, right below `red_tui`. An arrow means that modules of the upper
room import modules of the lower one. Imports that only type checkers see are left out. Arrows point down only. The
picture leaves out the arrows that follow from others; the table has them all.

![The rooms and what they use](rooms.svg)

"""


@dataclass(frozen=True)
class RoomGraph:
    """Rooms as nodes, and as edges how many imports lead from one to another.

    Attributes:
        graph: The rooms; an edge's `imports` says how many modules of the one import modules of the other.
        modules: The modules of each room.
    """

    graph: nx.DiGraph
    modules: dict[str, list[str]]

    @classmethod
    def of_the_package(cls) -> RoomGraph:
        """Read the imports of the code.

        Raises:
            ValueError: If rooms import each other in a circle.
        """
        imports = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True)
        modules: dict[str, list[str]] = {}
        for module in sorted(imports.modules - {PACKAGE}):
            modules.setdefault(_room(module), []).append(module)
        counts: Counter[tuple[str, str]] = Counter()
        for module in imports.modules - {PACKAGE}:
            for used in imports.find_modules_directly_imported_by(module):
                if used != PACKAGE and _room(used) != _room(module):
                    counts[_room(module), _room(used)] += 1
        graph = nx.DiGraph()
        graph.add_nodes_from(sorted(modules))
        graph.add_weighted_edges_from(sorted((*edge, count) for edge, count in counts.items()), weight="imports")
        if not nx.is_directed_acyclic_graph(graph):
            circle = " → ".join(edge[0] for edge in nx.find_cycle(graph))
            raise ValueError(f"rooms import each other in a circle: {circle}")
        return cls(graph, modules)

    def page(self) -> str:
        """The table of rooms, then the modules of each."""
        rows, sections = [], []
        for room in self._from_the_top():
            used = self.graph[room]
            order = sorted(used, key=lambda other: (-used[other]["imports"], other))
            uses = ", ".join(f"{other} {used[other]['imports']}" for other in order)
            rows.append((f"[`{room}`](#{room})", _says(f"{PACKAGE}.{room}"), str(len(self.modules[room])), uses))
            listed = [
                (f"`{name.removeprefix(PACKAGE + '.')}`", _says(name), _defines(name)) for name in self.modules[room]
            ]
            sections.append(f"\n## {room}\n\n" + table(("module", "what it holds", "classes"), listed))
        head = ("room", "what it holds", "modules", "uses, and in how many imports")
        return INTRODUCTION + table(head, rows) + "".join(sections)

    def picture(self) -> str:
        """The rooms as an SVG."""
        return picture(self.graph, {room: len(names) for room, names in self.modules.items()})

    def _from_the_top(self) -> list[str]:
        return list(nx.lexicographical_topological_sort(self.graph))


def _room(module: str) -> str:
    return module.split(".")[1]


def _source(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _says(module: str) -> str:
    return sentence(first_sentence(ast.get_docstring(_source(module))))


def _defines(module: str) -> str:
    names = (node.name for node in _source(module).body if isinstance(node, ast.ClassDef))
    return ", ".join(f"`{name}`" for name in names if not name.startswith("_"))
