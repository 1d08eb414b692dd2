"""One of a million parts of two million examples, against one permutation of all: processor time, and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measuring import alternate
from red_tui import data
from red_tui.data.partition import split_of

EXAMPLES, PARTS, PART, TIMES = 2_000_000, 1_000_000, 777_777, 5
LIMIT_SECONDS, LIMIT_BYTES = 0.05, 100e6

RULES: list[data.Partition] = [
    data.IID(),
    data.Dirichlet(alpha=0.3),
    data.Shards(per_part=1),
    data.Pathological(classes=1),
    data.PowerLaw(),
    data.NaturalId(column="owner"),
]

_RESIDENT = """
import numpy as np, psutil
from red_tui import data
columns = {{"label": np.random.default_rng(0).integers(0, 10, {examples})}}
columns["owner"] = np.random.default_rng(1).permutation({examples}) % {parts}
before = psutil.Process().memory_info().rss
# From here on the kernel notes the most anew.
open("/proc/self/clear_refs", "w").write("5")
data.{rule!r}.indices(columns, {parts}, {part})
most = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(most.split()[1]) * 1024 - before)
"""


def processor_seconds(act: Callable[[], Any]) -> float:
    """What other processes do beside it counts little."""
    began = time.process_time()
    act()
    return time.process_time() - began


def run() -> list[dict[str, Any]]:
    columns = {"label": np.random.default_rng(0).integers(0, 10, EXAMPLES)}
    columns["owner"] = np.random.default_rng(1).permutation(EXAMPLES) % PARTS
    results = []
    for rule in RULES:

        def ours(rule: data.Partition = rule) -> float:
            split_of.cache_clear()
            return processor_seconds(lambda: rule.indices(columns, PARTS, PART))

        def permutation() -> float:
            return processor_seconds(lambda: np.random.default_rng(0).permutation(EXAMPLES))

        mine, theirs = alternate(ours, permutation, TIMES)
        code = _RESIDENT.format(examples=EXAMPLES, parts=PARTS, part=PART, rule=rule)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        seconds, base, more = min(mine), min(theirs), float(done.stdout)
        results.append(
            {
                "what": f"{rule.name}: 1 of {PARTS:,} parts of {EXAMPLES:,} : their permutation",
                "figure": f"{seconds / base:.2f} × ({seconds * 1e3:.1f} ms, {more / 1e6:.0f} MB)",
                "goal": "≤ 50 ms, 100 MB",
                "reached": seconds <= LIMIT_SECONDS and more <= LIMIT_BYTES,
                "ours": mine,
                "baseline": theirs,
            }
        )
    split_of.cache_clear()
    return results
