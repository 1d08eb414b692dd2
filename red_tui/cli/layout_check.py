"""`check`: what is wrong with a layout, without running what its author wrote unless that is asked for."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from red_tui.aggregation.server import FederatedAggregator, FederatedServer
from red_tui.aggregation.strategies import Strategy
from red_tui.cli.output import say, tell, tell_json
from red_tui.errors import LayoutError, RedError, from_wire
from red_tui.federation.base import FederatedBase
from red_tui.federation.schemas import check_topology, spec_of, working_dir_of
from red_tui.layout import Layout, load, load_object, load_template, resolve
from red_tui.layout.templates import find_class
from red_tui.nodes.template import FederatedNode
from red_tui.placement.shares import split_bundles
from red_tui.rounds.hooks import RoundHook
from red_tui.supervisor.working_folder import WorkingFolder

BASES = {
    "server": FederatedServer,
    "aggregator": FederatedAggregator,
    "schema": FederatedBase,
    "rounds.strategy.name": Strategy,
}
"""What the classes derive from that a layout names; all others are nodes."""

IMPORT_SECONDS = 300
"""After which an import that does not end is given up."""


def check(options: argparse.Namespace) -> int:
    """Check a layout: its text, and that the classes it names stand in modules; with `--import`, that they import."""
    path = resolve(options.layout)
    parsed = _loaded(path)
    folder = Path(options.working_dir).expanduser() if options.working_dir else path.resolve().parent
    check_topology(parsed, str(path))
    for field, spec in parsed.class_specs():
        if spec.startswith("red_tui."):  # not the author's code
            if field == "rounds.evaluator":
                load_object(spec, None, str(path), field=field, position=parsed.position(field))
                continue
            base = RoundHook if field.startswith("hooks[") else BASES.get(field, FederatedNode)
            load_template(spec, None, str(path), field=field, base=base, position=parsed.position(field))
        else:
            find_class(spec, folder, str(path), field=field, position=parsed.position(field))
    travels = working_dir_of(path, options.working_dir)
    if travels is not None:
        WorkingFolder(travels).refuse_ignored(parsed, str(path))
    if options.imports:
        _import_in_a_child(path, folder)
    devices = devices_of(parsed)
    if options.json:
        told = {"file": str(path), "federation": parsed.federation, "nodes": parsed.num_nodes, "ok": True}
        if devices:
            told["devices"] = [one.to_wire() for one in devices]
        tell_json({**told, "imported": True} if options.imports else told)
        return 0
    tell(f"{path}: good: federation {parsed.federation}, {parsed.num_nodes} nodes of {parsed.template}")
    for one in devices:
        tell(str(one))
    if not options.imports and not parsed.template.startswith("red_tui."):
        say("its modules were read, not run: --import imports them as well, in a process of their own")
    return 0


def _loaded(path: Path) -> Layout:
    """The layout of a file.

    Raises:
        LayoutError: With all of its problems, a line each.
    """
    try:
        return load(path)
    except LayoutError as error:
        problems = error.fields.get("problems") or []
        if len(problems) < 2:
            raise
        raise LayoutError("\n".join(problems), **error.fields) from None


class Devices(NamedTuple):
    """What the nodes of some bundles see of GPUs.

    Attributes:
        bundles: How many bundles have this share.
        gpu: The share of each, in GPUs.
    """

    bundles: int
    gpu: float

    @property
    def seen(self) -> int:
        """Devices that a process with all of the share sees."""
        return math.ceil(self.gpu) if self.gpu < 1 else int(self.gpu)

    def __str__(self) -> str:
        whose = f"{self.bundles:,} bundle{'s' * (self.bundles != 1)} with {self.gpu:g} GPU: "
        if not self.seen:
            return whose + "a node there sees no device"
        if self.gpu < 1:
            return whose + f"a node there sees one device, cuda:0, which up to {int(1 / self.gpu + 1e-9)} bundles share"
        return whose + "a node there sees " + ", ".join(f"cuda:{number}" for number in range(self.seen))

    def to_wire(self) -> dict[str, Any]:
        """As plain data."""
        return {"bundles": self.bundles, "gpu": self.gpu, "seen": self.seen}


def devices_of(layout: Layout) -> list[Devices]:
    """Which devices nodes will see, the largest shares first; nothing for a layout without GPUs."""
    placement = layout.placement
    if isinstance(placement.bundles, list):
        shares = Counter({bundle.gpu: 0 for bundle in placement.bundles})
        for bundle in placement.bundles:
            shares[bundle.gpu] += bundle.count
    elif placement.gpus:
        count = placement.num_bundles(layout.num_nodes)
        split = split_bundles(
            count, float(count), placement.gpus, placement.split, seed=placement.seed, weights=placement.weights
        )
        shares = Counter(bundle.get("GPU", 0.0) for bundle in split[1:])
    else:
        shares = Counter()
    return [Devices(count, gpu) for gpu, count in sorted(shares.items(), reverse=True)] if any(shares) else []


def _import_in_a_child(path: Path, folder: Path) -> None:
    """Import what a layout names, in a process that may print, hang or end as it likes.

    Raises:
        LayoutError: What the import led to.
    """
    command = [sys.executable, "-m", "red_tui.cli.layout_check", str(path), str(folder)]
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _import_error(path, f"did not end within {IMPORT_SECONDS} s") from None
    last = ended.stdout.decode("utf-8", "replace").rpartition("\n")[2]
    try:
        answer: Any = json.loads(last)
    except ValueError:
        answer = None
    if answer == {"imported": True}:
        return
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        raise from_wire(answer["error"])
    words = ended.stderr.decode("utf-8", "replace").strip()[-600:]
    raise _import_error(path, f"ended its process with code {ended.returncode}" + (f": {words}" if words else ""))


def _import_error(path: Path, what: str) -> LayoutError:
    return LayoutError(
        f"{path}: importing its modules {what}", file=str(path), line=None, column=None, field="", allowed=None
    )


def _child(path: str, folder: str) -> None:
    """Import, and say on the last line of standard output the result."""
    answer: dict[str, Any] = {"imported": True}
    try:
        spec_of(load(path), path, Path(folder))
    except RedError as error:
        answer = {"error": error.to_wire()}
    sys.stdout.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    _child(*sys.argv[1:])
