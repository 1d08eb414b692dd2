"""The Ray clusters of this machine: where one is noted, whose it is, and on which interfaces it listens.

Ray itself connects to whatever cluster `ray_current_cluster` names, whoever wrote that file.  A driver unpickles what
the cluster holds, so that the owner of the cluster can run code as the caller.  Only clusters of one's own user are
found here; any other one has to be named.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from red_tui.errors import RedError

MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes that the path of a Unix socket may have."""

_RAY_ADDS = len("/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store") + 3
_NAME = 8
"""Random characters of a folder's name that `tempfile` makes."""


def sockets_fit(folder: Path | str) -> bool:
    """Whether Ray's sockets have short enough paths in a temporary folder of Ray's."""
    return len(os.fsencode(folder)) + _RAY_ADDS <= MAX_SOCKET_PATH


def make_short_folder(prefix: str, inner: str) -> Path:
    """Make a folder of mode 0700 in whose folder `inner` Ray's sockets fit: in TMPDIR, else in a shorter place.

    Raises:
        RedError: If there is no such place; it says what to set.
    """
    for place in _places():
        if sockets_fit(Path(place) / (prefix + "x" * _NAME) / inner):
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    longest = MAX_SOCKET_PATH - _RAY_ADDS - len(prefix) - _NAME - len(inner) - 2
    raise RedError(
        f"no folder for Ray's sockets: {tempfile.gettempdir()} is too long for them or cannot be written, and so are"
        f" /tmp and /var/tmp; set TMPDIR to a folder of at most {longest} characters"
    )


def _places() -> list[str]:
    """Where to look, the usual place first; shared folders only if others cannot rename what is in them."""
    shorter = [place for place in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp") if place]
    return [tempfile.gettempdir(), *filter(is_safe, shorter)]


def is_safe(place: str) -> bool:
    """Whether nobody else can rename folders in a place: it is ours or root's, and sticky where it is shared."""
    try:
        found = os.stat(place)
    except OSError:
        return False
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and (not shared or bool(found.st_mode & stat.S_ISVTX))


LOCAL_ADDRESSES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's variable; 0: nodes have the address 127.0.0.1, and Ray's servers listen there only."""

_SERVERS = ("gcs_server", "raylet")


@dataclass(frozen=True)
class NotedRay:
    """The cluster that Ray's own note names.

    Attributes:
        address: `HOST:PORT` of its control service.
        note: The file that says so.
        owner: Uid of the user who wrote the file.
        own: Whether both the note and the cluster are this user's.
    """

    address: str
    note: Path
    owner: int
    own: bool


def noted_ray() -> NotedRay | None:
    """The cluster that the last `ray start` on this machine noted, alive or not; None if there is no note."""
    note = ray_folder() / "ray_current_cluster"
    try:
        with note.open("rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            address = file.read(300).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not address.isprintable() or ":" not in address:
        return None
    return NotedRay(address, note, owner, owner == os.geteuid() and is_own(address))


def ray_folder() -> Path:
    """The folder of Ray's sessions and note."""
    in_environment = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR")
    return Path(in_environment or tempfile.gettempdir()) / "ray"


@dataclass(frozen=True)
class Listener:
    """A TCP port on which a process of this user's Ray listens."""

    process: str
    ip: str
    port: int

    @property
    def interface(self) -> str:
        """Its address, or that it listens on every interface."""
        return "every interface" if self.ip in ("0.0.0.0", "::") else self.ip

    @property
    def loopback(self) -> bool:
        """Whether it can be reached from this machine only."""
        return _is_loopback(self.ip)


def own_listeners() -> list[Listener]:
    """The ports of this user's Ray processes on this machine, by process name and number; drivers are not known."""
    found = set()
    for process in _own_processes((*_SERVERS, "ray::")):
        with contextlib.suppress(psutil.Error):
            for one in process.net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN:
                    found.add(Listener(process.name().partition("(")[0], str(_plain_ip(one.laddr.ip)), one.laddr.port))
    return sorted(found, key=lambda one: (one.process, one.port))


def is_own(address: str) -> bool:
    """Whether a process of this user serves the cluster at an address, or belongs to it."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return False
    for process in _own_processes(_SERVERS):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("raylet"):
                if f"--gcs-address={address}" in process.cmdline():
                    return True
            elif any(reaches(host, heard) for heard in _listening(process.net_connections("tcp"), int(port))):
                return True
    return False


def loopback_only(address: str) -> bool:
    """Whether what listens at the port of a local address can be reached from this machine only."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or not _is_loopback(host):
        return False
    heard: list[str] = []
    for process in _own_processes(("gcs_server",)):
        with contextlib.suppress(psutil.Error):
            heard += _listening(process.net_connections("tcp"), int(port))
    if not heard:
        with contextlib.suppress(psutil.Error):  # macOS shows root only what others have open
            heard += _listening(psutil.net_connections("tcp"), int(port))
    return bool(heard) and all(_is_loopback(ip) for ip in heard)


def use_local_addresses(local: bool) -> None:
    """Let this process be at 127.0.0.1 for Ray, as the nodes of a cluster that listens there only; or no longer."""
    if not local and os.environ.get(LOCAL_ADDRESSES) != "0":
        return
    if local:
        os.environ[LOCAL_ADDRESSES] = "0"
    else:
        del os.environ[LOCAL_ADDRESSES]
    if "ray" in sys.modules:
        # Ray has read the variable when it was imported.
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = not local and sys.platform.startswith("linux")


def _own_processes(names: tuple[str, ...]) -> Iterator[psutil.Process]:
    """This user's processes whose names begin so."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith(names) and process.uids().effective == os.geteuid():
                yield process


def _listening(connections: Iterable[object], port: int) -> Iterator[str]:
    for one in connections:
        heard = getattr(one, "laddr", None)
        if getattr(one, "status", "") == psutil.CONN_LISTEN and heard and heard.port == port:
            yield str(heard.ip)


def reaches(host: str, heard: str) -> bool:
    """Whether a connection to a host comes to what listens at an IP address of this machine."""
    addresses = _addresses_of(host)
    listening = _plain_ip(heard)
    if listening is None:
        return False
    if listening.is_unspecified:
        return any(_is_of_this_machine(one) for one in addresses)
    return listening in addresses


def _addresses_of(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    literal = _plain_ip(host.strip("[]"))
    if literal is not None:
        return [literal]
    try:
        found = (_plain_ip(str(entry[4][0])) for entry in socket.getaddrinfo(host, None))
        return [one for one in found if one is not None]
    except OSError:
        return []


def _is_of_this_machine(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if ip.is_loopback:
        return True
    return any(_plain_ip(one.address) == ip for some in psutil.net_if_addrs().values() for one in some)


def _is_loopback(host: str) -> bool:
    addresses = _addresses_of(host)
    return bool(addresses) and all(ip.is_loopback for ip in addresses)


def _plain_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
