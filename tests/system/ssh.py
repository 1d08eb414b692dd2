"""A real sshd on loopback for one run of tests: its own keys, port and settings, and nothing that outlives it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.system.support import Home, Result, eventually

SETTINGS = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers {user}
PrintMotd no
PrintLastLog no
X11Forwarding no
AllowTcpForwarding no
SetEnv {variables}
"""


class NoSsh(Exception):
    """Why there is no sshd to test with."""


class SshHost:
    """A machine that is reached by ssh: this one.

    Args:
        home: Whose clusters and files sessions use.
        folder: For keys and settings; made, and private.

    Raises:
        NoSsh: If sshd is not installed or lets nobody in.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self._user = pwd.getpwuid(os.getuid()).pw_name
        self._sshd: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> None:
        """Make keys and settings, start sshd, and see that it lets us in."""
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if sshd is None or not all(shutil.which(name) for name in ("ssh", "ssh-keygen")):
            raise NoSsh("sshd, ssh and ssh-keygen are not all installed (openssh-server, openssh-client)")
        if os.getuid() == 0:
            # Where it locks itself in before anybody has logged in; it does not start without.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.folder.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True, timeout=90
            )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        binaries = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        variables = {**self.home.variables(), "PATH": binaries, "LANG": "C.UTF-8", "TMUX_TMPDIR": str(self.folder)}
        told = " ".join(f'"{name}={value}"' for name, value in variables.items())
        settings = self.folder / "sshd_config"
        settings.write_text(
            SETTINGS.format(port=self._port, folder=self.folder, user=self._user, variables=told), encoding="utf-8"
        )
        log = self.folder / "sshd.log"
        self._sshd = subprocess.Popen(
            [sshd, "-D", "-f", str(settings), "-E", str(log)], env=self.home.environment(), stdin=subprocess.DEVNULL
        )
        try:
            eventually(lambda: self._sshd is None or self._sshd.poll() is not None or self._listens(), "sshd is up")
            told = self.run("echo", "let", "in")
        except AssertionError as error:
            self.close()
            raise NoSsh(f"sshd does not answer: {error}") from error
        if told.out.strip() != "let in":
            words = log.read_text(errors="replace").strip().splitlines()[-3:]
            self.close()
            raise NoSsh(f"sshd lets {self._user} not in: {'; '.join(words) or told.err.strip()}")

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1.0):
            return True
        return False

    def command(self, *options: str) -> list[str]:
        """The client's command line, up to the host; what follows runs there."""
        quiet = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")
        settings = [part for one in ("IdentitiesOnly=yes", *quiet) for part in ("-o", one)]
        key = str(self.folder / "user")
        where = ["-p", str(self._port), f"{self._user}@127.0.0.1"]
        return ["ssh", "-F", "none", "-i", key, *settings, *options, *where]

    def run(self, *command: str, timeout: float = 60.0) -> Result:
        """Run a command there, without a terminal."""
        return self.home.run(*self.command(), *command, timeout=timeout)

    @property
    def sessions(self) -> list[psutil.Process]:
        """The server's processes of open connections; without the one that listens."""
        if self._sshd is None:
            return []
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(self._sshd.pid).children(recursive=True)
            return [one for one in started if one.name().startswith("sshd")]  # `sshd-session` of later versions too
        return []

    def processes(self, *names: str) -> list[psutil.Process]:
        """Living processes of our home that were started by way of ssh and have one of the names in their command."""
        from tests.system.support import processes_of

        found = []
        for process in processes_of(self.home):
            with contextlib.suppress(psutil.Error):
                here = "SSH_CONNECTION" in process.environ()
                if here and any(name in " ".join(process.cmdline()) for name in names):
                    found.append(process)
        return found

    def close(self) -> None:
        """End sshd, its sessions and what tmux keeps."""
        if shutil.which("tmux"):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    ["tmux", "-L", "red", "kill-server"],
                    env={**os.environ, "TMUX_TMPDIR": str(self.folder)}, capture_output=True, timeout=60, check=False,
                )  # fmt: skip
        for process in self.sessions:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self._sshd is not None:
            self._sshd.terminate()
            self._sshd.wait(60)
            self._sshd = None


@contextlib.contextmanager
def ssh_host(home: Home, folder: Path) -> Iterator[SshHost]:
    """An sshd while something is done.

    Raises:
        NoSsh: If there can be none.
    """
    host = SshHost(home, folder)
    try:
        host.start()
        yield host
    finally:
        host.close()
