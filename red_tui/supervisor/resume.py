"""What a supervisor needs to take a federation up again: how it was launched, what happened, and what lives."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.checkpoints.keep_rule import KeepRule
from red_tui.checkpoints.sources import FOLDER, PINNED, StartingPoint
from red_tui.errors import RedError
from red_tui.federation.lifecycle.recovery import JoinedNodes, RecoveredState
from red_tui.federation.open_federations import KeptFederation
from red_tui.journal.damage import Damage, sound_results
from red_tui.journal.journal import Fold, Journal
from red_tui.journal.launch_record import JOURNAL
from red_tui.journal.limits import ROWS_LIMIT
from red_tui.journal.node_figures import figures_path
from red_tui.journal.node_rows import spans_of
from red_tui.journal.salvage import repair
from red_tui.layout import Layout, load_template
from red_tui.layout.models import Rounds
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState, Roles
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import FederatedNode
from red_tui.protocol.events import TRACE
from red_tui.state_folder import federation_folder
from red_tui.supervisor.checkpoints import CheckpointKeeper
from red_tui.supervisor.registry import SUPERVISOR, actors_of, groups_of_all

EVENTS_SHOWN = 200
CHECKPOINTS = FOLDER
STATES = "states"
"""Folder of what nodes keep between turns, once it lies in files."""


def open_past(folder: Path) -> tuple[Journal, Damage]:
    """The journal of a federation that goes on, and what of it is lost: the damaged file is set aside then.

    Raises:
        JournalError: If it was written by a later red-tui, or is damaged and nothing can be written now.
    """
    path = folder / JOURNAL
    gone = not path.exists() or not path.stat().st_size
    damage = repair(path)
    if gone and not damage:
        damage.note(path.name, "the file is empty or gone")
    return Journal(path), damage


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
    """Make room for a fresh federation: journal, checkpoints and states of the one before get a name with their time.

    Of states only the last ones are kept aside: they may be as large as the disk.

    Returns:
        Why that was not possible, or nothing.
    """
    journal = folder / "journal.db"
    old = [path for path in (journal, folder / CHECKPOINTS, folder / STATES) if path.exists()]
    try:
        if old:
            stamp = time.strftime("%Y%m%dT%H%M%S", time.localtime(old[0].stat().st_mtime))
            aside = folder / f"journal-{stamp}.db"
            for was, now in ((journal, aside), (figures_path(journal), figures_path(aside))):
                for suffix in ("", "-wal", "-shm"):
                    part = was.with_name(was.name + suffix)
                    if part.exists():
                        part.rename(now.with_name(now.name + suffix))
            if (folder / CHECKPOINTS).exists():
                (folder / CHECKPOINTS).rename(folder / f"{CHECKPOINTS}-{stamp}")
            if (folder / STATES).exists():
                for older in folder.glob(f"{STATES}-*"):
                    shutil.rmtree(older, ignore_errors=True)
                (folder / STATES).rename(folder / f"{STATES}-{stamp}")
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    return ""


def keeper_of(folder: Path, layout: Layout, fed_id: str) -> CheckpointKeeper | None:
    """What saves the parameters of a layout's federation, unless it asks for no checkpoints."""
    rule = keep_rule_of(layout.rounds)
    return CheckpointKeeper(folder / CHECKPOINTS, rule, fed_id, layout.digest()) if rule.last else None


def keep_rule_of(rounds: Rounds) -> KeepRule:
    """Which checkpoints stay, as a layout says."""
    keep = rounds.keep
    if keep is None:
        return KeepRule(rounds.checkpoints)
    return KeepRule.of(keep.last, keep.best or "", keep.by or "")


def start_of(folder: Path) -> StartingPoint | None:
    """Where a federation that goes on had started from, if it was told."""
    return StartingPoint(str(folder / PINNED)) if (folder / PINNED).exists() else None


def past_of(
    fold: Fold, journal: Journal, federation: KeptFederation, working_dir: Path, layout_path: str, damage: Damage
) -> RecoveredState:
    """The fold of a journal as the federation takes it.

    What makes no sense in it is left out and noted in `damage`, beside what its file has lost.
    """
    for seq in fold.unread:
        damage.note(f"event {seq}", "it makes no sense")
    rounds, failed_rounds = sound_results(fold.rounds, damage), sound_results(fold.failed_rounds, damage)
    joined = _joined(fold, federation, working_dir, layout_path, damage)
    if fold.topology:
        try:
            federation.topology.restore(fold.topology)
        except (RedError, TypeError, ValueError) as error:
            damage.note("the topology", str(error))
    for name in federation.restore_rounds(fold.changed):
        federation.warn(f"set {name}", f"{name} cannot be {fold.changed[name]!r} any more: it is as the layout says")
    length = len(federation.table) + sum(len(one.ids) for one in joined)
    codes, bundles = fold.columns(length, federation.table.row_of)
    died = died_of(journal, length)
    events = [event for event in journal.before(None, EVENTS_SHOWN) if event.level != TRACE]
    damage.add(journal.damage)
    return RecoveredState(
        joined,
        codes.astype(np.int64),
        bundles.astype(np.int64),
        rounds,
        failed_rounds,
        fold.interrupted,
        fold.run,
        fold.last_seq,
        events,
        died,
        fold.rounds_before,
        str(damage),
        fold.among,
        fold.run_first,
    )


def _joined(
    fold: Fold, federation: KeptFederation, working_dir: Path, layout_path: str, damage: Damage
) -> list[JoinedNodes]:
    """Who joined, in the order of their rows; rows of which the journal has lost who they were are kept free."""
    joined: list[JoinedNodes] = []
    length = len(federation.table)
    for added in fold.added:
        first = length if added.first is None else added.first
        try:
            Roles(added.role) if isinstance(added.role, str) else [Roles(role) for role in added.role]
            if first < length or length + len(added.ids) > ROWS_LIMIT:
                raise ValueError(f"row {first} is another node's")
            template = None
            if added.template:
                template = load_template(added.template, working_dir, layout_path, field="template", base=FederatedNode)
        except (ValueError, TypeError, RedError) as error:
            damage.note(f"{len(added.ids)} nodes that joined ({added.ids[0]})", str(error))
            continue
        if first > length:
            damage.note(f"{first - length} nodes that joined before {added.ids[0]}", "the event is lost")
            joined.append(JoinedNodes(PatternIds("lost_", "", length, first - length), "train", None, lost=True))
        joined.append(JoinedNodes(added.ids, added.role, template))
        length = first + len(added.ids)
    return joined


def died_of(journal: Journal, length: int) -> IntArray:
    """Rows whose last failure was the end of their process, as far as the journal still has it event by event."""
    died = np.zeros(length, dtype=bool)
    for event in journal.events():
        if event.data.get("state") == str(NodeState.FAILED):
            for first, stop in spans_of(event):
                died[first:stop] = bool(event.data.get("died"))
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
