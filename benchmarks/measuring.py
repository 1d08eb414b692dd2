"""Small parts that the benchmarks share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray


@contextmanager
def cluster(cpus: int = 64) -> Iterator[None]:
    ray.init(
        "local", num_cpus=cpus, namespace="bench", log_to_driver=False, logging_level="ERROR", include_dashboard=False
    )
    try:
        yield
    finally:
        ray.shutdown()


def timed(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def alternate(first: Callable[[], float], second: Callable[[], float], times: int) -> tuple[list[float], list[float]]:
    """Measure two things in turn, each once beforehand to warm up, so that drift of the machine hits both."""
    first(), second()
    ours, theirs = [], []
    for number in range(times):
        pair = (first, second) if number % 2 else (second, first)
        for measure in pair:
            (ours if measure is first else theirs).append(measure())
    return ours, theirs


def ratio(what: str, ours: list[float], theirs: list[float], goal: float, unit: str = "s") -> dict[str, Any]:
    mine, base = statistics.median(ours), statistics.median(theirs)
    found = mine / base
    scale, shown = (1e3, "ms") if unit == "s" and base < 0.5 else (1, unit)
    return {
        "what": what,
        "figure": f"{found:.2f} × ({mine * scale:.4g} {shown} : {base * scale:.4g} {shown})",
        "goal": f"≤ {goal:g} ×",
        "reached": found <= goal,
        "ratio": found,
        "ours": ours,
        "baseline": theirs,
    }
