"""Hosts and bundles: what is asked, used and free of each resource, and what is pending and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from red_tui.console.config.themes import COUNT_ORDER, STATE_NAMES, Glyphs
from red_tui.console.text import amount, clip, plural, short_count
from red_tui.console.widgets.lists import Line, labelled, set_border, wrap
from red_tui.console.widgets.node_list import ListView
from red_tui.protocol.snapshot import BundleStatus, HostStatus

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror

_SHARE, _NAME = 11, 16


def needs_of(bundle: BundleStatus) -> dict[str, float]:
    """What a bundle asks, by resource."""
    asked = {"cpu": bundle.cpu, "gpu": bundle.gpu, **bundle.resources}
    return {name: value for name, value in asked.items() if value}


def why_waiting(bundle: BundleStatus, hosts: tuple[HostStatus, ...], asked: Mapping[str, Mapping[str, float]]) -> str:
    """Why a bundle has no host, as far as the hosts' sizes tell.

    Args:
        bundle: The bundle.
        hosts: The hosts.
        asked: What bundles ask of each host already.
    """
    alive = [host for host in hosts if host.alive]
    for name, value in needs_of(bundle).items():
        most = max((host.has(name) for host in alive), default=0.0)
        if any(host.tells(name) for host in alive) and most + 1e-6 < value:
            have = f"the largest has {amount(round(most, 2))}" if most else "no host has any"
            return f"asks {name} {amount(value)}: {have}"
    for name, value in needs_of(bundle).items():
        free = max((host.has(name) - asked.get(host.name, {}).get(name, 0.0) for host in alive), default=0.0)
        if any(host.tells(name) for host in alive) and free + 1e-6 < value:
            return f"waits for {name} {amount(value)}: the most that is free on a host is {amount(round(free, 2))}"
    return "" if bundle.state == "planned" else "waits for Ray to place it"


@dataclass(frozen=True)
class Share:
    """One resource of a host; `has` and `free` are None where nobody told how much there is."""

    name: str
    has: float | None
    asked: float
    used: float
    free: float | None


def share_lines(shares: Sequence[Share], dash: str) -> list[Line]:
    """Resources as a table, and what its columns mean."""
    lines: list[Line] = [((f"{'':<9}{'has':>6}{'asked':>7}{'used':>7}{'free':>7}", "dim"),)]
    for share in shares:
        has, free = (dash if value is None else amount(value) for value in (share.has, share.free))
        lines.append((
            (f"{clip(share.name, 8):<9}", "dim"),
            (f"{has:>6}{amount(share.asked):>7}{amount(share.used):>7}", "text"),
            (f"{free:>7}", "text" if share.free else "pending"),
        ))  # fmt: skip
    return [*lines, (), (("asked: reserved by this federation", "dim"),), (("used: by bundles with nodes", "dim"),)]


class PlacementView(ListView):
    """One line a host, and under it one line for each of its bundles."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(glyphs, **keywords)
        self._items: list[HostStatus | BundleStatus | str] = []
        self._bundles_of: dict[str, list[BundleStatus]] = {}
        self._waits: dict[int, str] = {}
        self._asked: dict[str, dict[str, float]] = {}
        self.reasons: dict[int, str] = {}
        """Why nodes of a bundle wait, as the federation told when it was asked."""

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Arrange hosts and bundles anew if they changed, else draw the nodes in them."""
        fresh = self.mirror is not mirror or changes is None or changes.full
        self.mirror = mirror
        if fresh or (changes is not None and changes.parts & {"hosts", "bundles"}):
            self._arrange(mirror)
        elif changes is not None and not (len(changes.rows) or "cluster" in changes.parts):
            return
        self._tell(mirror)
        self.draw()

    def _arrange(self, mirror: FederationMirror) -> None:
        current = self.current
        of_host: dict[str, list[BundleStatus]] = {}
        for bundle in mirror.bundles:
            of_host.setdefault(bundle.host, []).append(bundle)
        self._asked = {
            host: {name: sum(needs_of(one).get(name, 0.0) for one in bundles) for name in _resources(bundles)}
            for host, all_ in of_host.items()
            for bundles in [[one for one in all_ if one.state != "pending"]]
        }
        self._bundles_of = dict(of_host)
        self._items = []
        for host in mirror.hosts:
            self._items += [host, *of_host.pop(host.name, [])]
        others = [bundle for bundles in of_host.values() for bundle in bundles]
        planned = [bundle for bundle in others if bundle.state == "planned"]
        homeless = [bundle for bundle in others if bundle.state != "planned"]
        if planned:
            self._items += [f"{plural(len(planned), 'bundle')} planned, to be reserved by the first build", *planned]
        if homeless:
            self._items += [plural(len(homeless), "bundle") + " without a host", *homeless]
        waiting = (one for one in mirror.bundles if one.state in ("pending", "planned") or one in homeless)
        told = {one.idx: why_waiting(one, mirror.hosts, self._asked) for one in waiting}
        self._waits = {index: why for index, why in told.items() if why}
        key = _key(current)
        self.place = next((place for place, one in enumerate(self._items) if _key(one) == key), self.place)

    def _tell(self, mirror: FederationMirror) -> None:
        pending = mirror.counts_of("pending") + mirror.counts_of("starting")
        title = [(f"{plural(len(mirror.hosts), 'host')}, {plural(len(mirror.bundles), 'bundle')}", "$red-bright")]
        if self._waits:
            title.append((f" {self.glyphs.dot} {plural(len(self._waits), 'bundle')} waiting", "$red-pending"))
        if pending:
            title.append((f" {self.glyphs.dot} {plural(pending, 'node')} on the way", "$red-starting"))
        set_border(self, title)

    @property
    def current(self) -> HostStatus | BundleStatus | str | None:
        """The host or bundle that is selected."""
        return self._items[self.place] if self.place < len(self._items) else None

    @property
    def nodes_query(self) -> str:
        """A query for the nodes of what is selected."""
        if isinstance(self.current, BundleStatus):
            return f"bundle:{self.current.idx}"
        if isinstance(self.current, HostStatus) and self.mirror is not None:
            mine = [bundle.idx for bundle in self.mirror.bundles if bundle.host == self.current.name]
            return f"bundle:{','.join(map(str, mine))}" if mine else ""
        return ""

    def count(self) -> int:
        """Hosts and bundles together."""
        return len(self._items)

    def nothing(self) -> str:
        """What is said before anything is known."""
        return "no hosts are known yet"

    # -- lines -----------------------------------------------------------------------------------

    def make_head(self) -> list[Line]:
        """The titles of the columns."""
        extra = "".join(f"{clip(name, 9):>10}" for name in self._custom())
        gpu = f"{'gpu':>{_SHARE}}" if self._has_gpu() else ""
        return [((f"   {'host: asked/has':<{_NAME}}{'cpu':>{_SHARE}}{gpu}{extra}  nodes", "dim"),)]

    def make_line(self, place: int) -> Line:
        """A host, a bundle or a heading."""
        item = self._items[place]
        if isinstance(item, HostStatus):
            return self._host(item)
        return self._bundle(item) if isinstance(item, BundleStatus) else ((f" {item}", "pending"),)

    def _custom(self) -> list[str]:
        assert self.mirror is not None
        names = {name for bundle in self.mirror.bundles for name in bundle.resources}
        room = (self.size.width - 3 - _NAME - 2 * _SHARE - 24) // 10
        return sorted(names)[: max(0, min(3, room))]

    def _has_gpu(self) -> bool:
        assert self.mirror is not None
        return any(host.gpu for host in self.mirror.hosts) or any(bundle.gpu for bundle in self.mirror.bundles)

    def _host(self, host: HostStatus) -> Line:
        state = "ready" if host.alive else "failed"
        asked = self._asked.get(host.name, {})
        parts: list[tuple[str, str]] = [
            (f" {self.glyphs.of(state)} ", state),
            (clip(host.name, _NAME - 1).ljust(_NAME), "key"),
            (_of(asked.get("cpu", 0.0), host.cpu).rjust(_SHARE), "text"),
        ]
        if self._has_gpu():
            parts.append((_of(asked.get("gpu", 0.0), host.gpu).rjust(_SHARE), "text"))
        for name in self._custom():
            whole = host.has(name)
            told = _of(asked.get(name, 0.0), whole) if host.tells(name) else amount(asked.get(name, 0.0))
            parts.append((told.rjust(10), "text"))
        full, empty = self.glyphs.bar(asked.get("cpu", 0.0) / host.cpu if host.cpu else 0.0, 8)
        room = self.size.width - sum(len(text) for text, _ in parts)
        told = self._told_of(host, room - 2) if host.alive else " lost"
        bar = [(full, "ready"), (empty, "dim")] if room >= len(full + empty + told) + 2 else []
        parts += [("  " if bar else " ", "text"), *bar, (told, "dim" if host.alive else "failed")]
        return tuple(parts)

    def _told_of(self, host: HostStatus, room: int) -> str:
        """What is free and used of each resource, of as many as there is room for."""
        told = ""
        for share in self._shares(host):
            free = "" if share.free is None else f" {amount(share.free)} free,"
            more = f"{';' if told else ''} {share.name}{free} {amount(share.used)} used"
            if told and len(told) + len(more) > room:
                break
            told += more
        return told

    def _shares(self, host: HostStatus) -> list[Share]:
        """What a host has, what bundles ask of it, what those with nodes use and what nobody asks, by resource."""
        mine = self._bundles_of.get(host.name, [])
        busy = [bundle for bundle in mine if bundle.what or self._seated(bundle.idx)]
        asked = self._asked.get(host.name, {})
        names = ["cpu", *(["gpu"] if host.gpu or asked.get("gpu") else []), *sorted({*asked, *host.resources})]
        found = []
        for name in dict.fromkeys(names):
            has = host.has(name) if host.tells(name) else None
            want = round(asked.get(name, 0.0), 2)
            used = round(sum(needs_of(bundle).get(name, 0.0) for bundle in busy), 2)
            free = None if has is None else round(max(0.0, has - want), 2)
            found.append(Share(name, has, want, used, free))
        return found

    def _bundle(self, bundle: BundleStatus) -> Line:
        style = {"pending": "pending", "planned": "dim", "lost": "failed"}.get(bundle.state, "text")
        parts: list[tuple[str, str]] = [
            ("     ", "text"),
            (f"{bundle.idx:>4} {bundle.state:<{_NAME - 7}}", style),
            (amount(bundle.cpu).rjust(_SHARE) if bundle.cpu else self.glyphs.dash.rjust(_SHARE), "text"),
        ]
        if self._has_gpu():
            parts.append((amount(bundle.gpu).rjust(_SHARE) if bundle.gpu else self.glyphs.dash.rjust(_SHARE), "text"))
        for name in self._custom():
            value = bundle.resources.get(name, 0.0)
            parts.append(((amount(value) if value else self.glyphs.dash).rjust(10), "text"))
        parts.append(("  ", "text"))
        if bundle.idx in self._waits:
            return (*parts, (self._waits[bundle.idx], "pending"))
        nodes = self._seated(bundle.idx)
        parts += [(f"{self.glyphs.of(name)} {short_count(count)} ", name) for name, count in nodes]
        if bundle.what:
            parts.append((bundle.what, "dim"))
        elif bundle.state == "lost":
            parts.append(("its host is lost", "failed"))
        elif not nodes and bundle.state == "ready":
            parts.append(("free", "dim"))
        if reason := self.reasons.get(bundle.idx):
            parts.append((f" {reason}", "pending"))
        return tuple(parts)

    def _seated(self, index: int) -> list[tuple[str, int]]:
        assert self.mirror is not None
        by_bundle = self.mirror.by_bundle
        if index >= len(by_bundle):
            return []
        counts = by_bundle[index].tolist()
        found = [(name, counts[STATE_NAMES.index(name)]) for name in COUNT_ORDER]
        return [(name, count) for name, count in found if count]

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """What is asked, used and free of the selected host or bundle."""
        item, mirror = self.current, self.mirror
        if mirror is None or item is None or isinstance(item, str):
            return "placement", []
        if isinstance(item, HostStatus):
            lines = labelled("state", "alive" if item.alive else "lost: what ran there failed", width)
            count = sum(bundle.host == item.name for bundle in mirror.bundles)
            lines += labelled("bundles", f"{count:,}", width)
            return item.name, [*lines, (), *share_lines(self._shares(item), self.glyphs.dash)]
        assert isinstance(item, BundleStatus)
        lines = labelled("state", item.state, width)
        lines += labelled("host", item.host or "none yet", width)
        for name, value in needs_of(item).items():
            lines += labelled(clip(name, 8), amount(value), width)
        for name, count in self._seated(item.idx):
            lines.append(((f"{name:<9}", "dim"), (f"{self.glyphs.of(name)} {count:,}", name)))
        if item.idx in self._waits:
            lines += [(), *(((row, "pending"),) for row in wrap(self._waits[item.idx], width))]
        reason = self.reasons.get(item.idx)
        if reason:
            lines += [(), *(((row, "pending"),) for row in wrap(reason, width))]
        return f"bundle {item.idx}", [*lines, (), (("enter ", "key"), ("shows its nodes", "dim"))]


def _resources(bundles: list[BundleStatus]) -> set[str]:
    return {name for bundle in bundles for name in needs_of(bundle)}


def _of(asked: float, whole: float) -> str:
    return f"{amount(round(asked, 2))}/{amount(round(whole, 2))}" if whole else amount(round(asked, 2))


def _key(item: HostStatus | BundleStatus | str | None) -> object:
    return item.idx if isinstance(item, BundleStatus) else item.name if isinstance(item, HostStatus) else item
