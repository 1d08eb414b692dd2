"""The folder in which a federation of a script keeps its journal, its checkpoints and its history."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from red_tui import checks
from red_tui.errors import CommandRefused, LayoutError, NameTaken, RedError
from red_tui.federation.explain import layout_of
from red_tui.federation.lifecycle.recovery import RecoveredState
from red_tui.federation.run_folder.checkpoint_keeper import CheckpointKeeper
from red_tui.federation.run_folder.recovered_run import (
    CHECKPOINTS,
    STATES,
    KeptFederation,
    keep_rule_of,
    keeps_node_states,
    open_past,
    past_of,
)
from red_tui.federation.spec import FederationSpec
from red_tui.journal.damage import Damage
from red_tui.journal.journal import Journal
from red_tui.journal.launch_record import JOURNAL, RECORD, LaunchRecord
from red_tui.layout import Layout, loads
from red_tui.layout.models import Rounds
from red_tui.messaging import TopologyRule
from red_tui.nodes.states import NodeState
from red_tui.protocol.events import TRACE
from red_tui.run_catalog.kept_run import note_summary
from red_tui.state_folder import operator_name, private_folder

_FIXED = ("federation", "schema", "template", "server", "nodes", "roles", "topology", "rounds.strategy")
"""What has to be the same for a federation to go on."""


def changes(before: Layout, now: Layout) -> tuple[list[str], list[str]]:
    """What differs between two layouts: what a federation cannot go on with, and what it can."""
    differs = before.differences(now)
    fixed = [line for line in differs if line.split(":")[0].startswith(_FIXED) and not _same_class(line)]
    return fixed, [line for line in differs if line not in fixed]


def _same_class(line: str) -> bool:
    """Whether a difference is only that a script was run once by its path and once as a module."""
    path, _, values = line.partition(": ")
    if path.rpartition(".")[2] not in ("template", "server", "schema"):
        return False
    before, _, now = values.partition(" → ")
    return ":" in before and before.strip('"').rpartition(":")[2] == now.strip('"').rpartition(":")[2]


LOCK = "in-use"

Record = Callable[..., Any]
"""`FederationState.record`."""


class ScriptFolder:
    """Journal and checkpoints of one federation, for the process that has them open.

    Args:
        path: The folder; it is made with mode 0700.
        resume: Go on with what it keeps; if it keeps nothing, the federation begins there.
        spec: The parts of the federation.
        schema: Its class.
        rule: Its topology.
        layout: The layout that it is made from and the layout's file; None if the script lists the nodes itself.

    Raises:
        NameTaken: If another federation has the folder open.
        CommandRefused: If it keeps a federation and `resume` is not given, or one that is not this one.
        StateFolderError: If it is not a folder of this user alone.
        RedError: If it cannot be written, or what it keeps cannot be read.
    """

    def __init__(
        self,
        path: Path,
        resume: bool,
        spec: FederationSpec,
        schema: type,
        rule: TopologyRule,
        layout: tuple[Layout, Path] | None = None,
    ) -> None:
        self.path, self.states = path, path / STATES
        self._spec, self._rule = spec, rule
        self._undescribed = ""
        self._layout, self._source = layout or (self._described(schema), path / "layout.yaml")
        self._record: Record | None = None
        with _refused(path):
            private_folder(path)
        self._lock = _locked(path)
        try:
            self._changes: list[str] = []
            kept = (JOURNAL, f"{JOURNAL}-wal", RECORD, CHECKPOINTS, STATES)
            self.resumes = any((path / name).exists() for name in kept)
            damage = Damage()
            if self.resumes:
                self._check(resume)
                self.recorder, damage = open_past(path)
            else:
                self.recorder = Journal(path / JOURNAL)
            self._damage = damage
            self.keeper = self._checkpoints()
        except BaseException:
            os.close(self._lock)
            raise

    def begin(self, federation: KeptFederation, record: Record) -> None:
        """Note how the federation begins, or let it go on where the journal ends."""
        self._record = record
        if self.resumes:
            self._go_on(federation)
        else:
            self._start(federation)
        federation.warn("journal", self.recorder.trouble)

    def end(self) -> None:
        """Note that the federation is closed, and let others open the folder.  Idempotent."""
        record, self._record = self._record, None
        if record is None:
            return
        record("federation", "info", self._spec.config.federation_id, f"closed by the script of {operator_name()}")
        if self.keeper is not None:
            self.keeper.close()
        self.recorder.close()
        note_summary(self.recorder.path)
        os.close(self._lock)

    # -- the beginning ---------------------------------------------------------------------------

    def _start(self, federation: KeptFederation) -> None:
        fed_id, text = federation.fed_id, self._layout.to_yaml() if self._layout is not None else ""
        data: dict[str, Any] = {"layout": text, "path": str(self._source)} if text else {}
        if text:
            launch = LaunchRecord(text, str(self._source), {}, operator_name(), created=time.time())
            federation.warn("files", launch.save(self.path))
        described = f"; it has no layout: {self._undescribed}" if self._undescribed else ""
        told = f"{federation.num_nodes} virtual nodes, in a script of {operator_name()}{described}"
        federation.announce("federation", "info", fed_id, told, data)
        if self._rule.name != "star":
            wire = {"topology": self._rule.to_wire()}
            federation.announce("federation", "info", "topology", str(self._rule), wire)

    def _go_on(self, federation: KeptFederation) -> None:
        fold = self.recorder.fold()
        past = past_of(fold, self.recorder, federation, Path.cwd(), str(self._source), self._damage)
        federation.resume(_without_processes(past))
        if past.run is not None:
            federation.announce("round", TRACE, "run", "ended with its script", {"run": None})
        if self._changes:
            federation.announce(
                "federation", "warn", federation.fed_id, f"goes on with other settings: {'; '.join(self._changes)}"
            )

    def _check(self, resume: bool) -> None:
        """Raise CommandRefused unless the script may go on with what the folder keeps."""
        if not resume:
            raise CommandRefused(
                f"{self.path} keeps a federation already: pass resume=True to go on with it, name another folder, or"
                " remove this one"
            )
        try:
            record = LaunchRecord.read(self.path)
            before = loads(record.layout, record.path)
        except RedError:
            return  # its journal says what can be known of it
        if record.cluster:
            raise CommandRefused(
                f"{self.path} belongs to a federation that was launched: go on with it with"
                f" `red-console adopt {self.path.name}`, or name another folder"
            )
        if self._layout is None:
            return
        fixed, self._changes = changes(before, self._layout)
        if fixed:
            raise CommandRefused(
                f"{self.path} keeps another federation ({'; '.join(fixed[:3])}): make this one as that one was, or name"
                " another folder"
            )

    def _described(self, schema: type) -> Layout | None:
        try:
            return layout_of(self._spec, schema, self._rule)
        except (LayoutError, ValueError, TypeError) as error:
            self._undescribed = str(error).splitlines()[0]
            return None

    def _checkpoints(self) -> CheckpointKeeper | None:
        rounds = self._layout.rounds if self._layout is not None else Rounds.model_validate(self._spec.kept_rounds)
        rule = keep_rule_of(rounds)
        if not rule.last:
            return None
        digest = self._layout.digest() if self._layout is not None else ""
        fed_id = self._spec.config.federation_id
        return CheckpointKeeper(self.path / CHECKPOINTS, rule, fed_id, digest, keeps_node_states(rounds))


def open_run_folder(
    keep: str | os.PathLike[str] | None,
    resume: bool,
    spec: FederationSpec,
    schema: type,
    rule: TopologyRule,
    layout: tuple[Layout, Path] | None = None,
) -> ScriptFolder | None:
    """Open the folder that a script names with `keep=`; None if it names none.

    Args:
        keep: The folder; it is made if it is not there.
        resume: Go on with what it keeps.
        spec: The parts of the federation.
        schema: Its class.
        rule: Its topology.
        layout: The layout that it is made from and the layout's file; None if the script lists the nodes itself.

    Raises:
        ValueError: If `keep` is no path, or `resume` is given without `keep`.
        RedError: If the folder is in use, keeps another federation, or must not be used.
    """
    checks.flag(resume, "resume")
    if keep is None:
        if resume:
            raise ValueError('resume=True goes on with what a folder keeps: name the folder with keep="runs/a"')
        return None
    if not isinstance(keep, (str, os.PathLike)) or not str(keep):
        raise ValueError(f'keep must be the path of a folder, such as "runs/a", not {checks.shown(keep)}')
    path = Path(keep).expanduser().absolute()
    return ScriptFolder(path, resume, spec, schema, rule, layout)


def _without_processes(past: RecoveredState) -> RecoveredState:
    """What is known of a federation whose script has ended: nobody has a process, and no run goes on by itself."""
    removed = past.states == NodeState.REMOVED.code
    states = np.where(removed, past.states, NodeState.VIRTUAL.code)
    nobody = np.empty(0, dtype=np.int64)
    return replace(past, states=states, bundles=np.full(len(states), -1), run=None, among=None, died=nobody)


def _locked(path: Path) -> int:
    """A lock on a folder that ends with this process; its file says who has it.

    Raises:
        NameTaken: If somebody has it.
    """
    with _refused(path):
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        this = holder.get("pid") == os.getpid()
        who = "this very process" if this else f"process {holder.get('pid', '?')} of {holder.get('who', '?')}"
        advice = "close that federation first (fed.close(), or `with ... as fed:`)" if this else "wait until it ends"
        raise NameTaken(
            f"{path} is in use by {who}: {advice}, or name another folder", name=str(path), holder=who
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "who": operator_name()}).encode(), 0)
    return descriptor


def _holder(descriptor: int) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        told = json.loads(os.pread(descriptor, 1000, 0))
        if isinstance(told, dict):
            return told
    return {}


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """An OSError in our words."""
    try:
        yield
    except RedError:
        raise
    except OSError as error:
        raise RedError(
            f"{path} cannot be used to keep a federation ({error.strerror}): name a folder that this user can write"
        ) from error
