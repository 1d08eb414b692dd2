"""Another user of this machine, and a Ray of theirs in which a trap waits for whoever asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534

_RAY = """
import sys
import ray

trap = sys.argv[1]

class Trap:
    def __reduce__(self):
        return open, (trap, "w")

@ray.remote(num_cpus=0)
class Supervisor:
    def hello(self):
        return {"ok": Trap()}

ray.init(address="local", namespace="red", num_cpus=1, include_dashboard=False, log_to_driver=False)
supervisor = Supervisor.options(name="digits/supervisor").remote()
ray.get(supervisor.__ray_ready__.remote())
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def require_another_user() -> None:
    """Skip a test that cannot have another user's processes."""
    if os.geteuid() != 0:
        pytest.skip("only root can start the processes of another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")


class Neighbour:
    """A Ray without a token that user `nobody` runs, with an actor that is named like a supervisor.

    What that actor answers makes the file `trap` in the process that unpickles it.

    Its process may read this interpreter wherever it is installed, as installed for everybody.
    """

    def __init__(self) -> None:
        require_another_user()
        self.folder = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))
        self.folder.chmod(0o755)
        os.chown(self.folder, NOBODY, NOBODY)
        self.trap = self.folder / "sprung"
        readable = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *readable]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RED_"))}
        own = {"HOME": str(self.folder), "TMPDIR": str(self.folder), "RAY_AUTH_MODE": "disabled"}
        self._process = subprocess.Popen(
            [*other, sys.executable, "-c", _RAY, str(self.trap)],
            cwd=self.folder,
            env={**kept, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the neighbour's Ray did not start"

    def note(self, folder: Path) -> Path:
        """Write Ray's note of the last cluster into a folder for temporary files, as the neighbour would."""
        (folder / "ray").mkdir(exist_ok=True)
        note = folder / "ray" / "ray_current_cluster"
        note.write_text(self.address)
        os.chown(note, NOBODY, NOBODY)
        return note

    def close(self) -> None:
        """End it with its Ray, and remove its files."""
        self._process.communicate(timeout=90)
        shutil.rmtree(self.folder, ignore_errors=True)
