"""What the command line and the config file tell the console."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from red_tui.errors import RedError


@dataclass(frozen=True)
class ConsoleOptions:
    """Choices of one console.

    Attributes:
        address: Ray cluster to attach to; None looks for one and else starts a local one.
        namespace: Ray namespace in which federations are looked for.
        layout: Layout file to launch.
        federation: Federation to attach to.
        working_dir: Folder whose modules travel to the cluster.
        read_only: Whether writing actions are not bound at all.
        cpus: CPUs of a local cluster that has to be started.
        ascii: Whether glyphs are ASCII; None decides by the locale.
        mouse: Whether the terminal reports the mouse.
        theme: Name of a Textual theme or of one of ours.
        link_command: How to start the link process; None is this interpreter's `red_tui.link`.
        leave_cluster: What leaving does to an embedded cluster: `asks`, `keep` or `stop`.
        remember: Whether this session begins where the last one ended, and is remembered.
        replay: Journal that is replayed in the place of a federation.
        at: Moment at which the replay begins.
        speed: How fast it plays.
        idle: Seconds after which it skips a time in which nothing happened; 0: never; None: as the config file says.
        home: Folder for logs and screenshots; None is `$RED_HOME` or the platform's state folder.
    """

    address: str | None = None
    namespace: str = "red"
    layout: str | None = None
    federation: str | None = None
    working_dir: str | None = None
    read_only: bool = False
    cpus: int | None = None
    ascii: bool | None = None
    mouse: bool = False
    theme: str | None = None
    link_command: tuple[str, ...] | None = None
    leave_cluster: str = "asks"
    remember: bool = True
    replay: str | None = None
    at: str | None = None
    speed: str | None = None
    idle: float | None = None
    home: str | None = None

    def preferring(self, preferences: Preferences) -> ConsoleOptions:
        """These choices, and the operator's preferences where nothing was chosen."""
        return replace(
            self,
            theme=self.theme or preferences.theme,
            ascii=preferences.ascii if self.ascii is None else self.ascii,
            mouse=self.mouse or preferences.mouse,
            idle=preferences.replay_idle if self.idle is None else self.idle,
            read_only=self.read_only or preferences.is_read_only(self.address),
        )

    def state_dir(self) -> Path:
        """Folder in which the console and its link leave files."""
        if self.home:
            return Path(self.home)
        from red_tui.state_folder import state_folder

        return state_folder()

    def link_argv(self) -> tuple[str, ...]:
        """The command that starts a link."""
        if self.link_command is not None:
            return self.link_command
        argv = (sys.executable, "-m", "red_tui.link", "--log", str(self.state_dir() / "link.log"))
        return (*argv, "--replay") if self.replay is not None else argv

    def use_ascii(self) -> bool:
        """Whether to draw with ASCII only."""
        if self.ascii is not None:
            return self.ascii
        return "utf" not in (getattr(sys.stdout, "encoding", None) or "ascii").lower()

    def open_args(self) -> dict[str, Any]:
        """Arguments of the link's `open`."""
        if self.replay is not None:
            return {"journal": self.replay, "at": self.at, "speed": self.speed, "idle": self.idle, "read_only": True}
        return {
            "address": self.address,
            "namespace": self.namespace,
            "layout": self.layout,
            "federation": self.federation,
            "working_dir": self.working_dir,
            "read_only": self.read_only,
            "cpus": self.cpus,
        }


class PreferencesError(RedError):
    """The config file cannot be used."""


@dataclass(frozen=True)
class Preferences:
    """The values of `Settings`, without what reads and checks them: a console without a config file needs neither."""

    theme: str | None = None
    ascii: bool | None = None
    mouse: bool = False
    read_only: bool = False
    read_only_clusters: tuple[str, ...] = ()
    group: str = "bundle"
    zoom: str | None = None
    columns: tuple[str, ...] = ()
    remember: bool = True
    replay_idle: float = 2.0
    filters: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each value comes from that is not the default."""
    trouble: str = ""
    """Why the config file is not used, if it is not."""

    def is_read_only(self, address: str | None) -> bool:
        """Whether a cluster may be looked at only."""
        return self.read_only or (address is not None and address in self.read_only_clusters)
