"""The checkpoints of a federation in a folder: one safetensors file a round, whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_tui.checkpoints.checkpoint_file import (
    PARAMETERS,
    Arrays,
    Checkpoint,
    Groups,
    foreign,
    keyed,
    notes_of,
    read_checkpoint,
    read_notes,
    state_digest,
    storable,
    write_file,
)
from red_tui.checkpoints.keep_rule import KeepRule
from red_tui.errors import CheckpointError, StateFolderError
from red_tui.state_folder import private_folder

_NAME = re.compile(r"round-(\d{6,})\.safetensors\Z")
_GROUP = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_ASIDE = ".aside-"


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written: what the journal notes of it."""

    round: int
    path: Path
    digest: str
    size: int
    best: int | None = None
    """The best round that is kept; None if no measure is asked for, or no round has it."""
    state: str = ""
    """Digest of what the server keeps for the next round; empty where it keeps nothing."""

    def to_wire(self) -> dict[str, Any]:
        """Plain data for the `checkpoint` of an event."""
        wire = {"round": self.round, "file": self.path.name, "digest": self.digest, "size": self.size}
        if self.state:
            wire["state"] = self.state
        return wire if self.best is None else {**wire, "best": self.best}


@dataclass(frozen=True)
class FoundCheckpoint:
    """The last good checkpoint, if there is one, and those after it that were refused.

    Attributes:
        checkpoint: The last good one, or None.
        refused: Why each newer file was refused, by its name, newest first.
    """

    checkpoint: Checkpoint | None
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one federation in one folder.  One process writes them at a time.

    It is plain data: an actor may be sent one and save from the process that has the parameters, on the
    machine of the folder or where the folder is shared.

    Attributes:
        folder: Where they are; made with mode 0700 when the first is written.
        keep: How many of the last ones stay, or a rule.
        federation: Id of the federation; a checkpoint of another is refused.
        layout: Digest of the layout, noted in each file.
    """

    folder: Path
    keep: int | KeepRule = 3
    federation: str = ""
    layout: str = ""

    def __post_init__(self) -> None:
        if self.rule.last < 1:
            raise CheckpointError(f"at least 1 checkpoint is kept, not {self.rule.last}", file=str(self.folder))

    @property
    def rule(self) -> KeepRule:
        """Which ones stay."""
        return self.keep if isinstance(self.keep, KeepRule) else KeepRule(self.keep)

    def path(self, round_number: int) -> Path:
        """File of a round."""
        return self.folder / f"round-{round_number:06d}.safetensors"

    def files(self) -> dict[int, Path]:
        """All files that are named as checkpoints, by round, oldest first; nothing is said of their contents."""
        try:
            named = {
                int(found.group(1)): entry for entry in self.folder.iterdir() if (found := _NAME.match(entry.name))
            }
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be read: {error.strerror}", file=str(self.folder)) from error
        return dict(sorted(named.items()))

    # -- writing ---------------------------------------------------------------------------------

    def save(
        self,
        round_number: int,
        parameters: Arrays,
        extra: Mapping[str, Any] | None = None,
        groups: Groups | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> Saved:
        """Write the checkpoint of a round aside, flush it to disk, name it, and let the oldest ones go.

        Whenever the process is killed, the file of the round is the whole new one, the whole old one or
        not there; older checkpoints are there until then.

        Args:
            round_number: The round that just finished.
            parameters: Arrays of the types in `DTYPES`.
            extra: Further plain data (as JSON has it) that belongs to the round.
            groups: Further arrays by group and name, such as `{"strategy": {...}}`; a group is a short lowercase word.
            figures: What the round measured, by name; what is not finite is left out.

        Raises:
            CheckpointError: If something cannot be kept in a checkpoint, or the disk refuses it; older
                checkpoints are as they were.
        """
        target = self.path(round_number)
        whole = {PARAMETERS: _storable(PARAMETERS, parameters, target)}
        for group, arrays in (groups or {}).items():
            if not isinstance(group, str) or not _GROUP.match(group) or group == PARAMETERS:
                raise CheckpointError(
                    f"{group!r} cannot name a group of a checkpoint: use another word of a-z, 0-9 and _",
                    file=str(target),
                )
            whole[group] = _storable(group, arrays, target)
        notes, digests = notes_of(
            whole,
            federation=self.federation,
            layout=self.layout,
            round_number=round_number,
            figures=figures or {},
            extra={**(extra or {}), **self._rule_told()},
        )
        aside = self.folder / f"{_ASIDE}{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        try:
            private_folder(self.folder)
            self._clear_asides()
            size = write_file(aside, keyed(whole), notes)
            os.replace(aside, target)
            _flush(self.folder)
        except (OSError, StateFolderError) as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise CheckpointError(
                f"the checkpoint of round {round_number} could not be written to {self.folder} ({error}):"
                " free its disk or make its folder writable; older checkpoints are as they were",
                file=str(target),
            ) from error
        best = self._best_up_to(round_number)
        self._let_go(round_number, best)
        return Saved(round_number, target, digests[PARAMETERS], size, best, state_digest(digests))

    def _rule_told(self) -> dict[str, Any]:
        """By which measure the best round is kept, for those who look for it."""
        return {"keep": {"best": self.rule.best, "lowest": self.rule.lowest}} if self.rule.best else {}

    def _best_up_to(self, newest: int) -> int | None:
        """The best round by the rule's measure; None if there is no measure, or no round that has it."""
        if not self.rule.best:
            return None
        measured = []
        for number, path in self.files().items():
            with contextlib.suppress(CheckpointError):
                if number <= newest:
                    measured.append((number, read_notes(path).figures))
        return self.rule.best_of(measured)

    def _clear_asides(self) -> None:
        """Remove what a killed process left half written."""
        for entry in self.folder.glob(f"{_ASIDE}*"):
            with contextlib.suppress(OSError):
                entry.unlink()

    def _let_go(self, newest: int, best: int | None) -> None:
        """Remove all but the last ones up to `newest` and the best one.

        Later ones are not this run's and stay until it gets there.
        """
        past = [(number, path) for number, path in self.files().items() if number <= newest]
        for number, path in past[: -self.rule.last]:
            if number == best:
                continue
            with contextlib.suppress(OSError):
                path.unlink()

    # -- reading ---------------------------------------------------------------------------------

    def latest(self, at_most: int | None = None) -> FoundCheckpoint:
        """The last good checkpoint; what is truncated, damaged or foreign is passed over and reported.

        Args:
            at_most: Look at rounds up to this one: the last that the journal counts.
        """
        refused: dict[str, str] = {}
        for number, path in reversed(self.files().items()):
            if at_most is not None and number > at_most:
                continue
            try:
                return FoundCheckpoint(self.load(path), refused)
            except CheckpointError as error:
                refused[path.name] = error.message
        return FoundCheckpoint(None, refused)

    def load(self, path: Path) -> Checkpoint:
        """Read a checkpoint and look whether it is whole and this federation's.

        Raises:
            CheckpointError: If it is truncated, damaged, no checkpoint, or another federation's; the
                message names the file.
        """
        found = read_checkpoint(path)
        if self.federation and found.federation != self.federation:
            raise foreign(path, f"it belongs to federation {found.federation!r}, not {self.federation!r}")
        named = _NAME.match(path.name)
        if named and int(named.group(1)) != found.round:
            raise foreign(path, f"it holds round {found.round}")
        return found


def _flush(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storable(group: str, arrays: Arrays, target: Path) -> dict[str, Any]:
    what = "parameter" if group == PARAMETERS else f"{group} array"
    return {name: storable(name, value, what, target) for name, value in arrays.items()}
