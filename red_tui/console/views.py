"""Rounds and placement, as lists of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from red_tui.console.chrome import set_border
from red_tui.console.glyphs import Glyphs
from red_tui.console.lines import Line, Lines
from red_tui.console.text import amount, clip, clock_time, duration, number, plural, sparkline

if TYPE_CHECKING:
    from red_tui.console.mirror import Bundle, Changes, Event, FederationMirror, Host, RoundResult


class ListView(Lines):
    """A list with a selected line."""

    FIXED = 0
    """Lines at the top that cannot be selected."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.glyphs = glyphs
        self._place = 0

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Draw the mirror's present data."""
        raise NotImplementedError

    def move(self, way: str) -> None:
        """Move the selected line."""
        page = max(1, self.size.height - self.FIXED - 1)
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page, "home": -(1 << 30), "end": 1 << 30}
        last = max(0, len(self.lines) - self.FIXED - 1)
        self._place = min(max(0, self._place + steps.get(way, 0)), last)
        self.show(self.lines, self._place + self.FIXED if self.lines else None)
        self.reveal(self._place + self.FIXED if self._place else 0)


class RoundsView(ListView):
    """One line a round, newest first, under the course of loss and accuracy."""

    FIXED = 4

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Draw the rounds."""
        if changes is not None and not (changes.full or changes.parts & {"rounds", "round"}):
            return
        rounds = list(mirror.rounds)
        set_border(self, [(plural(len(rounds), "round"), "$red-bright")])
        names = list(dict.fromkeys(name for result in rounds[-50:] for name in result.metrics))[:4]
        width = max(20, min(100, self.size.width - 24))
        lines: list[Line] = [self._course("loss", [r.loss for r in rounds], width)]
        metric = "accuracy" if "accuracy" in names else (names[0] if names else "")
        lines.append(self._course(metric, [r.metrics.get(metric) for r in rounds], width) if metric else ())
        head = f"{'round':>7}  {'loss':>9}" + "".join(f"  {clip(name, 9):>9}" for name in names)
        head += f"  {'train loss':>10}  {'nodes':>7}  {'failed':>6}  {'took':>7}  ended"
        lines += [(), ((head, "dim"),)]
        lines += [self._row(result, names) for result in reversed(rounds)]
        if not rounds:
            lines.append((("  no round is over yet: r runs one", "dim"),))
        self.show(lines, self._place + self.FIXED if rounds else None)

    def _course(self, name: str, values: list[float | None], width: int) -> Line:
        known = [value for value in values if value is not None]
        spark = sparkline(known, width, self.glyphs.ascii_only)
        return ((f"{name[:9]:>9} ", "dim"), (f"{number(known[-1]) if known else '-':>8} ", "key"), (spark, "busy"))

    def _row(self, result: RoundResult, names: list[str]) -> Line:
        failed = result.state == "failed"
        state = "failed" if failed else "ready"
        measures = f"  {number(result.loss, 4):>9}"
        measures += "".join(f"  {number(result.metrics.get(name), 4):>9}" for name in names)
        return (
            (f" {self.glyphs.of(state)} ", state),
            (f"{result.number:>4}", "text"),
            (measures, "text"),
            (f"  {number(result.train_loss, 4):>10}  {result.participants:>7,}", "dim"),
            (f"  {result.failed:>6,}", "failed" if result.failed else "dim"),
            (f"  {duration(result.seconds):>7}  {clock_time(result.ended) if result.ended else ''}", "dim"),
        )


class PlacementView(ListView):
    """Hosts with what they have and what bundles take of it; then each host's bundles."""

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Draw hosts and bundles."""
        if changes is not None and not (changes.full or changes.placement or changes.parts & {"hosts", "bundles"}):
            return
        title = f"{plural(len(mirror.hosts), 'host')}, {plural(len(mirror.bundles), 'bundle')}"
        set_border(self, [(title, "$red-bright")])
        nodes = self._nodes_by_bundle(mirror)
        lines: list[Line] = []
        known = {host.name for host in mirror.hosts}
        for host in mirror.hosts:
            mine = [bundle for bundle in mirror.bundles if bundle.host == host.name]
            lines += [self._host(host, mine), *(self._bundle(bundle, nodes) for bundle in mine), ()]
        others = [bundle for bundle in mirror.bundles if bundle.host not in known]
        if others:
            lines += [(("without a host", "pending"),), *(self._bundle(bundle, nodes) for bundle in others)]
        self.show(lines or [(("  no hosts are known yet", "dim"),)], min(self._place, max(0, len(lines) - 1)))

    def _nodes_by_bundle(self, mirror: FederationMirror) -> dict[int, int]:
        import numpy as np

        bundles = mirror.table.column("bundle")[mirror.table.present()]
        found, counts = np.unique(bundles[bundles >= 0], return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    def _host(self, host: Host, bundles: list[Bundle]) -> Line:
        asked = sum(bundle.cpu for bundle in bundles)
        full, empty = self.glyphs.bar(asked / host.cpu if host.cpu else 0.0, 16)
        state = "ready" if host.alive else "failed"
        line: list[tuple[str, str]] = [
            (f" {self.glyphs.of(state)} ", state),
            (clip(host.name, 24).ljust(25), "key"),
            ("cpu ", "dim"),
            (full, "ready"),
            (empty, "dim"),
            (f" {amount(round(asked, 2))} of {amount(round(host.cpu, 2))}", "text"),
        ]
        if host.gpu:
            taken = sum(bundle.gpu for bundle in bundles)
            line.append((f"   gpu {amount(round(taken, 2))} of {amount(round(host.gpu, 2))}", "text"))
        line.append(("   head" if host.head else "" if host.alive else "   lost", "dim" if host.alive else "failed"))
        return tuple(line)

    def _bundle(self, bundle: Bundle, nodes: dict[int, int]) -> Line:
        style = {"pending": "pending", "lost": "failed"}.get(bundle.state, "text")
        shares = [f"cpu {amount(bundle.cpu)}"]
        shares += [f"gpu {amount(bundle.gpu)}"] if bundle.gpu else []
        shares += [f"{name} {amount(value)}" for name, value in bundle.resources.items()]
        count = nodes.get(bundle.idx, 0)
        what = bundle.what or plural(count, "node")
        return (
            (f"      bundle {bundle.idx:>4}  ", style),
            (f"{bundle.state:<8}  ", style if style != "text" else "dim"),
            ("  ".join(shares).ljust(24), "text"),
            (f"  {what}", "text" if count else "dim"),
        )


class EventsView(ListView):
    """The events, newest first; those before what the console holds are asked for at the end of the list."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(glyphs, **keywords)
        self._events: list[Event] = []
        self.whole = False
        """Whether nothing is older than what is shown."""

    @property
    def current(self) -> Event | None:
        """The selected event."""
        return self._events[self._place] if self._place < len(self._events) else None

    @property
    def at_end(self) -> bool:
        """Whether the oldest event that is shown is selected."""
        return bool(self._events) and self._place >= len(self._events) - 1

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Draw the events."""
        if changes is not None and not (changes.full or changes.events):
            return
        from red_tui.console.events_panel import event_line

        if changes is not None and changes.full:
            self.whole = False
        self._events = list(reversed(mirror.events))
        told = plural(len(self._events), "event")
        set_border(self, [(told if self.whole else f"{told}, older ones at the end", "$red-bright")])
        lines = [event_line(event, self.glyphs, 16) for event in self._events]
        if changes is not None and self._place:
            self._place = min(self._place + len(changes.events), len(lines) - 1)
        self.show(lines or [(("  nothing has happened yet", "dim"),)], self._place if lines else None)
        if self._place:
            self.reveal(self._place)
