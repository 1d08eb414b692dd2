"""What the folder of a run keeps, and what of it a federation that goes on takes up again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from red_tui.checkpoints.keep_rule import KeepRule
from red_tui.checkpoints.sources import FOLDER, PINNED, StartingPoint
from red_tui.errors import RedError
from red_tui.federation.lifecycle.recovery import JoinedNodes, RecoveredState
from red_tui.federation.run_folder.checkpoint_keeper import CheckpointKeeper
from red_tui.journal.damage import Damage, sound_results
from red_tui.journal.journal import Fold, Journal
from red_tui.journal.launch_record import JOURNAL
from red_tui.journal.limits import ROWS_LIMIT
from red_tui.journal.node_rows import spans_of
from red_tui.journal.salvage import repair
from red_tui.layout import Layout, load_template
from red_tui.layout.models import Rounds
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState, Roles
from red_tui.nodes.table import IntArray, NodeTable
from red_tui.protocol.events import TRACE

if TYPE_CHECKING:
    from red_tui.federation.federation_topology import FederationTopology

EVENTS_SHOWN = 200
CHECKPOINTS = FOLDER
STATES = "states"
"""Folder of what nodes keep between turns, once it lies in files."""


class KeptFederation(Protocol):
    """What a folder needs of the federation that it keeps."""

    @property
    def fed_id(self) -> str:
        """Its id."""

    @property
    def num_nodes(self) -> int:
        """Number of its client nodes."""

    @property
    def table(self) -> NodeTable:
        """Its nodes."""

    @property
    def topology(self) -> FederationTopology:
        """Who is whose neighbour."""

    def restore_rounds(self, changes: Mapping[str, Any]) -> list[str]:
        """Go by what a journal says was changed; gives the names of what cannot be taken over any more."""

    def announce(self, kind: str, level: str, subject: str, text: str, data: Mapping[str, Any] | None = None) -> None:
        """Put an event into the journal."""

    def warn(self, what: str, text: str) -> None:
        """Show a standing warning about something, or take it back (empty)."""

    def resume(self, past: RecoveredState) -> None:
        """Go on where a federation of the same parts ended that has no processes any more."""


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


def keeper_of(folder: Path, layout: Layout, fed_id: str) -> CheckpointKeeper | None:
    """What saves the parameters of a layout's federation, unless it asks for no checkpoints."""
    rule = keep_rule_of(layout.rounds)
    if not rule.last:
        return None
    return CheckpointKeeper(folder / CHECKPOINTS, rule, fed_id, layout.digest(), keeps_node_states(layout.rounds))


def keep_rule_of(rounds: Rounds) -> KeepRule:
    """Which checkpoints stay, as a layout says."""
    keep = rounds.keep
    if keep is None:
        return KeepRule(rounds.checkpoints)
    return KeepRule.of(keep.last, keep.best or "", keep.by or "")


def keeps_node_states(rounds: Rounds) -> bool:
    """Whether checkpoints hold what nodes keep, as a layout says."""
    return rounds.keep is not None and rounds.keep.node_states


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
            roles = [Roles(role) for role in ([added.role] if isinstance(added.role, str) else added.role)]
            if first < length or length + len(added.ids) > ROWS_LIMIT:
                raise ValueError(f"row {first} is another node's")
            template = None
            if added.template:
                parts = {part for role in roles for part in role.parts}
                template = load_template(added.template, working_dir, layout_path, field="template", roles=parts)
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
