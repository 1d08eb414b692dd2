"""Selections of nodes: rows of a table, seen as virtual nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from red_tui.checks import shown
from red_tui.errors import CommandRefused
from red_tui.nodes.ids import SERVER_ID
from red_tui.nodes.table import IntArray, NodeTable
from red_tui.runtime.virtual_node import NodeOwner, VirtualNode
from red_tui.selection import parse


class Selection(Sequence[VirtualNode]):
    """Nodes of a federation, by row; makes `VirtualNode`s as it is walked."""

    def __init__(self, owner: NodeOwner, rows: IntArray) -> None:
        self._owner = owner
        self.rows = rows

    @property
    def table(self) -> NodeTable:
        """The table whose rows these are."""
        return self._owner.table

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> VirtualNode: ...

    @overload
    def __getitem__(self, index: slice) -> Selection: ...

    def __getitem__(self, index: int | slice) -> VirtualNode | Selection:
        if isinstance(index, slice):
            return Selection(self._owner, self.rows[index])
        return VirtualNode.view(self._owner, int(self.rows[index]))

    def __iter__(self) -> Iterator[VirtualNode]:
        return (VirtualNode.view(self._owner, int(row)) for row in self.rows)

    @property
    def ids(self) -> list[str]:
        """Ids of the nodes."""
        return self._owner.table.ids.take(self.rows)

    def __repr__(self) -> str:
        shown = ", ".join(self.ids[:5] if len(self.rows) > 5 else self.ids)
        return f"<Selection of {len(self)}: {shown}{', …' if len(self.rows) > 5 else ''}>"


Selectable = Any
"""What names nodes: a query, an id, a node, a selection, an iterable of ids or nodes, a callable, or None for all."""


def select_of(owner: NodeOwner, what: Selectable = None) -> Selection:
    """The nodes that something names, the server only where it is named; see `FederatedBase.select`."""
    table, server = owner.table, owner.table.row_of(SERVER_ID)
    if what is None or (callable(what) and not isinstance(what, Selection)):
        clients = np.flatnonzero(table.present())
        clients = clients[clients != server] if server is not None else clients
        if what is not None:
            wanted = [bool(what(VirtualNode.view(owner, row))) for row in clients.tolist()]
            clients = clients[np.asarray(wanted, dtype=bool)]
        return Selection(owner, clients)
    rows = select_rows(owner, what)
    if isinstance(what, str) and SERVER_ID not in what:
        rows = rows[rows != server] if server is not None else rows
    return Selection(owner, rows)


def select_rows(owner: NodeOwner, what: Selectable) -> IntArray:
    """Rows that a query (in table order), ids or nodes (in the order given) name, the server's included.

    Raises:
        SelectionError: If a query cannot be read.
        CommandRefused: If an id or node is not in the federation.
    """
    table = owner.table
    if isinstance(what, Selection):
        if what.table is not table:
            raise CommandRefused(f"the selection is another federation's: make one with select of {owner.fed_id!r}")
        return what.rows
    if isinstance(what, str):
        row = table.row_of(what)
        if row is not None:
            return np.asarray([row], dtype=np.intp)
        return np.flatnonzero(parse(what).mask(table))
    if isinstance(what, VirtualNode):
        return _rows_of(owner, [what])
    if isinstance(what, bytes) or not isinstance(what, Iterable):
        raise CommandRefused(
            "nodes are named by a query, an id, a node, a selection, a list of ids or nodes, or a function of a node,"
            f" not by {shown(what)}"
        )
    return _rows_of(owner, what)


def _rows_of(owner: NodeOwner, items: Iterable[Any]) -> IntArray:
    rows = []
    for item in items:
        node_id = item.id if isinstance(item, VirtualNode) else item
        if isinstance(item, VirtualNode) and item.fed_id != owner.fed_id:
            raise CommandRefused(f"node {node_id!r} belongs to federation {item.fed_id!r}, not to {owner.fed_id!r}")
        row = owner.table.row_of(node_id) if isinstance(node_id, str) else None
        if row is None:
            raise CommandRefused(
                f"{node_id!r} is no node of federation {owner.fed_id!r}: its ids go from"
                f" {owner.table.ids[0] if len(owner.table) else 'nothing'} on; a query is one string"
            )
        rows.append(row)
    return np.asarray(rows, dtype=np.intp)
