"""What a plan of a build says: who goes where, what it starts, and what does not fit and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from red_tui.console.lines import Line, labelled, wrap
from red_tui.console.text import clip, duration, plain, plural

Placed = Sequence[Any]
"""Node, bundle and host."""

MAX_LINES = 400


def spans(numbers: Sequence[int]) -> str:
    """Sorted numbers as `1-4, 7, 9-12`."""
    found = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        found.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(found)


def told_of(plan: Mapping[str, Any]) -> tuple[int, int]:
    """How many nodes a plan places and leaves out, those that it does not name included."""
    placed, left = plan.get("placed") or (), plan.get("left_out") or ()
    return int(plan.get("placed_count") or len(placed)), int(plan.get("left_out_count") or len(left))


def headline(plan: Mapping[str, Any]) -> str:
    """The plan in a sentence."""
    placed, left = told_of(plan)
    bundles = len({bundle for _, bundle, _ in plan.get("placed") or ()})
    more = "more than " if placed > len(plan.get("placed") or ()) else ""
    text = f"{plural(placed, 'node')} would go to {more}{plural(bundles, 'bundle')}" if placed else "no node fits"
    if plan.get("processes"):
        text += f", starting {plural(int(plan['processes']), 'process').replace('processs', 'processes')}"
        if plan.get("seconds") is not None:
            text += f" in about {duration(float(plan['seconds']))} at last time's pace"
    if plan.get("reserves"):
        text += ", after the bundles are reserved"
    if left:
        text += f"; {left:,} {'does' if left == 1 else 'do'} not fit"
    return text


def plan_lines(plan: Mapping[str, Any], width: int) -> list[Line]:
    """The plan, a line for each bundle, then what is left out by its reason."""
    lines: list[Line] = [((row, "text"),) for row in wrap(headline(plan), width)]
    if plan.get("no_room"):
        why = f"there is no room for the bundles now: {plain(plan['no_room'])}"
        lines += [(), *[((row, "pending"),) for row in wrap(why, width)]]
    lines += placed_lines(plan.get("placed") or (), width)
    placed, left = told_of(plan)
    unnamed = placed - len(plan.get("placed") or ())
    if unnamed > 0:
        lines.append(((f"and {plural(unnamed, 'more node')}", "dim"),))
    lines += left_lines(plan.get("left_out") or (), left, width)
    return lines


def placed_lines(placed: Sequence[Placed], width: int) -> list[Line]:
    """A line for each bundle with its nodes."""
    if not placed:
        return []
    of_bundle: dict[tuple[int, str], list[str]] = {}
    for node, bundle, host in placed:
        of_bundle.setdefault((int(bundle), plain(host)), []).append(plain(node))
    lines: list[Line] = [(), (("bundle  host        nodes", "dim"),)]
    for (bundle, host), nodes in sorted(of_bundle.items())[:MAX_LINES]:
        count = f"{len(nodes):,}: " if len(nodes) > 1 else ""
        told = clip(f"{count}{', '.join(nodes[:8])}", max(10, width - 20))
        lines.append(((f"{bundle:>6}  ", "text"), (clip(host, 10).ljust(12), "dim"), (told, "ready")))
    if len(of_bundle) > MAX_LINES:
        lines.append(((f"and {len(of_bundle) - MAX_LINES:,} more bundles", "dim"),))
    return lines


def left_lines(left_out: Sequence[Sequence[Any]], count: int, width: int) -> list[Line]:
    """What does not fit: each reason once, with those that it holds for."""
    if not left_out:
        return []
    by_reason: dict[str, list[str]] = {}
    for node, why in left_out:
        by_reason.setdefault(plain(why), []).append(plain(node))
    lines: list[Line] = [(), ((f"{plural(count, 'node')} left out", "pending"),)]
    for why, nodes in list(by_reason.items())[:MAX_LINES]:
        names = ", ".join(nodes[:4]) + (f" and {len(nodes) - 4:,} more" if len(nodes) > 4 else "")
        lines += labelled(clip(names, 40), why, width, label_width=min(44, len(clip(names, 40)) + 2))
    return lines
