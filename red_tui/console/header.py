"""The first line: federation, cluster, resources, round, loss: what matters at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from red_tui.console.glyphs import Glyphs
from red_tui.console.session import Phase
from red_tui.console.text import amount, clip, duration, number, plural, sparkline

if TYPE_CHECKING:
    from red_tui.console.mirror import FederationMirror

Part = tuple[str, str]


@dataclass(frozen=True)
class Piece:
    """A group of texts that is shown whole or not at all.

    Attributes:
        parts: Texts with styles.
        rank: The higher it is, the sooner it is left out.
    """

    parts: tuple[Part, ...]
    rank: int

    @property
    def width(self) -> int:
        """Cells it takes."""
        return sum(len(text) for text, _ in self.parts)


class HeaderLine(Widget):
    """Draws one line; what does not fit is left out, least important first."""

    def __init__(self, glyphs: Glyphs, id: str | None = None) -> None:
        super().__init__(id=id)
        self._glyphs = glyphs
        self._pieces: tuple[Piece, ...] = ()
        self._age = ""
        self.show(None, Phase.CONNECTING, False)

    def show(self, mirror: FederationMirror | None, phase: Phase, read_only: bool, age: float = 0.0) -> None:
        """Show this data; nothing is drawn if it says what is there already."""
        old = "" if age < 1 or phase is Phase.LIVE else f"{duration(round(age))} ago"
        pieces = tuple(self._make_pieces(mirror, phase, read_only))
        if pieces != self._pieces or old != self._age:
            self._pieces, self._age = pieces, old
            self.refresh()

    def render(self) -> Content:
        """The line."""
        width = self.size.width
        name, *rest = self._pieces
        tail: list[Part] = [("  ", ""), (self._age, "$red-pending"), (" ", "")] if self._age else []
        room = width - name.width - sum(len(text) for text, _ in tail)
        chosen: set[int] = set()
        for place in sorted(range(len(rest)), key=lambda place: rest[place].rank):
            if rest[place].width + 2 <= room:
                room -= rest[place].width + 2
                chosen.add(place)
        gap = 3 if room >= len(chosen) else 2
        parts: list[Part] = list(name.parts)
        for place, piece in enumerate(rest):
            if place in chosen:
                parts.append((" " * gap, ""))
                parts += piece.parts
        used = sum(len(text) for text, _ in (*parts, *tail))
        parts.append((" " * max(0, width - used), ""))
        return Content.assemble(*parts, *tail)

    def _make_pieces(self, mirror: FederationMirror | None, phase: Phase, read_only: bool) -> Sequence[Piece]:
        glyphs = self._glyphs
        badge: list[Part] = [(" red ", "bold $red-badge-text on $red-badge")]
        if mirror is None or not mirror.known:
            words = {Phase.FAILED: "not connected", Phase.CHOOSING: "choose a federation"}.get(phase, "connecting")
            return [Piece((*badge, (f" {words}", "$red-dim")), 0)]
        name = clip(str(mirror.federation.get("id") or ""), 24)
        found = [Piece((*badge, (f" {name}", "bold $red-bright")), 0)]
        if read_only:
            found.append(Piece((("read-only", "bold $red-pending"),), 1))
        found.append(self._cluster(mirror, phase))
        found += self._resources(mirror)
        found += self._round(mirror)
        losses = [result.loss for result in mirror.rounds if result.loss is not None]
        if losses:
            found.append(Piece((("loss ", "$red-dim"), (number(losses[-1]), "$red-bright")), 3))
            if len(losses) > 1:
                found.append(Piece(((sparkline(losses, 8, glyphs.ascii_only), "$red-busy"),), 7))
        accuracy = mirror.metric("accuracy")
        if accuracy is not None:
            found.append(Piece((("acc ", "$red-dim"), (f"{accuracy:.3f}", "bold $red-bright")), 4))
        return found

    def _cluster(self, mirror: FederationMirror, phase: Phase) -> Piece:
        glyphs = self._glyphs
        hosts = [host for host in mirror.hosts if host.alive]
        where = "local" if mirror.cluster.embedded else clip(mirror.cluster.address or "cluster", 22)
        gone = len(mirror.hosts) - len(hosts)
        light: Part = (
            (glyphs.of("ready"), "$red-ready") if phase is Phase.LIVE else (glyphs.of("failed"), "$red-failed")
        )
        words = f" {where} {glyphs.dot} {plural(len(hosts), 'host')}" + (f", {gone} lost" if gone else "")
        return Piece((light, (words, "$red-dim")), 5)

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
            found.append(
                Piece(
                    (
                        (f"{name} ", "$red-dim"),
                        (full, colour),
                        (empty, "$red-bar-empty"),
                        (f" {amount(round(used, 2))}/{amount(round(total, 2))}", "$red-text"),
                    ),
                    rank,
                )
            )
        return found

    def _round(self, mirror: FederationMirror) -> list[Piece]:
        now = mirror.round
        if not now.number and not now.running:
            return [Piece((("no round yet", "$red-dim"),), 8)]
        parts: list[Part] = [("round ", "$red-dim"), (str(now.number), "bold $red-bright")]
        if now.target is not None and now.running:
            parts.append((f"/{now.target}", "$red-dim"))
        if now.running:
            full, empty = self._glyphs.bar(now.done / now.of if now.of else 0.0, 6)
            parts += [(" ", ""), (full, "$red-busy"), (empty, "$red-bar-empty"), (f" {now.phase}", "$red-dim")]
            if now.of:
                parts.append((f" {now.done}/{now.of}", "$red-text"))
        found = [Piece(tuple(parts), 2)]
        if now.running:
            left = mirror.seconds_left()
            words = "stopping" if now.stopping else ""
            if left is not None and not now.stopping:
                words = f"{duration(round(left))} left"
            if words:
                found.append(Piece(((words, "$red-pending" if now.stopping else "$red-dim"),), 9))
        return found
