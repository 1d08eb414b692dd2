"""What stands under the header while something is wrong: the cluster is lost, or the federation has a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from red_tui.console.glyphs import Glyphs
from red_tui.console.lines import Line, wrap
from red_tui.console.session import Phase
from red_tui.console.text import duration, plain

if TYPE_CHECKING:
    from red_tui.console.session import Session


def banner_lines(session: Session, age: float, glyphs: Glyphs, width: int) -> list[Line]:
    """The lines of the banner; none if all is well.

    Args:
        session: The session.
        age: Seconds since the data was confirmed.
        glyphs: The signs.
        width: Cells to wrap to.
    """
    mirror = session.mirror
    if mirror is None:
        return []
    if mirror.known and session.phase is not Phase.LIVE:
        why = session.error.message.split("\n")[0] if session.error is not None else "connecting again"
        old = f"data is {duration(round(age))} old" if age >= 1 else "data is fresh"
        rows = wrap(f"{glyphs.of('failed')} lost; {old}; trying again: {plain(why)}", width)
        return [((f" {row}", "error" if place == 0 else "warn"),) for place, row in enumerate(rows)]
    return [((f" {row}", "warn"),) for row in wrap(mirror.note, width)] if mirror.note else []
