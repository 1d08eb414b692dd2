"""Numbers, spans and counts made readable, in few cells."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from red_tui.plain_text import REPLACEMENT as REPLACEMENT, plain as plain, plain_lines as plain_lines

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*#@"


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in at most `width` characters."""
    if len(text) <= width:
        return text
    return text[: max(0, width - 1)] + ellipsis if width > 0 else ""


def clip_left(text: str, width: int, ellipsis: str = "…") -> str:
    """The end of `text` in at most `width` characters."""
    if len(text) <= width:
        return text
    return ellipsis + text[len(text) - width + 1 :] if width > 0 else ""


def clock_time(epoch: float) -> str:
    """Local time of day of an epoch second."""
    return time.strftime("%H:%M:%S", time.localtime(epoch))


def duration(seconds: float) -> str:
    """A span as an operator says it: `0.31 s`, `12 s`, `4 m`, `3 h`, `2 d`."""
    if seconds < 0 or math.isnan(seconds):
        return "-"
    if seconds < 10 and not isinstance(seconds, int):
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} m"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86400:.0f} d"


def number(value: float | None, digits: int = 3) -> str:
    """A measure with `digits` significant digits; `-` for none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if 10**digits <= abs(value) < 1e6 or round(abs(value)) == 10**digits:
        return str(round(value))  # `790`, not `7.9e+02`
    return f"{value:.{digits}g}"


def amount(value: float) -> str:
    """A share of a resource: `8`, `0.45`, `12.5`."""
    return str(int(value)) if value == int(value) else f"{value:.2f}"


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """The last `width` values as blocks, lowest to highest."""
    finite = [value for value in values[-width:] if value is not None and math.isfinite(value)]
    if not finite:
        return ""
    signs = ASCII_BLOCKS if ascii_only else BLOCKS
    low, high = min(finite), max(finite)
    if high <= low:
        return signs[0] * len(finite)
    half = high / 2 - low / 2  # halves, as the whole span may be more than a float holds
    return "".join(signs[min(7, int((value / 2 - low / 2) / half * 8))] if half else signs[0] for value in finite)


def plural(count: int, word: str) -> str:
    """`1 node`, `3 nodes`, `1,000,000 nodes`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def short_count(count: int) -> str:
    """A count in at most five cells: `999`, `12.3k`, `345k`, `1.2M`."""
    if count < 1000:
        return str(count)
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            value = count / size
            # Never rounded up: 999 of 1,000 nodes ready are not all of them.
            return f"{int(value * 10) / 10:g}{letter}" if value < 100 else f"{int(value)}{letter}"
    return str(count)


def nodes_told(count: int, servers: int) -> str:
    """How many nodes there are, as everywhere: a server is told beside them, not among them."""
    beside = "" if not servers else " + server" if servers == 1 else f" + {servers} servers"
    return f"{plural(count, 'node')}{beside}"
