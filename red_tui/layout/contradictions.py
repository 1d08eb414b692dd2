"""What a layout says twice and differently: refused when a federation is made from it, and still read from journals."""

from __future__ import annotations

from collections.abc import Iterator

from red_tui.errors import LayoutError
from red_tui.layout.models import Layout, Placement

TOLD_KEYS = ("num_nodes", "node_index", "strategy", "round")
"""Config keys that a federation itself tells its nodes."""

COUNTED = {"CPU": "cpu", "GPU": "gpu"}


def refuse_contradictions(layout: Layout, file: str = "layout") -> None:
    """Raise LayoutError for the first thing that a layout says twice and differently, with its place in the file."""
    for field, text in _contradictions(layout):
        raise contradiction(layout, file, field, text)


def contradiction(layout: Layout, file: str, field: str, text: str) -> LayoutError:
    """The error of a contradiction in a field."""
    line, column = layout.position(field) or (None, None)
    where = f"{file}:{line}:{column}: " if line else f"{file}: "
    return LayoutError(f"{where}{field}: {text}", file=file, line=line, column=column, field=field, allowed=None)


def _contradictions(layout: Layout) -> Iterator[tuple[str, str]]:
    configs = [("config", layout.config), *((f"nodes[{at}].config", one.config) for at, one in enumerate(layout.nodes))]
    for field, config in configs:
        for key in TOLD_KEYS:
            if key in config:
                yield f"{field}.{key}", "the federation itself tells this to its nodes: choose another name"
    yield from _of_placement(layout.placement)


def _of_placement(placement: Placement) -> Iterator[tuple[str, str]]:
    for name, field in COUNTED.items():
        if name in placement.resources:
            yield f"placement.resources.{name}", f"this is said by {field}s: leave it out here"
    if not isinstance(placement.bundles, list):
        return
    totals = {name: 0.0 for name in (*COUNTED, *placement.resources)}
    for at, bundle in enumerate(placement.bundles):
        for name, field in COUNTED.items():
            if name in bundle.resources:
                yield f"placement.bundles[{at}].resources.{name}", f"this is said by {field}: leave it out here"
        for name, amount in {"CPU": bundle.cpu, "GPU": bundle.gpu, **bundle.resources}.items():
            totals[name] = totals.get(name, 0.0) + amount * bundle.count
    if placement.split != "uniform":
        yield "placement.split", "the bundles are listed with what each has, so nothing is split: leave one of them out"
    said = [("cpus", "CPU", placement.cpus), ("gpus", "GPU", placement.gpus or None)]
    said += [(f"resources.{name}", name, total) for name, total in placement.resources.items()]
    for field, name, wanted in said:
        if wanted is not None and abs(totals[name] - wanted) > 1e-6:
            text = f"{wanted:g} here and {totals[name]:g} in the listed bundles: leave one of them out"
            yield f"placement.{field}", text
