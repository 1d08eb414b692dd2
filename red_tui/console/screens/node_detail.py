"""One node: what the table says at once, and what the link tells when asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from red_tui.console.config.themes import Glyphs
from red_tui.console.connection.traffic import Traffic, per_second
from red_tui.console.text import (
    amount,
    clock_time,
    duration,
    number,
    plain,
    plain_lines,
    plural,
    short_count,
    sparkline,
)
from red_tui.console.widgets.lists import Line, Lines, labelled, set_border

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import FederationMirror
    from red_tui.console.connection.traffic import Traffic


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


Detail = Mapping[str, Any]

_LEVELS = {
    "error": ("failed", "failed"), "critical": ("failed", "failed"), "warn": ("pending", "!"),
    "warning": ("pending", "!"),
}  # fmt: skip
"""Style of a log line, and its sign: a level is not told by colour alone."""

_WITHOUT_PROCESS = frozenset({"virtual", "released"})


def _rounds_over(mirror: FederationMirror) -> int:
    """Number of the last round that counts: the one in hand is none yet."""
    return next((result.number for result in reversed(mirror.rounds) if result.state == "done"), mirror.round.number)


def summary(
    mirror: FederationMirror,
    row: int,
    detail: Detail | None,
    glyphs: Glyphs,
    width: int,
    traffic: Traffic | None = None,
) -> list[Line]:
    """The lines of the panel.

    Args:
        mirror: The federation.
        row: The node's row.
        detail: What the link told of it, if it has.
        glyphs: The signs.
        width: Cells to wrap to.
        traffic: Two readings of its messages, for rates.
    """
    table, told = mirror.table, detail or {}
    state = str(table.state_of(row))
    lines: list[Line] = [
        (
            ("state    ", "dim"),
            (f"{glyphs.of(state)} {state}", state),
            (f"  since {clock_time(table.value('since', row))}", "dim"),
        )
    ]
    why = plain(told.get("why") or "")
    if why:
        lines += labelled("why", why, width)
    lines += last_error(told.get("last_error"), state, width)
    if told.get("untold"):  # the rest is what the table says
        lines += labelled("detail", f"not known: {plain(told['untold'])}", width)
    lines += labelled("roles", str(table.role_of(row)), width)
    lines += labelled("bundle", _place(mirror, row, told), width)
    if told.get("actor") and state not in _WITHOUT_PROCESS:
        pid = f", pid {told['pid']}" if told.get("pid") and state != "failed" else ""
        lines += labelled("actor", plain(told["actor"]) + pid, width)
    rounds = table.value("rounds", row)
    seconds = table.value("seconds", row)
    last = f" {glyphs.dot} last {duration(seconds)}" if seconds == seconds else ""
    lines += labelled("rounds", f"{rounds} of {_rounds_over(mirror)}{last}" if rounds else f"none{last}", width)
    loss, when = table.value("loss", row), ""
    if loss != loss and told.get("loss_round"):  # a journal has some, of some rounds
        loss, when = float(told["loss"]), f" in round {told['loss_round']}"
    if loss != loss and told.get("loss_unknown"):
        lines += labelled("loss", plain(told["loss_unknown"]), width)
    if loss == loss:
        losses = [value for value in told.get("losses") or () if isinstance(value, (int, float))]
        spark = sparkline(losses, 12, glyphs.ascii_only) if len(losses) > 1 else ""
        lines.append(
            (("loss     ", "dim"), (spark, "busy"), (" " if spark else "", "text"), (number(loss) + when, "text"))
        )
    metrics = [(name, value) for name, value in (told.get("metrics") or {}).items() if name != "loss" or loss != loss]
    for name, value in metrics[:6]:
        shown = number(value) if isinstance(value, (int, float)) else plain(value)
        lines += labelled(plain(name)[:8], shown, width)
    if told.get("talk"):
        lines += mailbox_lines(table.ids[row], told["talk"], traffic, width)
    rebuilds = table.value("rebuilds", row)
    if rebuilds:
        lines += labelled("rebuilt", f"{rebuilds} times" if rebuilds > 1 else "once", width)
    if told.get("state_kept") and state in _WITHOUT_PROCESS | {"failed"}:
        lines += labelled("kept", "its state, for the next build", width)
    return lines


def whole(
    mirror: FederationMirror, row: int, detail: Detail, glyphs: Glyphs, width: int, traffic: Traffic | None = None
) -> list[Line]:
    """The lines of the detail screen: the summary, then messages by neighbour, error, log and config."""
    lines = summary(mirror, row, detail, glyphs, width, traffic)
    ways = neighbor_lines(mirror.table.ids[row], detail.get("talk") or {}, traffic, width)
    if ways:
        lines += [*_heading("messages to neighbours"), *ways]
    traceback = detail.get("traceback")
    if traceback:
        lines += _heading("traceback")
        lines += [((f"  {text}", "failed"),) for text in plain_lines(traceback)]
    log = detail.get("log") or ()
    if log:
        lines += _heading("log")
        for epoch, level, text in log:
            style, sign = _LEVELS.get(str(level).lower(), ("text", " "))
            sign = glyphs.of(sign) if len(sign) > 1 else sign
            first, *more = plain_lines(text)
            lines.append(((f"  {clock_time(float(epoch))} ", "dim"), (f"{sign} {first}", style)))
            lines += [((" " * 13, "dim"), (line, style)) for line in more]
    config = detail.get("config") or {}
    if config:
        lines += _heading("config")
        name_width = min(24, max(len(plain(name)) for name in config)) + 2
        for name, value in config.items():
            lines += [((" ", "dim"), *line) for line in labelled(
                f" {plain(name)}", _told(value), width - 1, label_width=name_width + 1)]  # fmt: skip
    return lines


def last_error(told: object, state: str, width: int) -> list[Line]:
    """When a node that goes on had its last error, and which; of one that has failed `why` says it."""
    if not isinstance(told, Mapping) or state == "failed":
        return []
    when = clock_time(float(told.get("time") or 0.0))
    where = f", round {told['round']}" if told.get("round") else ""
    return labelled("error", f"{when}{where}: {plain(told.get('text') or '')}", width)


def _heading(text: str) -> list[Line]:
    return [(), ((text, "title"),)]


def _told(value: object) -> str:
    """A value of the config as its layout would write it, not as Python does."""
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(name)} {_told(one)}" for name, one in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_told, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return plain(value)


def _place(mirror: FederationMirror, row: int, told: Detail) -> str:
    index = mirror.table.value("bundle", row)
    if index < 0:
        return "none yet: in the pool"
    bundle = next((bundle for bundle in mirror.bundles if bundle.idx == index), None)
    host = bundle.host if bundle is not None else plain(told.get("host") or "")
    shares = told.get("resources") or ({"CPU": bundle.cpu, "GPU": bundle.gpu} if bundle is not None else {})
    words = [
        f"{plain(name).lower()} {amount(float(value))}"
        for name, value in shares.items()
        if isinstance(value, (int, float)) and value
    ]
    where = f"{index} on {host}" if host else f"{index}, waiting for a host"
    return ", ".join([where, *words])


class DetailPanel(Lines):
    """Shows the node under the cursor, beside the grid."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._glyphs = glyphs

    def update(
        self,
        mirror: FederationMirror,
        node_id: str | None,
        detail: Detail | None,
        hints: Line,
        traffic: Traffic | None = None,
    ) -> None:
        """Show this node; `hints` says what can be done with it."""
        row = None if node_id is None else mirror.table.row_of(node_id)
        title = plain(node_id) if node_id is not None and row is not None else "no node"
        set_border(self, [(title, "$red-bright")])
        if row is None:
            self.show([])
            return
        lines = summary(mirror, row, detail, self._glyphs, max(20, self.size.width), traffic)
        self.show([*lines, (), hints] if hints else lines)

    def tell(self, title: str, lines: list[Line]) -> None:
        """Show what a list tells of its selected line."""
        set_border(self, [(title, "$red-bright")])
        self.show(lines)
