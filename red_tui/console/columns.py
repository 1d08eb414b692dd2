"""How wide the grid's role columns are; a width once given stays, as another one would repaint every line."""

from __future__ import annotations

from collections.abc import Sequence

GAP = 2
"""Cells between two role columns."""

SLACK = 8
"""Items by which a column grows at a time."""

COUNT_WIDTH = 44
"""Cells that a column of counts and bars wants."""


def fit_columns(
    names: Sequence[str], most: Sequence[int], available: int, item: int, single: bool, kept: Sequence[int] = ()
) -> list[int]:
    """Widths of columns.

    Args:
        names: Their titles.
        most: Nodes in the fullest cell of each.
        available: Cells for all together, gaps included.
        item: Cells that a node takes.
        single: Whether a cell is one line of counts.
        kept: Widths from before; they are given again unless they are too narrow, or far too wide.
    """
    if not names:
        return []
    room = available - GAP * (len(names) - 1)
    if single:
        least = [max(len(name), len(f"{count:,}")) for name, count in zip(names, most, strict=True)]
        needed = wanted = [max(low, COUNT_WIDTH if count > 1 else 0) for low, count in zip(least, most, strict=True)]
    else:
        least = [max(len(name), min(item * count, item)) for name, count in zip(names, most, strict=True)]
        needed = [max(low, item * count) for low, count in zip(least, most, strict=True)]
        wanted = [
            max(low, item * -(-count // SLACK) * SLACK) if count > 1 else low
            for low, count in zip(least, most, strict=True)
        ]
    fresh = share(wanted, least, room)
    if len(kept) == len(fresh) and sum(kept) <= max(room, sum(least)):
        full = sum(kept) >= room
        fits = all(
            have >= (min(need, 0.75 * new) if full else min(need, new))
            for have, need, new in zip(kept, needed, fresh, strict=True)
        )
        far = any(have > 2 * want + SLACK * item for have, want in zip(kept, wanted, strict=True))
        if fits and not far:
            return list(kept)
    return fresh


def share(wanted: Sequence[int], least: Sequence[int], available: int) -> list[int]:
    """Widths between `least` and `wanted`: small wishes come true, large ones share what remains."""
    widths = list(least)
    left = available - sum(widths)
    while left > 0:
        open_ = [place for place, width in enumerate(widths) if width < wanted[place]]
        if not open_:
            break
        each = max(1, left // len(open_))
        for place in open_:
            more = min(each, wanted[place] - widths[place], left)
            widths[place] += more
            left -= more
    return widths
