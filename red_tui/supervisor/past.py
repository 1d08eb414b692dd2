"""What a supervisor needs to take a federation up again: how it was launched, what happened, and what lives."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.errors import RedError
from red_tui.federation.base import FederatedBase
from red_tui.federation.records import TRACE
from red_tui.federation.recovery import Joined, Past, rows_of_ranges
from red_tui.layout import Layout, load_template
from red_tui.nodes.process import NAMESPACE
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import FederatedNode
from red_tui.supervisor.home import federation_folder, write_private
from red_tui.supervisor.journal import Fold, Journal
from red_tui.supervisor.keeping import CheckpointKeeper
from red_tui.supervisor.registry import SUPERVISOR, actors_of, groups_of_all

EVENTS_SHOWN = 200
CHECKPOINTS = "checkpoints"
RECORD = "launch.json"


@dataclass(frozen=True)
class LaunchRecord:
    """How a federation was launched, as its folder keeps it.

    Attributes:
        layout: Text of its layout.
        path: Where the layout came from.
        cluster: The cluster's address, and whether it is an embedded one.
        who: Who launched it.
        namespace: Ray namespace of its actors.
        created: Wall-clock second.
    """

    layout: str
    path: str
    cluster: Mapping[str, Any]
    who: str
    namespace: str = NAMESPACE
    created: float = 0.0

    def save(self, folder: Path) -> str:
        """Write it; gives why it could not be written, or nothing."""
        try:
            write_private(folder / "layout.yaml", self.layout)
            write_private(folder / RECORD, json.dumps(asdict(self), indent=1))
        except OSError as error:
            return f"{folder} cannot be written ({error.strerror}): this federation cannot be taken up again"
        return ""

    @classmethod
    def read(cls, folder: Path) -> LaunchRecord:
        """Read it.

        Raises:
            RedError: If it is not there or cannot be read.
        """
        try:
            return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            missing = isinstance(error, FileNotFoundError)
            why = "no federation of this id was launched from this host and home" if missing else str(error)
            raise RedError(
                f"{folder.name!r} cannot be taken up again: {why} ({folder / RECORD}); see `red-console ls`, or launch"
                " it with `red-console up LAYOUT`"
            ) from error


def restarted() -> bool:
    """Whether Ray has started this actor anew after its process ended."""
    import ray

    return bool(ray.is_initialized() and ray.get_runtime_context().was_current_actor_reconstructed)


def folder_of(fed_id: str) -> tuple[Path, str]:
    """The folder of a federation, and why it cannot be made, or nothing: the federation then runs without it."""
    try:
        return federation_folder(fed_id), ""
    except OSError as error:
        folder = Path(os.environ.get("RED_HOME") or ".") / "federations" / fed_id
        return folder, f"{folder} cannot be made ({error.strerror}): nothing of this federation is kept on disk"


def set_aside(folder: Path) -> str:
    """Make room for a fresh federation: journal and checkpoints of the one before get a name with their time.

    Returns:
        Why that was not possible, or nothing.
    """
    journal = folder / "journal.db"
    old = [path for path in (journal, folder / CHECKPOINTS) if path.exists()]
    try:
        if old:
            stamp = time.strftime("%Y%m%dT%H%M%S", time.localtime(old[0].stat().st_mtime))
            for suffix in ("", "-wal", "-shm"):
                part = journal.with_name(journal.name + suffix)
                if part.exists():
                    part.rename(folder / f"journal-{stamp}.db{suffix}")
            if (folder / CHECKPOINTS).exists():
                (folder / CHECKPOINTS).rename(folder / f"{CHECKPOINTS}-{stamp}")
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    return ""


def keeper_of(folder: Path, layout: Layout, fed_id: str) -> CheckpointKeeper | None:
    """What saves the parameters of a layout's federation, unless it asks for no checkpoints."""
    keep = layout.rounds.checkpoints
    if not keep:
        return None
    return CheckpointKeeper(folder / CHECKPOINTS, keep, fed_id, layout.digest())


def past_of(fold: Fold, journal: Journal, federation: FederatedBase, working_dir: Path, layout_path: str) -> Past:
    """The fold of a journal as the federation takes it."""
    joined = []
    for added in fold.added:
        template = None
        if added.template:
            template = load_template(added.template, working_dir, layout_path, field="template", base=FederatedNode)
        joined.append(Joined(added.ids, added.role, template))
    if fold.topology:
        federation.topology.restore(fold.topology)
    for name in federation.restore_rounds(fold.changed):
        federation.warn(f"set {name}", f"{name} cannot be {fold.changed[name]!r} any more: it is as the layout says")
    length = len(federation.table) + sum(len(one.ids) for one in joined)
    codes, bundles = fold.columns(length, federation.table.row_of)
    if fold.unread:
        federation.warn("journal", f"{len(fold.unread)} events of the journal cannot be read: {fold.unread[:5]}")
    return Past(
        joined,
        codes.astype(np.int64),
        bundles.astype(np.int64),
        fold.rounds,
        fold.failed_rounds,
        fold.interrupted,
        fold.run,
        fold.last_seq,
        [event for event in journal.before(None, EVENTS_SHOWN) if event.level != TRACE],
        died_of(journal, length),
    )


def died_of(journal: Journal, length: int) -> IntArray:
    """Rows whose last failure was the end of their process, as far as the journal still has it event by event."""
    died = np.zeros(length, dtype=bool)
    for event in journal.events():
        if event.data.get("state") == str(NodeState.FAILED):
            rows = rows_of_ranges(event.data.get("rows") or ())
            died[rows[rows < length]] = bool(event.data.get("died"))
    return np.flatnonzero(died)


def living(fed_id: str, namespace: str) -> tuple[list[Any], dict[str, Any]]:
    """Placement groups of a federation in order, and handles of its named actors but the supervisor's."""
    import ray

    actors = {}
    for name in actors_of(namespace).get(fed_id, []):
        if name != SUPERVISOR:
            with contextlib.suppress(ValueError):
                actors[name] = ray.get_actor(f"{fed_id}/{name}", namespace=namespace)
    return groups_of_all().get(fed_id, []), actors
