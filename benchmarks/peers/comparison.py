"""Our bundle isolation against Flower's Ray simulation and pfl-research, each in a venv of its own.

The venvs are made under `build/peers` at the first run.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.children import ROOT, AppFailed, run_app, venv

FLOWER = ("flwr[simulation]==1.41.*",)
TORCH = "torch==2.13.*"
PFL = ("pfl==0.6.*", TORCH)
OURS_FILES = (ROOT / "constraints.txt", ROOT / "pyproject.toml")
OURS = ("-c", str(ROOT / "constraints.txt"), "-e", str(ROOT), TORCH)

CORES = os.cpu_count() or 1
FLOWER_WORKERS = 4
"""Also on two cores: four were faster there than two."""

ADDING = (  # clients, floats, Flower's rounds, ours, how many times its clients/s (None: for comparison)
    (1000, 1000, 4, 20, 50.0),
    (100, 1000, 6, 20, None),
    (100, 1_000_000, 4, 12, 15.0),
)
STEPPING = ((1000, 992, 12), (100, 1_001_000, 12))  # users, parameters, rounds
TIMES = 3
TIMEOUT = 300.0
MEAN_TOLERANCE = 1e-6
SAME_TOLERANCE = 1e-5


class OursFailed(Exception):
    """Our side of a comparison failed."""


def run() -> list[dict[str, Any]]:
    return [*_against("Flower", _flower()), *_against("pfl-research", _pfl())]


def _against(peer: str, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What a comparison finds until it ends or breaks off; a peer that cannot be had is no failure of ours."""
    try:
        yield from rows
    except (AppFailed, OursFailed) as error:
        reached = False if isinstance(error, OursFailed) else None
        yield _row(f"{peer}: not compared", str(error).splitlines()[-1][-200:], "", reached)


def _flower() -> Iterator[dict[str, Any]]:
    python = venv("flower", FLOWER)
    for clients, floats, their_rounds, our_rounds, goal in ADDING:
        # The first round of each is its start-up and counts for nobody.
        theirs = _app(python, "flower_app", clients, floats, their_rounds, FLOWER_WORKERS)
        ours = _ours(sys.executable, "add", clients, floats, our_rounds, CORES)
        what = f"{clients} clients × {floats:,} floats, {_hosts(CORES)} : Flower, {FLOWER_WORKERS} workers"
        yield _times(what, [ours], [theirs], goal, "clients/s")
        error, their_error = abs(ours["mean"] - our_rounds), abs(theirs["mean"] - their_rounds)
        what = f"  its mean after {our_rounds} rounds of +1 is off by (Flower's after {their_rounds})"
        figure = f"{error:.1e} ({their_error:.1e})"
        yield _row(what, figure, f"≤ {MEAN_TOLERANCE:g}", error <= MEAN_TOLERANCE)


def _pfl() -> Iterator[dict[str, Any]]:
    python, our_python = venv("pfl", PFL), venv("ours-torch", OURS, OURS_FILES)
    for users, size, rounds in STEPPING:
        for processes in sorted({1, CORES}):
            ours, theirs = [], []
            for number in range(TIMES):
                for mine in (bool(number % 2), not number % 2):
                    if mine:
                        ours.append(_ours(our_python, "sgd", users, size, rounds, processes))
                    else:
                        theirs.append(_app(python, "pfl_app", users, size, rounds, processes))
            what = f"{users} users of {size:,} parameters, {_hosts(processes)} : pfl, as many processes"
            yield _times(what, ours, theirs, 1.0, "users/s")
        apart = abs(ours[0]["checksum"] / theirs[0]["checksum"] - 1)
        what = f"  the sums of squared parameters after {rounds} rounds are apart by"
        yield _row(what, f"{apart:.1e}", f"≤ {SAME_TOLERANCE:g}", apart <= SAME_TOLERANCE)


def _app(python: Path | str, name: str, *arguments: object) -> dict[str, Any]:
    result = run_app(python, f"benchmarks.peers.{name}", arguments, TIMEOUT)
    short = [count for count in result.get("results", []) if count != result["clients"]]
    if short:
        raise AppFailed(f"{name} {arguments}: rounds with {short} of {result['clients']} results")
    return result


def _ours(python: Path | str, *arguments: object) -> dict[str, Any]:
    try:
        return _app(python, "ours_app", *arguments)
    except AppFailed as error:
        raise OursFailed(str(error)) from error


def _hosts(count: int) -> str:
    return f"{count} host" + "s" * (count > 1)


def _rate(result: dict[str, Any]) -> float:
    """Clients a second in the middle one of its rounds."""
    return float(result["clients"] / statistics.median(result["seconds"]))


def _times(
    what: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]], goal: float | None, unit: str
) -> dict[str, Any]:
    rates, their_rates = [_rate(result) for result in ours], [_rate(result) for result in theirs]
    mine, base = statistics.median(rates), statistics.median(their_rates)
    found = mine / base
    return {
        "what": what,
        "figure": f"{found:.3g} × ({mine:,.0f} : {base:,.0f} {unit})",
        "goal": "" if goal is None else f"≥ {goal:g} ×",
        "reached": None if goal is None else found >= goal,
        "ratio": found,
        "peer": theirs[0]["version"],
        "ours": rates,
        "baseline": their_rates,
    }


def _row(what: str, figure: str, goal: str, reached: bool | None) -> dict[str, Any]:
    return {"what": what, "figure": figure, "goal": goal, "reached": reached}
