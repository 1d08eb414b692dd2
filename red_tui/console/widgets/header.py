"""The first line: federation, cluster, resources, round, loss: what matters at a glance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from red_tui.console.config.themes import Glyphs
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.crash_guard import CrashGuard
from red_tui.console.text import amount, clip, duration, number, plain, plural, sparkline
from red_tui.console.widgets.lists import Line, wrap
from red_tui.errors import RedError
from red_tui.protocol.figures import run_share, run_words
from red_tui.protocol.snapshot import RECENT

if TYPE_CHECKING:
    from red_tui.console.connection.connection import ConsoleConnection
    from red_tui.console.connection.mirror import FederationMirror


Part = tuple[str, str]

GAP = 2


@dataclass(frozen=True)
class Piece:
    """A group of texts that is shown whole or not at all.

    Attributes:
        parts: Texts with styles.
        rank: The higher it is, the sooner it is left out.
        joined: Whether it belongs to the nearest piece before that is not: it is never shown without that one.
    """

    parts: tuple[Part, ...]
    rank: int
    joined: bool = False

    @property
    def width(self) -> int:
        """Cells it takes, a gap included."""
        return sum(len(text) for text, _ in self.parts) + (1 if self.joined else GAP)


def chosen_of(pieces: Sequence[Piece], room: int) -> set[int]:
    """Which pieces fit, the most important first."""
    chosen: set[int] = set()
    leader = {place: place for place in range(len(pieces))}
    for place, piece in enumerate(pieces):
        if piece.joined and place:
            leader[place] = leader[place - 1]
    for place in sorted(leader, key=lambda place: (pieces[place].rank, place)):
        fits = pieces[place].width <= room
        if fits and (leader[place] == place or leader[place] in chosen):
            room -= pieces[place].width
            chosen.add(place)
    return chosen


class HeaderLine(CrashGuard, Widget):
    """Draws one line; what does not fit is left out, least important first."""

    def __init__(self, glyphs: Glyphs, id: str | None = None) -> None:
        super().__init__(id=id)
        self._glyphs = glyphs
        self._pieces: tuple[Piece, ...] = ()
        self._age = ""
        self.show(None, ConnectionPhase.CONNECTING, False)

    def show(self, mirror: FederationMirror | None, phase: ConnectionPhase, read_only: bool, age: float = 0.0) -> None:
        """Show this data; nothing is drawn if it says what is there already."""
        old = "" if age < 1 or phase is ConnectionPhase.LIVE else f"{duration(round(age))} ago"
        pieces = tuple(self._make_pieces(mirror, phase, read_only, age))
        if pieces != self._pieces or old != self._age:
            self._pieces, self._age = pieces, old
            self.refresh()

    def render(self) -> Content:
        """The line."""
        width = self.size.width
        name, *rest = self._pieces
        tail: list[Part] = [("  ", ""), (self._age, "$red-pending"), (" ", "")] if self._age else [(" ", "")]
        room = width - (name.width - GAP) - sum(len(text) for text, _ in tail)
        chosen = chosen_of(rest, room)
        room -= sum(rest[place].width for place in chosen)
        gap = GAP + 1 if room >= sum(not rest[place].joined for place in chosen) else GAP
        parts: list[Part] = list(name.parts)
        for place in sorted(chosen):
            parts.append((" " * (1 if rest[place].joined else gap), ""))
            parts += rest[place].parts
        used = sum(len(text) for text, _ in (*parts, *tail))
        parts.append((" " * max(0, width - used), ""))
        return Content.assemble(*parts, *tail)

    def _make_pieces(
        self, mirror: FederationMirror | None, phase: ConnectionPhase, read_only: bool, age: float
    ) -> Sequence[Piece]:
        badge: list[Part] = [(" red ", "bold $red-badge-text on $red-badge")]
        if mirror is None or not mirror.known:
            words = {ConnectionPhase.FAILED: "not connected", ConnectionPhase.CHOOSING: "choose a federation"}.get(
                phase, "connecting"
            )
            return [Piece((*badge, (f" {words}", "$red-dim")), 0)]
        name = clip(str(mirror.federation.get("id") or ""), 24)
        found = [Piece((*badge, (f" {name}", "bold $red-bright")), 0)]
        if mirror.timeline.state:
            found.append(Piece((("replay", "bold $red-pending"),), 1))
        else:
            if read_only:
                found.append(Piece((("read-only", "bold $red-pending"),), 1))
            found += self._cluster(mirror, phase)
            found += self._resources(mirror)
        found += self._building(mirror, age)
        found += self._round(mirror)
        return found + self._measures(mirror)

    def _measures(self, mirror: FederationMirror) -> list[Piece]:
        """Loss and accuracy, each with its round where that is not the one that the line names."""
        found: list[Piece] = []
        shown = mirror.round.number
        for name, rank, colour in (("loss", 3, "$red-bright"), ("accuracy", 4, "bold $red-bright")):
            told = mirror.latest(name)
            if told is None:
                continue
            word, value = ("loss ", number(told.value)) if name == "loss" else ("acc ", f"{told.value:.3f}")
            parts: list[Part] = [(word, "$red-dim"), (value, colour)]
            if told.round != shown:
                # A measure of an earlier round is never taken for one of the round beside it.
                parts.append((f" r{told.round}", "$red-dim"))
                shown = told.round
            found.append(Piece(tuple(parts), rank))
            if name == "loss":
                recent = islice(reversed(mirror.rounds), RECENT)
                losses = [result.loss for result in recent if result.loss is not None][::-1]
                if len(losses) > 1:
                    spark = sparkline(losses, 10, self._glyphs.ascii_only)
                    found.append(Piece(((spark, "$red-busy"),), 6, joined=True))
        return found

    def _cluster(self, mirror: FederationMirror, phase: ConnectionPhase) -> list[Piece]:
        glyphs = self._glyphs
        hosts = [host for host in mirror.hosts if host.alive]
        where = "local" if mirror.cluster.embedded else clip(mirror.cluster.address or "cluster", 22)
        gone = len(mirror.hosts) - len(hosts)
        light: Part = (
            (glyphs.of("ready"), "$red-ready")
            if phase is ConnectionPhase.LIVE
            else (glyphs.of("failed"), "$red-failed")
        )
        words = f"{glyphs.dot} {plural(len(hosts), 'host')}"
        found = [Piece((light, (f" {where}", "$red-dim")), 5)]
        if mirror.hosts:  # the first data comes before the hosts are known
            found.append(Piece(((words, "$red-dim"),), 9, joined=True))
        if gone:
            found.append(Piece(((f"{gone} lost", "$red-failed"),), 5, joined=True))
        return found

    def _resources(self, mirror: FederationMirror) -> list[Piece]:
        cluster, found = mirror.cluster, []
        for rank, name, used, total in (
            (6, "cpu", cluster.cpu_used, cluster.cpu_total),
            (7, "gpu", cluster.gpu_used, cluster.gpu_total),
        ):
            if not total:
                continue
            share = used / total
            full, empty = self._glyphs.bar(share, 6 if name == "cpu" else 4)
            colour = "$red-ready" if share < 0.95 else "$red-pending"
            found += [
                Piece(
                    ((f"{name} ", "$red-dim"), (f"{amount(round(used, 2))}/{amount(round(total, 2))}", "$red-text")),
                    rank,
                ),
                Piece(((full, colour), (empty, "$red-bar-empty")), rank + 3, joined=True),
            ]
        return found

    def _building(self, mirror: FederationMirror, age: float) -> list[Piece]:
        building = mirror.building
        if building is None or building.total < 2 or mirror.received is None:
            return []
        full, empty = self._glyphs.bar(building.done / building.total, 8)
        told = f"{building.done:,}/{building.total:,}"
        found = [
            Piece((("building ", "$red-dim"), (told, "bold $red-bright")), 2),
            Piece(((full, "$red-starting"), (empty, "$red-bar-empty")), 3, joined=True),
        ]
        now = mirror.received + age
        rate, left = building.rate(now), building.seconds_left(now)
        if rate is not None and left is not None:
            found.append(Piece(((f"{_rate(rate)}/s", "$red-dim"),), 8, joined=True))
            found.append(Piece(((f"{duration(max(1, round(left)))} left", "$red-dim"),), 5, joined=True))
        return found

    def _round(self, mirror: FederationMirror) -> list[Piece]:
        now, talking = mirror.round, mirror.session
        if talking.running:
            said_of: list[Part] = [("session ", "$red-dim"), (plural(talking.nodes, "node"), "bold $red-bright")]
            if talking.stopping:
                said_of.append((" stopping", "$red-pending"))
            return [Piece(tuple(said_of), 2)]
        if not now.number and not now.running:
            return [Piece((("no round yet", "$red-dim"),), 11)]
        said: list[Part] = [("round ", "$red-dim"), (str(now.number), "bold $red-bright")]
        if not now.running:
            return [Piece(tuple(said), 2)]
        words = run_words(now, up_to=self._glyphs.up_to)
        said.append((words[len(str(now.number)) :], "$red-dim"))
        share = run_share(now)
        full, empty = self._glyphs.bar(share, 8)
        found = [
            Piece(tuple(said), 2),
            Piece(((full, "$red-busy"), (empty, "$red-bar-empty")), 3, joined=True),
        ]
        if now.of:
            found.append(Piece(((f"{now.phase} {now.done}/{now.of}", "$red-dim"),), 8, joined=True))
        else:
            found.append(Piece(((now.phase, "$red-dim"),), 8, joined=True))
        left = mirror.seconds_left() if now.counted and not mirror.timeline.state else None
        if now.stopping:
            found.append(Piece((("stopping", "$red-pending"),), 2, joined=True))
        elif now.until is not None:
            found.append(Piece(((f"until {clip(_shown(now.until), 24)}", "$red-dim"),), 5, joined=True))
        elif left is not None:
            found.append(Piece(((f"{duration(round(left))} left", "$red-dim"),), 5, joined=True))
        return found


def _shown(until: str) -> str:
    """What ends a run, with its time as this console's clock shows it."""
    from red_tui.selection.stop_condition import Until

    try:
        return Until.parse(until).shown(time.time())
    except RedError:
        return until


def _rate(rate: float) -> str:
    """Nodes a second, with two digits where there are fewer than ten."""
    return f"{rate:,.0f}" if rate >= 9.95 else number(rate, 2)


def banner_lines(session: ConsoleConnection, age: float, glyphs: Glyphs, width: int) -> list[Line]:
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
    if mirror.known and session.phase is not ConnectionPhase.LIVE:
        why = session.error.message.split("\n")[0] if session.error is not None else "connecting again"
        old = f"data is {duration(round(age))} old" if age >= 1 else "data is fresh"
        rows = wrap(f"{glyphs.of('failed')} lost; {old}; trying again: {plain(why)}", width)
        return [((f" {row}", "error" if place == 0 else "warn"),) for place, row in enumerate(rows)]
    return [((f" {row}", "warn"),) for row in wrap(mirror.note, width)] if mirror.note else []
