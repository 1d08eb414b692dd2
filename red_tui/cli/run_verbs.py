"""Verbs over runs, running or ended: they read files and need no cluster."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from red_tui.cli.output import confirm, say, tell, tell_json, tell_table
from red_tui.errors import RedError, RunError
from red_tui.plain_text import one_line
from red_tui.run_catalog.kept_run import Run
from red_tui.run_catalog.report import write_report
from red_tui.run_catalog.run_comparison import compare, text_table
from red_tui.run_catalog.run_list import delete, find, prunable, runs

NAMED = 5
"""Runs that a question names."""


def list_runs(options: argparse.Namespace) -> int:
    """List runs, or name, tag and remove some."""
    actions = {None: _list, "rename": _rename, "tag": _tag, "prune": _prune, "delete": _delete}
    return actions[options.action](options)


def _known(options: argparse.Namespace) -> list[Run]:
    return runs(options.folder, tag=options.tag)


def _list(options: argparse.Namespace) -> int:
    found = _known(options)
    if options.json:
        tell_json({"runs": [run.to_wire() for run in found]})
        return 0
    rows, damaged = [], []
    for run in found:
        try:
            rows.append(_row(run))
        except RunError as error:
            damaged.append(f"{run.id}: {error.message}")
    if rows:
        tell_table(text_table(["run", "began", "rounds", "seconds", "last", "best", "ended", "tags"], rows))
    elif not damaged:
        say("no runs: `red-console up LAYOUT` launches a federation, and a script keeps its run with keep=FOLDER")
    for why in damaged:
        say(one_line(why))
    return 1 if damaged else 0


def _row(run: Run) -> list[str]:
    told = run.summary
    last = ", ".join(f"{one_line(name, 20)} {value:.4g}" for name, value in list(told.figures.items())[:2])
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(told.began)) if told.began else "-"
    best = "-" if told.best is None else f"{told.best.value:.4g} in {told.best.round}"
    ending = one_line(told.ending, 40) or "no end"
    rounds = f"{told.rounds}" + (f" ({told.failed_rounds} failed)" if told.failed_rounds else "")
    tags = ", ".join(run.tags)
    return [one_line(run.name, 60), began, rounds, f"{told.seconds:.1f}", last or "-", best, ending, tags or "-"]


def _rename(options: argparse.Namespace) -> int:
    run = find(options.chosen, _known(options))
    run.rename(options.name)
    return _told(options, run, f"{run.id} is called {run.name}")


def _tag(options: argparse.Namespace) -> int:
    run = find(options.chosen, _known(options))
    run.tag(*options.tags, remove=options.remove)
    return _told(options, run, f"{run.name}: {', '.join(run.tags) or 'no tags'}")


def _told(options: argparse.Namespace, run: Run, text: str) -> int:
    if options.json:
        tell_json({"id": run.id, "name": run.name, "tags": list(run.tags)})
    else:
        tell(text)
    return 0


def _prune(options: argparse.Namespace) -> int:
    gone = prunable(options.keep, _known(options))
    if gone:
        confirm(options, f"Remove {_named(gone)} for good?", "remove them")
    return _removed(options, gone)


def _delete(options: argparse.Namespace) -> int:
    known = _known(options)
    gone = list(dict.fromkeys(find(name, known) for name in options.runs))
    confirm(options, f"Remove {_named(gone)} for good?", "remove them")
    return _removed(options, gone)


def _removed(options: argparse.Namespace, gone: Sequence[Run]) -> int:
    removed: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for run in gone:
        name = run.name
        try:
            removed.append({"id": run.id, "files": list(map(str, delete(run)))})
        except RedError as error:
            refused[run.id] = error.message
        else:
            if not options.json:
                tell(f"{name} is removed")
    if options.json:
        tell_json({"removed": removed, "refused": refused})
    elif not gone:
        say("nothing to remove")
    for why in refused.values():
        say(one_line(why))
    return 1 if refused else 0


def _named(some: Sequence[Run]) -> str:
    names = ", ".join(one_line(run.name, 60) for run in some[:NAMED])
    more = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
    return f"{len(some)} run{'' if len(some) == 1 else 's'} ({names}{more})"


def compare_runs(options: argparse.Namespace) -> int:
    """Compare runs."""
    known = None if options.folder is None else runs(options.folder)
    made = compare(
        [find(name, known) for name in options.runs],
        options.metric,
        x=options.x,
        last=options.last,
        smooth=options.smooth,
        seeds=options.seeds,
        log=options.log,
        target=options.target,
    )
    written = {}
    if options.html:
        written["html"] = str(made.to_html(options.html))
    if options.svg:
        written["svg"] = str(made.to_svg(options.svg))
    if options.json:
        tell_json({**made.to_wire(), "written": written})
        return 0
    for path in written.values():
        say(f"{path} is written")
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    size = shutil.get_terminal_size((80, 24))
    lines = made.plot(size.columns, max(8, size.lines // 2), ascii_only=options.ascii or not encoding.startswith("utf"))
    head, rows = made.difference_rows()
    tell_table("\n".join(map(one_line, lines)))
    tell("")
    tell_table(_table(*made.rows()))
    tell("")
    tell_table(_table(head, rows)) if rows else tell("their layouts do not differ")
    return 0


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return text_table([one_line(cell, 60) for cell in head], [[one_line(cell, 60) for cell in row] for row in rows])


def report(options: argparse.Namespace) -> int:
    """Write a run as a page."""
    known = None if options.folder is None else runs(options.folder)
    path = write_report(find(options.chosen, known), Path(options.file))
    if options.json:
        tell_json({"file": str(path)})
    else:
        tell(f"{path} is written")
    return 0
