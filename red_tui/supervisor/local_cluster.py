"""The embedded local cluster: a Ray of one's own that outlives the console and is guarded by a token.

Its servers listen on 127.0.0.1 only, so that other machines do not reach them.  Other users of this machine do:
against them Ray's token authentication is always on here.  The token lies in a file of mode 0600.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import platform
import resource
import secrets
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from red_tui.errors import NotConnected, RedError
from red_tui.placement.local_ray import LOCAL_ADDRESSES, is_own, make_short_folder
from red_tui.state_folder import home, read_own, write_private

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">IBI", 0x04, 0, 0)
_SETTINGS_FRAME = 0x04

TLS_FILES = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
"""Ray's variables that name the certificate of a process, its key and what certificates of others are checked with."""

OPEN_FILES = 1024
"""Files that a process of Ray should be able to have open."""


def is_own_process(process: psutil.Process) -> bool:
    """Whether a process is this user's.

    Raises:
        psutil.Error: If it has gone.
    """
    return bool(process.uids().real == os.getuid())


def alive(pid: int, created: float) -> psutil.Process | None:
    """The process of a pid, if it is this user's and still the one created then (seconds since the epoch)."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < 1.0 and is_own_process(process)
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
                    if is_own_process(process):
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
            if process.pid != os.getpid() and is_own_process(process) and process.status() != psutil.STATUS_ZOMBIE:
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


PREFIX = "red-ray-"
INNER = "r"
"""Ray opens its folder to everybody (0777), with logs and sockets in it: it gets one inside of the private one."""

_MARK = ".red-tui-cluster"


def make_folder() -> Path:
    """Make the folder of a cluster, with its mark.

    Raises:
        RedError: If there is no place in which the paths of Ray's sockets would be short enough.
    """
    folder = make_short_folder(PREFIX, INNER)
    (folder / _MARK).write_text(str(folder), encoding="utf-8")
    return folder


def why_not_ours(folder: str | Path) -> str:
    """Why a folder is not one that `make_folder` made; empty if it is one."""
    path = Path(folder)
    try:
        entry, mark = path.lstat(), path / _MARK
        if not stat.S_ISDIR(entry.st_mode):
            return "it is no folder"
        if entry.st_uid != os.geteuid():
            return "it belongs to another user"
        if not path.is_absolute() or not path.name.startswith(PREFIX):
            return "it has not the name of a cluster's folder"
        if not stat.S_ISREG(mark.lstat().st_mode) or mark.lstat().st_uid != os.geteuid():
            return f"its {_MARK} is not ours"
        if mark.read_text(encoding="utf-8", errors="replace") != str(path):
            return f"its {_MARK} names another folder"
    except FileNotFoundError:
        return f"it has no {_MARK}" if path.exists() else ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def remove_folder(folder: str | Path) -> str:
    """Remove a cluster's folder, if it is one; gives why it was left, or nothing.

    A folder that is not there is as one that was removed.
    """
    why = why_not_ours(folder)
    if not why:
        shutil.rmtree(folder, ignore_errors=True)
    return why and f"{folder} is left as it is: {why}"


MARK = "RED_EMBEDDED_CLUSTER"
"""Environment variable that all processes of an embedded cluster carry; its value is the cluster's folder."""

HOME_MARK = "RED_EMBEDDED_HOME"
"""Environment variable that they carry too: the home in which the cluster is noted, should the note be lost."""

START_TIMEOUT = 90.0
LIVING_TIMEOUT = 30.0
"""Seconds that a cluster whose first process lives may take to answer: one that does not is cleared away."""

MIN_CPUS = 4
"""Logical CPUs of an embedded cluster at least: they count seats, not cores."""

Step = Callable[[str, str, str], None]
"""(key, text, running|done|failed): tells of a step that takes time."""


@dataclass(frozen=True)
class ClusterFile:
    """What is known of the embedded cluster between two consoles."""

    address: str
    pid: int
    created: float
    folder: str
    ray_version: str
    python: str
    starter: int = 0
    """Process that starts it, as long as `address` is empty: the cluster is not up yet."""
    tls: Mapping[str, str] = field(default_factory=dict)
    """Ray's variables for encrypted connections, where it was started with them; who connects needs the same."""

    @property
    def token_path(self) -> Path:
        """File of the token."""
        return token_file()


def token_file() -> Path:
    """Where the token lies."""
    return home() / "token"


def cluster_file() -> Path:
    """Where the running cluster is noted."""
    return home() / "cluster.json"


def read_cluster() -> ClusterFile | None:
    """What is noted of an embedded cluster, alive or not; None for nothing (or nothing readable).

    Raises:
        StateFolderError: If another user could have written the note.
    """
    try:
        noted = ClusterFile(**json.loads(read_own(cluster_file())))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    kinds = {"address": str, "folder": str, "ray_version": str, "python": str, "pid": int, "starter": int, "tls": dict}
    fits = all(isinstance(getattr(noted, name), kind) for name, kind in kinds.items())
    return noted if fits and isinstance(noted.created, (int, float)) else None


def _root(noted: ClusterFile) -> psutil.Process | None:
    """The first process of a noted cluster, if it lives: the one of that pid which carries the cluster's mark."""
    process = alive(noted.pid, noted.created)
    with contextlib.suppress(psutil.Error):
        if process is not None and process.environ().get(MARK) == noted.folder:
            return process
    return None


def running_cluster() -> ClusterFile | None:
    """The embedded cluster, if it lives and answers.

    Raises:
        NotConnected: If it lives and was started by another version of Ray or Python.
    """
    noted = read_cluster()
    if noted is None or _root(noted) is None or not is_own(noted.address):
        return None
    os.environ.update(noted.tls)
    # It lives: where nobody listens any more that is told at once, and it is not given up because it is slow.
    if speaks_grpc(noted.address, LIVING_TIMEOUT):
        return None
    if (noted.ray_version, noted.python) != (version("ray"), platform.python_version()):
        raise NotConnected(
            f"the embedded cluster at {noted.address} was started with Ray {noted.ray_version} on Python"
            f" {noted.python}, and this is Ray {version('ray')} on Python {platform.python_version()}: use the old"
            " environment, or end the cluster and all in it with `red-console down --all`",
            address=noted.address,
        )
    return noted


def credentials(cluster: ClusterFile) -> None:
    """Let this process speak with an embedded cluster.

    Raises:
        StateFolderError: If another user could have written the token.
    """
    read_own(cluster.token_path)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(cluster.token_path)
    if "ray" in sys.modules:
        # Ray reads the mode once and the token once: what this process knows of another cluster is forgotten.
        core: Any = importlib.import_module("ray._raylet")
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()


def start_cluster(cpus: int | None = None, gpus: int | None = None, step: Step | None = None) -> ClusterFile:
    """Start an embedded cluster and note it; give the one that another process has just started, if one has.

    Args:
        cpus: Logical CPUs; None: as many as cores, at least `MIN_CPUS`.
        gpus: GPUs; None: what Ray finds.
        step: Told of the progress.

    Raises:
        NotConnected: If it did not start within `START_TIMEOUT` seconds; nothing of it is left.
    """
    tell = step or (lambda key, text, state: None)
    require_open_files()
    tell("cluster", "starting a local Ray", "running")
    with _one_at_a_time():
        started = running_cluster() or _start(cpus, gpus, tell)
    tell("cluster", "starting a local Ray", "done")
    return started


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two consoles that are opened at the same moment share one cluster: the second waits for the first."""
    with (home() / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(cpus: int | None, gpus: int | None, tell: Step) -> ClusterFile:
    _clear_stale()
    folder = str(make_folder())
    inner = str(Path(folder) / INNER)
    begun = ClusterFile("", 0, 0.0, folder, version("ray"), platform.python_version(), os.getpid(), _tls())
    # Noted before it exists: whatever happens to this process, somebody finds what it began.
    write_private(cluster_file(), json.dumps(asdict(begun), indent=1))
    write_private(token_file(), secrets.token_hex(32))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", "0"]
    command += ["--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", inner]
    # Two processes fewer: one host grows by nothing, and our drivers ask for no copies of what workers print.
    command += ["--no-monitor", "--include-log-monitor", "false"]
    command += ["--num-cpus", str(cpus or max(MIN_CPUS, os.cpu_count() or 1))]
    command += ["--num-gpus", str(gpus)] if gpus is not None else []
    environment = {
        # Ray's control service keeps word of the last 100,000 calls for its dashboard; there is none here.
        "RAY_task_events_report_interval_ms": "0",
        **os.environ,
        MARK: folder,
        HOME_MARK: str(home()),
        "RED_HOME": str(home()),
        LOCAL_ADDRESSES: "0",
        **begun.tls,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file()),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    log = Path(folder) / "start.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
        )
    try:
        address = _wait_for_address(process, Path(inner) / "ray_current_cluster", log)
    except BaseException:
        tell("cluster", "starting a local Ray", "failed")
        with contextlib.suppress(psutil.Error):
            end_tree([psutil.Process(process.pid)], (MARK, folder), grace=2.0)
        remove_folder(folder)
        cluster_file().unlink(missing_ok=True)
        raise
    created = psutil.Process(process.pid).create_time()
    noted = replace(begun, address=address, pid=process.pid, created=created, starter=0)
    write_private(cluster_file(), json.dumps(asdict(noted), indent=1))
    return noted


def _tls() -> dict[str, str]:
    """The variables that switch Ray's TLS on, with absolute paths; empty if it is off."""
    if not uses_tls():
        return {}
    named = {name: os.environ[name] for name in TLS_FILES if os.environ.get(name)}
    return {"RAY_USE_TLS": "1", **{name: str(Path(path).resolve()) for name, path in named.items()}}


def end_half_started() -> None:
    """End at once a cluster that this process began to start and that is not up yet."""
    noted = read_cluster()
    if noted is None or noted.address or noted.starter != os.getpid():
        return
    for process in marked(MARK, noted.folder):
        with contextlib.suppress(psutil.Error):
            process.kill()
    remove_folder(noted.folder)
    cluster_file().unlink(missing_ok=True)


def _wait_for_address(process: subprocess.Popen[bytes], current: Path, log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(FileNotFoundError):
            address = current.read_text(encoding="utf-8").strip()
            if address and not speaks_grpc(address, 1.0) and "Ray runtime started" in log.read_text(errors="replace"):
                return address
        time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-8:])
    what = "ended at once" if process.poll() is not None else f"was not up within {START_TIMEOUT:g} s"
    raise NotConnected(f"a local Ray {what}; its last words:\n{tail}", address="local")


def _clear_stale() -> None:
    """Remove what a cluster that died left behind: processes, folder, note."""
    noted = read_cluster()
    if noted is None:
        return
    end_tree([], (MARK, noted.folder), grace=2.0)
    remove_folder(noted.folder)
    cluster_file().unlink(missing_ok=True)


@dataclass(frozen=True)
class Ended:
    """What ending the embedded cluster did.

    Attributes:
        processes: How many processes were ended.
        left: Why a folder that the note names was left; empty if it was removed.
    """

    processes: int
    left: str = ""


def stop_cluster() -> Ended:
    """End the embedded cluster with all that runs in it, also where the note of it is lost.

    Raises:
        RedError: If processes of it are still there afterwards.
    """
    noted = read_cluster()
    folders = unnoted_folders()
    ended, left = 0, ""
    if noted is not None:
        root = _root(noted)
        ended, left = _end(noted.folder, [root] if root else [])
        cluster_file().unlink(missing_ok=True)
    for folder in folders - {noted.folder if noted else ""}:
        more, _ = _end(folder, [])
        ended += more
    return Ended(ended, left)


def unnoted_folders() -> set[str]:
    """Folders of embedded clusters of this home whose processes live, whether or not a note of them is there."""
    own = str(home())
    return {
        folder
        for process, where in marked_by(HOME_MARK)
        if where == own and (folder := _environment(process).get(MARK))
    }


def _environment(process: psutil.Process) -> dict[str, str]:
    with contextlib.suppress(psutil.Error, OSError):
        return dict(process.environ())
    return {}


def _end(folder: str, roots: list[psutil.Process]) -> tuple[int, str]:
    """End the processes of a cluster and remove its folder; gives their number, and why the folder was left."""
    # Ray's servers take their time over SIGTERM, and nothing waits for it: the journals are on disk already.
    ended = end_tree(roots, (MARK, folder), grace=1.0)
    left = marked(MARK, folder)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise RedError(f"processes {pids} of the local cluster could not be ended: end them with kill -9")
    return ended, remove_folder(folder)
