"""The columns that a list of nodes may have: how each is titled, sorted and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from red_tui.console.glyphs import STATE_NAMES
from red_tui.console.text import clip, clock_time, duration, number, plain

if TYPE_CHECKING:
    from red_tui.console.mirror import FederationMirror


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: What it is called in settings and commands.
        width: Its cells; 0 takes what is left.
        right: Whether it stands at the right.
        sort: The table's column by which it sorts.
        down: Whether the highest comes first.
        write: What it says of a row.
    """

    name: str
    width: int
    right: bool
    sort: str
    down: bool
    write: Callable[[FederationMirror, int], str]

    def fit(self, text: str, width: int) -> str:
        """`text` in `width` cells."""
        text = clip(text, width)
        return text.rjust(width) if self.right else text.ljust(width)


def _state(mirror: FederationMirror, row: int) -> str:
    return STATE_NAMES[int(mirror.table.column("state")[row])]


def _bundle(mirror: FederationMirror, row: int) -> str:
    bundle = mirror.table.value("bundle", row)
    return str(bundle) if bundle >= 0 else ""


def _host(mirror: FederationMirror, row: int) -> str:
    return mirror.host_of(mirror.table.value("bundle", row))


def _seconds(mirror: FederationMirror, row: int) -> str:
    seconds = mirror.table.value("seconds", row)
    return duration(seconds) if seconds == seconds else ""


def _loss(mirror: FederationMirror, row: int) -> str:
    loss = mirror.table.value("loss", row)
    return number(loss) if loss == loss else ""


COLUMNS = {
    column.name: column
    for column in (
        Column("id", 0, False, "", False, lambda mirror, row: plain(mirror.table.ids[row])),
        Column("role", 12, False, "role", False, lambda mirror, row: str(mirror.table.role_of(row))),
        Column("bundle", 6, True, "bundle", False, _bundle),
        Column("host", 10, False, "bundle", False, _host),
        Column("rounds", 6, True, "rounds", True, lambda mirror, row: f"{mirror.table.value('rounds', row):,}"),
        Column("rebuilds", 8, True, "rebuilds", True, lambda mirror, row: str(mirror.table.value("rebuilds", row))),
        Column("loss", 8, True, "loss", True, _loss),
        Column("took", 7, True, "seconds", True, _seconds),
        Column("since", 8, False, "since", True, lambda mirror, row: clock_time(mirror.table.value("since", row))),
        Column("group", 5, True, "group", False, lambda mirror, row: str(mirror.table.value("group", row))),
        Column("state", 10, False, "state", False, _state),
    )
}
"""The state stands first in every list, with its sign; `id` follows it always."""

DEFAULT_COLUMNS = ("id", "role", "bundle", "rounds", "loss", "took", "since")
