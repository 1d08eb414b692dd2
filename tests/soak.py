"""A soak: rounds for minutes on end, and whether anything grows: `python -m tests.soak --minutes 60` (`make soak`).

A federation is launched and its launcher leaves.  Clients come one after another: each attaches, runs rounds with
random queries, releases nodes, changes the next rounds and the topology, reads what there is to read, and leaves.
Meanwhile memory, files and threads of every process of the cluster, its log files and the journal are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

FED_ID = "soak"
CHUNK = 250
"""Rounds of one client."""

MARK = 1000
"""Rounds between two measurements; what comes before the first is warming up."""

TOLERANCE = 0.02
"""Growth in 1,000 rounds that counts as flat."""

NODES = 40
TOPOLOGIES = (("star", {}), ("ring", {}), ("k-connected", {"k": 4}))
QUERIES = (None, "role:train", "id:client_1*", "role:train !id:client_0", "role:train id:client_*[0-4]")

LAYOUT = """\
federation: {fed_id}
template: soak_nodes:Adds
nodes: [{{count: {nodes}, role: train-eval, id: "client_{{i}}"}}]
placement: {{isolation: bundle, cpus: 1, bundles: 2}}
rounds: {{deadline: 60}}
failure: {{policy: rebuild}}
"""

TEMPLATE = """\
import numpy as np
import red_tui as red


class Adds(red.FederatedNode):
    def initial_parameters(self):
        return {"w": np.zeros(1000)}

    def fit(self, parameters, config):
        return red.FitResult({"w": parameters["w"] + 1.0}, 1)

    def evaluate(self, parameters, config):
        return red.EvaluateResult(1.0 / (1.0 + float(parameters["w"][0])), 1, {})
"""

KINDS = ("Supervisor", "CheckpointWriter", "BundleHost", "Topology", "gcs_server", "raylet", "log_monitor", "Agent")


# -- a client that comes and goes -------------------------------------------------------------------


def client(seed: int, rounds: int) -> int:
    """Do what an operator's script does, and leave; prints the number of the last round."""
    import red_tui as red

    rng, federation = random.Random(seed), red.attach(FED_ID)
    left = rounds
    while left > 0:
        some = min(left, rng.randint(10, 60))
        federation.run(some, nodes=rng.choice(QUERIES))
        left -= some
        with contextlib.suppress(red.CommandRefused):
            act = rng.randrange(4)
            if act == 0:
                federation.release(f"id:client_{rng.randrange(NODES)}")
            elif act == 1:
                rule, options = rng.choice(TOPOLOGIES)
                federation.set_topology(rule, **options)
            elif act == 2:
                federation.set_round(fraction=rng.choice([0.5, 1.0]))
            else:
                federation.events(limit=100)
                federation.explain(f"client_{rng.randrange(NODES)}")
    print(federation.history[-1].number)
    return 0


# -- what is measured -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """One process at one moment."""

    memory: float
    files: int
    threads: int


@dataclass
class Sample:
    """All that is measured at one moment."""

    rounds: int
    processes: dict[tuple[str, int], Reading] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        memory = (f"{kind} {reading.memory:.1f} MB" for (kind, _), reading in sorted(self.processes.items()))
        return ", ".join([*(f"{value:.4g} {name}" for name, value in self.totals.items()), *memory])


class Meter:
    """Measures the cluster of a home.

    Args:
        home: Its RED_HOME.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._kinds: dict[int, str] = {}
        self._folder = Path(json.loads((home / "cluster.json").read_text())["folder"])

    def measure(self, rounds: int) -> Sample:
        """Measure everything now."""
        sample = Sample(rounds)
        for process in psutil.process_iter(["cmdline", "environ"]):
            if (process.info["environ"] or {}).get("RED_EMBEDDED_CLUSTER") != str(self._folder):
                continue
            with contextlib.suppress(psutil.Error):
                kind = self._kind(process.pid, " ".join(process.info["cmdline"] or ()))
                sample.processes[kind, process.pid] = Reading(
                    process.memory_full_info().uss / 1e6, process.num_fds(), process.num_threads()
                )
        logs = list(self._folder.rglob("logs/*"))
        journal = list((self._home / "federations" / FED_ID).glob("journal.db*"))
        sample.totals = {
            "processes": len(sample.processes),
            "log files": len(logs),
            "log MB": sum(_size(path) for path in logs) / 1e6,
            "journal MB": sum(_size(path) for path in journal) / 1e6,
        }
        return sample

    def _kind(self, pid: int, command: str) -> str:
        """What a process is; its title changes with what it does."""
        found = next((kind for kind in KINDS if kind in command), "")
        if found or pid not in self._kinds:
            named = re.match(r"ray::(\w+)", command)
            self._kinds[pid] = found or (named[1] if named else command.split()[0].rpartition("/")[2] or "other")
        return self._kinds[pid]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def table(samples: list[Sample]) -> tuple[list[str], list[str]]:
    """The table's lines, and what grew by more than `TOLERANCE` in 1,000 rounds since the first sample."""
    first, last = samples[0], samples[-1]
    thousands = max(1e-9, (last.rounds - first.rounds) / 1000)
    lines = [f"{'':<30}{'round ' + str(first.rounds):>16}{'round ' + str(last.rounds):>16}{'in 1,000 rounds':>18}"]
    grew = []

    def row(name: str, before: float, after: float, *, judged: bool) -> None:
        change = (after - before) / thousands
        share = change / before if before else 0.0
        mark = ""
        if judged and share > TOLERANCE:
            grew.append(f"{name}: {change:+.2f} ({share:+.1%}) in 1,000 rounds")
            mark = " !"
        lines.append(f"{name:<30}{before:>16.2f}{after:>16.2f}{change:>+11.2f}{share:>+7.1%}{mark}")

    for key in sorted(first.processes.keys() & last.processes.keys()):
        before, after = first.processes[key], last.processes[key]
        name = f"{key[0]} {key[1]}"
        row(f"{name} MB", before.memory, after.memory, judged=True)
        row(f"{name} files", before.files, after.files, judged=True)
        row(f"{name} threads", before.threads, after.threads, judged=True)
    for name, value in first.totals.items():
        row(name, value, last.totals[name], judged=name in ("processes",))
    gone, new = first.processes.keys() - last.processes.keys(), last.processes.keys() - first.processes.keys()
    lines.append(
        f"processes that ended since: {len(gone)}, new ones: {', '.join(kind for kind, _ in sorted(new)) or 0}"
    )
    return lines, grew


# -- all of it --------------------------------------------------------------------------------------


def soak(minutes: float, seed: int, mark: int) -> int:
    """Run for so long; 0 if nothing grew."""
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp") as name:
        folder = Path(name)
        home = folder / "home"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "RED_"))}
        environment = {**kept, "RED_HOME": str(home), "TMPDIR": name, "RAY_TMPDIR": name}
        layout = folder / "layouts" / "soak.yaml"
        layout.parent.mkdir()
        layout.write_text(LAYOUT.format(fed_id=FED_ID, nodes=NODES))
        layout.with_name("soak_nodes.py").write_text(TEMPLATE)
        red = str(Path(sys.executable).with_name("red-console"))
        subprocess.run([red, "up", str(layout), "--cpus", "4"], env=environment, check=True)
        try:
            return _observe(Meter(home), environment, minutes, seed, mark)
        finally:
            subprocess.run([red, "down", "--all", "--yes"], env=environment)


def _observe(meter: Meter, environment: dict[str, str], minutes: float, seed: int, mark: int) -> int:
    samples: list[Sample] = []
    ends, number, done = time.monotonic() + 60 * minutes, seed, 0
    while time.monotonic() < ends or len(samples) < 2:
        command = [sys.executable, "-m", "tests.soak", "--client", str(number), "--rounds", str(min(CHUNK, mark))]
        told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=600)
        done, number = int(told.stdout.split()[-1]), number + 1
        if done >= mark * (len(samples) + 1):
            samples.append(meter.measure(done))
            print(f"round {done}: {samples[-1]}", file=sys.stderr, flush=True)
    lines, grew = table(samples)
    print("\n".join(lines))
    print("flat" if not grew else "grew:\n  " + "\n  ".join(grew))
    return 1 if grew else 0


def main() -> int:
    """As the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=MARK, help="rounds between two measurements")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=CHUNK, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client is not None:
        return client(options.client, options.rounds)
    return soak(options.minutes, options.seed, options.every)


if __name__ == "__main__":
    sys.exit(main())
