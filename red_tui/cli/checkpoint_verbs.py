"""Verbs over the checkpoints of federations, running or not: they read files and need no cluster."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from red_tui.checkpoints.checkpoint_file import PARAMETERS, CheckpointNotes, read_checkpoint
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.checkpoints.sources import (
    best_round,
    export_parameters,
    find_checkpoint,
    folder_of_checkpoints,
    listed,
    rule_of,
)
from red_tui.cli.output import say, tell, tell_json
from red_tui.errors import CheckpointError, RedError, WrongUse
from red_tui.replay.verification import verify as compare_runs


def checkpoint(options: argparse.Namespace) -> int:
    """List, verify or export."""
    actions = {"ls": _ls, "verify": _verify, "export": export}
    return actions[options.action](options)


def export(options: argparse.Namespace) -> int:
    """Write the parameters of a checkpoint as a plain safetensors file."""
    target = Path(options.target)
    size = export_parameters(options.source, target, extension="float32" if options.widen else "keep")
    if options.json:
        tell_json({"source": options.source, "file": str(target), "size": size})
    else:
        tell(f"{target}: the parameters of {options.source}, {size:,} bytes")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Say whether two runs are the same; gives 0, 1 where they part, and 2 where it cannot be told."""
    try:
        found = compare_runs(options.a, options.b)
    except RedError as error:
        raise WrongUse(error.message) from error  # exit code 1 says that they part
    if options.json:
        tell_json({"a": options.a, "b": options.b, **found.to_wire()})
        return found.exit_code
    tell(str(found))
    for line in found.differences:
        tell(f"  {line}")
    return found.exit_code


def _folder(owner: str) -> Path:
    """The checkpoints of a federation.

    Raises:
        CheckpointError: If it keeps none.
    """
    folder = folder_of_checkpoints(owner)
    if not Checkpoints(folder).files():
        raise CheckpointError(
            f"{owner!r} has no checkpoint in {folder}: name a federation of yours that keeps its rounds, or its folder",
            file=str(folder),
        )
    return folder


def _ls(options: argparse.Namespace) -> int:
    folder = _folder(options.federation)
    notes, refused = listed(folder)
    try:
        best, rule = best_round(folder, options.federation)
    except CheckpointError:
        best, rule = -1, rule_of(notes)
    if options.json:
        told = [{**_wire(one), "best": one.round == best} for one in notes]
        tell_json({"folder": str(folder), "by": rule.words, "checkpoints": told, "refused": refused})
        return 1 if refused else 0
    for one in notes:
        mark = f"  best: {rule.words}" if one.round == best else ""
        parts = [f"round {one.round}", f"{one.size:,} bytes", ", ".join(one.groups), _figures(one)]
        tell("  ".join(part for part in parts if part) + mark)
    for why in refused.values():
        say(why)
    return 1 if refused else 0


def _wire(notes: CheckpointNotes) -> dict[str, Any]:
    return {
        "round": notes.round,
        "file": notes.path.name,
        "size": notes.size,
        "format": notes.format,
        "version": notes.version,
        "layout": notes.layout,
        "digest": notes.digests[PARAMETERS],
        "groups": list(notes.groups),
        "figures": dict(notes.figures),
    }


def _figures(notes: CheckpointNotes) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in notes.figures.items())


def _verify(options: argparse.Namespace) -> int:
    paths: Sequence[Path]
    if folder_of_checkpoints(options.source).is_dir() and not os.path.isfile(options.source):
        paths = list(Checkpoints(_folder(options.source)).files().values())
    else:
        paths = [find_checkpoint(options.source)]
    told = []
    for path in paths:
        entry: dict[str, Any] = {"file": str(path), "sound": True}
        try:
            found = read_checkpoint(path, "bits")
            arrays = sum(map(len, [found.parameters, *found.groups.values()]))
            entry |= {"round": found.round, "digest": found.digest, "arrays": arrays}
        except CheckpointError as error:
            entry |= {"sound": False, "why": error.message}
        told.append(entry)
        if not options.json:
            whole = f"round {entry.get('round')}, {entry.get('arrays')} arrays, {str(entry.get('digest'))[:16]}"
            tell(f"{path.name}: sound ({whole})" if entry["sound"] else f"{path.name}: {entry['why']}")
    if options.json:
        tell_json({"checkpoints": told})
    return 0 if all(entry["sound"] for entry in told) else 1
