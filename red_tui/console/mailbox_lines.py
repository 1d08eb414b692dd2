"""A node's neighbours and its mailbox, as lines of its detail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from red_tui.console.lines import Line, labelled
from red_tui.console.text import duration, plain, plural, short_count
from red_tui.console.traffic import Traffic, per_second

_LONG = 200
_NAMED = 3


def mailbox_lines(node_id: str, talk: Mapping[str, Any], traffic: Traffic | None, width: int) -> list[Line]:
    """What a node sent and received; nothing before its first message.

    Args:
        node_id: The node.
        talk: Its counts.
        traffic: Two readings of them, for rates.
        width: Cells to wrap to.
    """
    sent, received, waiting = (_count(talk, name) for name in ("sent", "received", "waiting"))
    if not (sent or received or waiting):
        return []
    traffic = traffic or Traffic()
    rates = [per_second(traffic.rate(node_id, name)) for name in ("sent", "received")]
    told = f"{sent:,}" + (f", {rates[0]}" if rates[0] else "")
    lines = labelled("sent", f"{told}, {_bytes(_count(talk, 'sent_bytes'))}", width)
    latency = talk.get("latency")
    late = f", {duration(float(latency))} on the way" if isinstance(latency, (int, float)) and latency > 0 else ""
    lines += labelled("received", f"{received:,}" + (f", {rates[1]}" if rates[1] else "") + late, width)
    if waiting:
        lines += labelled("waiting", f"{waiting:,} in its mailbox", width, "pending")
    for name, words in (("doubles", "came twice, read once"), ("dropped", "found no room")):
        if _count(talk, name):
            whose = _senders(talk) if name == "dropped" else ""
            lines += labelled(name, f"{_count(talk, name):,} {words}{whose}", width, "pending")
    return lines


def _senders(talk: Mapping[str, Any]) -> str:
    """Whose messages were dropped, those with most first."""
    counts = {name: int(one[2]) for name, one in (talk.get("from") or {}).items() if len(one) > 2 and one[2]}
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count:,} of {plain(name)}" for name, count in most[:_NAMED])
    more = f" and {len(most) - _NAMED:,} others" if len(most) > _NAMED else ""
    return f": {shown}{more}" if shown else ""


def neighbor_lines(node_id: str, talk: Mapping[str, Any], traffic: Traffic | None, width: int) -> list[Line]:
    """What went to each neighbour of a session, the busiest first."""
    traffic = traffic or Traffic()
    to = talk.get("to") or {}
    ways = sorted(to.items(), key=lambda way: (-int(way[1][0]), way[0]))
    lines: list[Line] = []
    for name, (messages, size) in ways[:_LONG]:
        rate = per_second(traffic.edge_rate(node_id, name))
        words = plural(int(messages), "message") + (f", {rate}" if rate else "") + f", {_bytes(int(size))}"
        lines.append(((f"  {plain(name)[:20]:<21}", "key"), (words, "text")))
    if len(ways) > _LONG:
        lines.append(((f"  and {len(ways) - _LONG:,} more", "dim"),))
    return lines


def _count(talk: Mapping[str, Any], name: str) -> int:
    value = talk.get(name)
    return int(value) if isinstance(value, (int, float)) else 0


def _bytes(count: int) -> str:
    return f"{short_count(count)}B" if count >= 1000 else f"{count} B"
