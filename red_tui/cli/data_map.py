"""`data`: how a layout's data set is dealt out, as a map of labels and parts, before anything is built."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.cli.output import tell_json, tell_table
from red_tui.data.description import DataDescription, describe
from red_tui.data.source import DataRule
from red_tui.errors import CommandRefused, WrongUse
from red_tui.layout import load, resolve
from red_tui.plain_text import one_line

SHADES, ASCII_SHADES = " ·░▒▓█", " .:+*#"
SHOWN_PARTS = 40
MAX_DRAWN_PARTS = 10_000
"""Beyond this a description takes seconds: a part of them is looked at with `--parts`."""
BOUNDS = (0.0, 0.02, 0.1, 0.25, 0.5)
"""A share above each of these gets the next shade."""
MIN_CELL, MAX_CELL = 3, 8


def data(options: argparse.Namespace) -> int:
    """Open the source that a layout names, deal it out, and draw the result."""
    path = resolve(options.layout)
    parsed = load(path)
    if parsed.data is None:
        raise CommandRefused(
            f"{path} says nothing of data: write data: {{source: module:function, partition: {{name: dirichlet}}}}"
        )
    if options.parts is not None and options.parts < 1:
        raise WrongUse(f"--parts must be at least 1, not {options.parts}")
    folder = Path(options.working_dir).expanduser() if options.working_dir else path.resolve().parent
    if not folder.is_dir():
        raise WrongUse(f"--working-dir {folder} is no folder")
    parts = options.parts or parsed.data.parts or parsed.num_nodes
    if parts > MAX_DRAWN_PARTS:
        raise CommandRefused(f"{parts:,} parts are more than are counted here: name fewer with --parts N")
    rule = DataRule.of(parsed.common_config()["data"])
    # As on the nodes: modules and files of a source are found beside the layout.
    sys.path.insert(0, str(folder.resolve()))
    before = Path.cwd()
    os.chdir(folder)
    try:
        found = describe(rule.partition, rule.labels(), parts)
    finally:
        os.chdir(before)
        sys.path.remove(str(folder.resolve()))
    if options.json:
        tell_json(_wire(found))
        return 0
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    ascii_only = options.ascii or not encoding.startswith("utf")
    tell_table("\n".join(drawn(found, shutil.get_terminal_size((80, 24)).columns, ascii_only=ascii_only)))
    return 0


def drawn(found: DataDescription, columns: int, *, ascii_only: bool) -> Iterator[str]:
    """Lines of a map: a row for each part, a column for each label, shaded by the share of the part's examples.

    Args:
        found: The figures.
        columns: Cells of the terminal.
        ascii_only: Whether the shades are ASCII.
    """
    heads = str(found).splitlines()
    yield from heads[: 2 if found.labels else 1]
    if not found.labels:
        return
    number = max(4, len(f"{len(found.sizes) - 1:,}"))
    size = max(4, len(f"{found.sizes.max():,}"))
    names = [one_line(str(label)) for label in found.labels]
    cell = min(MAX_CELL, max(MIN_CELL, *map(len, names)))
    room = max(1, (columns - number - size - 10) // (cell + 1))
    most = np.argsort(-found.table.sum(axis=0), kind="stable")[:room]
    shown = np.sort(most)
    heads_of = " ".join(f"{names[place][:cell]:>{cell}}" for place in shown)
    yield f"{'part':>{number}} {'size':>{size}}  {heads_of}  apart"
    shades = ASCII_SHADES if ascii_only else SHADES
    for part in range(min(SHOWN_PARTS, len(found.sizes))):
        total = found.sizes[part]
        shares = found.table[part, shown] / max(1, total)
        cells = " ".join(shades[np.searchsorted(BOUNDS, share)] * cell for share in shares.tolist())
        apart = found.hellinger[part]
        yield f"{part:>{number},} {total:>{size},}  {cells}  {'' if math.isnan(apart) else f'{apart:5.2f}'}".rstrip()
    key = [f"{shade * 2} above {100 * bound:g} %" for shade, bound in zip(shades[1:], BOUNDS, strict=True)]
    yield f"share of a part's examples: {', '.join(key[:2])},"
    yield f"{', '.join(key[2:])}; apart: Hellinger distance to all"
    if len(found.sizes) > SHOWN_PARTS:
        yield f"and {len(found.sizes) - SHOWN_PARTS:,} more parts"
    if len(found.labels) > len(shown):
        yield f"and {len(found.labels) - len(shown):,} labels with fewer examples; a wider terminal shows more"


def _wire(found: DataDescription) -> dict[str, Any]:
    return {
        "parts": len(found.sizes),
        "sizes": found.sizes.tolist(),
        "labels": [label if isinstance(label, (int, float, str, bool)) else str(label) for label in found.labels],
        "table": found.table.tolist(),
        "left_out": found.left_out,
        "hellinger": found.hellinger.tolist(),
        "jensen_shannon": found.jensen_shannon.tolist(),
    }
