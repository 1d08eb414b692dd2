"""A run as one page: how far it came, its curves, what failed, how long it took, its layout."""

from __future__ import annotations

import html
import time
from pathlib import Path

from red_tui.protocol.figures import causes_text
from red_tui.rounds.history import History
from red_tui.run_catalog.curve_plot import Curve
from red_tui.run_catalog.kept_run import Run
from red_tui.run_catalog.pages import page, svg, table, write_text

FAILURES = 50
"""Rounds with failed nodes that are told one by one."""


def write_report(run: Run, path: str | Path) -> Path:
    """Write the page of a run; it stands by itself and loads nothing.

    Args:
        run: The run.
        path: The file.

    Returns:
        Its path.

    Raises:
        RunError: If the journal cannot be read, or the file cannot be written.
    """
    history = run.history
    return write_text(path, page(run.name, [_facts(run), *_curves(history), _failures(history), _layout(run)]))


def _facts(run: Run) -> str:
    told = run.summary
    day = "%Y-%m-%d %H:%M:%S"
    rows = [
        ["run", run.id],
        ["began", time.strftime(day, time.localtime(told.began))],
        ["ended", told.ending or "no end in its journal"],
        ["rounds", f"{told.rounds} done, {told.failed_rounds} that do not count"],
        ["seconds of its rounds", f"{told.seconds:.1f}"],
        ["best", "-" if told.best is None else str(told.best)],
        *([f"last {name}", f"{value:.6g}"] for name, value in told.figures.items()),
        ["layout", told.digest or "not known"],
        *([["tags", ", ".join(run.tags)]] if run.tags else []),
        *([["damage", told.damage]] if told.damage else []),
    ]
    return table(["", ""], rows)


def _curves(history: History) -> list[str]:
    """A picture for each measure, and one for the seconds of rounds."""
    head, rows = history.columns()
    at = tuple(float(row[0]) for row in rows)
    left_out = {"round", "participants", "failed", "num_examples", "left_out", "evaluated", "ended"}
    parts = []
    for place, name in enumerate(head):
        values = tuple(float("nan") if row[place] is None else float(row[place]) for row in rows)
        if name not in left_out and any(value == value for value in values):
            parts.append(f"<h2>{html.escape(name)}</h2>{svg([Curve(name, at, values)], y=name)}")
    return parts


def _failures(history: History) -> str:
    found = [result for result in history if result.failed]
    if not found:
        return "<p>No node failed in a round that counts.</p>"
    rows = [
        [f"{result.number}", f"{result.failed}", causes_text(dict(result.failures)) if result.failures else ""]
        for result in found[-FAILURES:]
    ]
    more = f"<p>The last {FAILURES} of {len(found)} rounds with failed nodes.</p>" if len(found) > FAILURES else ""
    return f"<h2>failed nodes</h2>{more}{table(['round', 'nodes', 'causes'], rows)}"


def _layout(run: Run) -> str:
    layout = run.layout
    if layout is None:
        return "<p>No layout is known of it.</p>"
    return f"<h2>layout</h2><pre>{html.escape(layout.to_yaml())}</pre>"
