"""Local processes: whether they live, what stems from them, and ending them for good."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import struct
import time
from collections.abc import Iterable

import psutil

from red_tui.errors import RedError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">IBI", 0x04, 0, 0)
_SETTINGS_FRAME = 0x04

TLS_FILES = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
"""Ray's variables that name the certificate of a process, its key and what certificates of others are checked with."""

OPEN_FILES = 1024
"""Files that a process of Ray should be able to have open."""


def is_own(process: psutil.Process) -> bool:
    """Whether a process is this user's.

    Raises:
        psutil.Error: If it has gone.
    """
    return bool(process.uids().real == os.getuid())


def alive(pid: int, created: float) -> psutil.Process | None:
    """The process of a pid, if it is this user's and still the one created then (seconds since the epoch)."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < 1.0 and is_own(process)
        if same and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except psutil.Error:
        pass
    return None


def end_tree(roots: Iterable[psutil.Process], marker: tuple[str, str] | None = None, grace: float = 5.0) -> int:
    """End processes with all that stems from them; returns how many were ended.

    Args:
        roots: Where to start.
        marker: An environment variable and its value: processes that carry it belong to the tree too,
            also when their parent has gone.
        grace: Seconds between asking and killing.
    """
    doomed: dict[int, psutil.Process] = {}
    for root in roots:
        with contextlib.suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    if is_own(process):
                        doomed[process.pid] = process
    if marker is not None:
        doomed.update({process.pid: process for process in marked(*marker)})
    for process in doomed.values():
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(list(doomed.values()), timeout=grace)
    # What was born while we asked is found by its mark.
    late = [process for process in (marked(*marker) if marker else []) if process.pid not in doomed]
    for process in [*left, *late]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs([*left, *late], timeout=grace)
    return len(doomed) + len(late)


def marked(name: str, value: str) -> list[psutil.Process]:
    """Living processes of this user whose environment says `name=value`, this one excepted."""
    return [process for process, own in marked_by(name) if own == value]


def marked_by(name: str) -> list[tuple[psutil.Process, str]]:
    """Living processes of this user that have an environment variable, with its value, this one excepted."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and is_own(process) and process.status() != psutil.STATUS_ZOMBIE:
                value = process.environ().get(name)
                if value is not None:
                    found.append((process, value))
    return found


def speaks_grpc(address: str, timeout: float = 5.0) -> str:
    """Why nothing like Ray's control service answers at `host:port`; empty if something does.

    A gRPC server opens every connection with a SETTINGS frame of HTTP/2 (RFC 9113, section 3.4), with
    or without credentials: this tells a cluster from a closed port, a silent one and another service.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return "it is not written HOST:PORT"
    deadline = time.monotonic() + timeout
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((host.strip("[]"), int(port)), timeout=timeout))
            if (tls := _tls_context()) is not None:
                connection = stack.enter_context(tls.wrap_socket(connection))
            connection.sendall(_PREFACE)
            head = b""
            while len(head) < 9:
                connection.settimeout(max(0.05, deadline - time.monotonic()))
                part = connection.recv(9 - len(head))
                if not part:
                    return "whatever listens there hung up: it is no Ray cluster"
                head += part
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return "" if head[3] == _SETTINGS_FRAME else "what listens there is no Ray cluster"


def uses_tls() -> bool:
    """Whether Ray's connections are to be encrypted."""
    return os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true")


def _tls_context() -> ssl.SSLContext | None:
    """How Ray's variables say that its connections are encrypted; None if they are not.

    Raises:
        OSError: If a file that they name cannot be read.
    """
    if not uses_tls():
        return None
    certificate, key, authority = (os.environ.get(name) or None for name in TLS_FILES)
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False  # Ray's are addresses, and certificates are made for names
    context.load_cert_chain(certificate or "", key)
    context.set_alpn_protocols(["h2"])
    return context


def require_open_files(needed: int = OPEN_FILES) -> None:
    """See that this process, and what it starts, may open enough files: the soft limit is raised where it can be.

    Raises:
        RedError: If the hard limit is too low: Ray would hang for minutes, and say nothing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise RedError(
        f"at most {hard} files may be open at a time here, and Ray needs {needed}: raise the limit with"
        f" `ulimit -n {needed}`, or ask who administers this machine"
    )
