"""A million virtual nodes: what the columns cost, against a list of that many small objects."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgpack

from benchmarks.measuring import timed
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable

ROWS = 1_000_000
MANY = 20_000_000

_FEDERATION = """
import os, time, psutil
import red_tui as red
class C(red.FederatedNode): pass
red.StarFederatedLearningSchema(C, ["train"] * 2)
roles = ["train"] * {rows}
before = psutil.Process().memory_info().rss
started = time.perf_counter()
federation = red.StarFederatedLearningSchema(C, roles)
print(time.perf_counter() - started, psutil.Process().memory_info().rss - before)
"""

_OBJECTS = """
import time, psutil
class Node:
    def __init__(self, i): self.id, self.role, self.state, self.bundle = f"client_{{i}}", "train", "virtual", -1
before = psutil.Process().memory_info().rss
started = time.perf_counter()
nodes = {{node.id: node for node in map(Node, range({rows}))}}
print(time.perf_counter() - started, psutil.Process().memory_info().rss - before)
"""


def _measured(code: str, rows: int = ROWS) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", code.format(rows=rows)], capture_output=True, text=True, timeout=120, check=True
    )
    seconds, resident = done.stdout.split()
    return float(seconds), float(resident)


def run() -> list[dict[str, Any]]:
    seconds, resident = _measured(_FEDERATION)
    many_seconds, many_resident = _measured(_FEDERATION, MANY)
    plain_seconds, plain_resident = _measured(_OBJECTS)
    table = NodeTable()
    table.append(PatternIds("client_", "", 0, ROWS), "train")
    since = table.version
    for row in range(0, ROWS, ROWS // 10):
        table.set(row, state=NodeState.READY, bundle=1)
    delta = min(timed(lambda: table.to_wire(since, known_segments=1)) for _ in range(20))
    size = len(msgpack.packb(table.to_wire(since, known_segments=1)))
    return [
        {
            "what": "1,000,000 virtual nodes: creation (objects in a dict)",
            "figure": f"{seconds:.3f} s ({plain_seconds:.2f} s)",
            "goal": "≤ 1 s",
            "reached": seconds <= 1,
        },
        {
            "what": "1,000,000 virtual nodes: more resident memory (objects)",
            "figure": f"{resident / 1e6:.0f} MB ({plain_resident / 1e6:.0f} MB)",
            "goal": "≤ 100 MB",
            "reached": resident <= 100e6,
        },
        {
            "what": "20,000,000 virtual nodes: creation",
            "figure": f"{many_seconds:.3f} s",
            "goal": "≤ 2 s",
            "reached": many_seconds <= 2,
        },
        {
            "what": "20,000,000 virtual nodes: more resident memory",
            "figure": f"{many_resident / 1e6:.0f} MB",
            "goal": "≤ 900 MB",
            "reached": many_resident <= 900e6,
        },
        {
            "what": "delta of 10 changes in 1,000,000 rows",
            "figure": f"{delta * 1e3:.2f} ms, {size} bytes",
            "goal": "≤ 5 ms, 1 KB",
            "reached": delta <= 5e-3 and size <= 1024,
        },
    ]
