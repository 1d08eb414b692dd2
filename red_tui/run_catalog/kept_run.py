"""One run: what one launch of a federation did, as its journal and the files beside it tell."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_tui.checkpoints.sources import FOLDER, PINNED
from red_tui.errors import RedError, RunError
from red_tui.journal.damage import Damage, sound_results
from red_tui.journal.journal import Journal, JournalError
from red_tui.journal.launch_record import RECORD, LaunchRecord, layouts_kept, read_small
from red_tui.journal.limits import read_json
from red_tui.journal.node_figures import figures_path
from red_tui.journal.tables import LaterVersionError
from red_tui.layout import Layout, loads
from red_tui.nodes.states import NodeState
from red_tui.plain_text import plain
from red_tui.protocol.events import Event
from red_tui.protocol.figures import best_of, measured
from red_tui.protocol.snapshot import BestRound, RoundSummary
from red_tui.rounds.history import History, RoundResult
from red_tui.state_folder import write_private

SUMMARY = ".summary.json"
"""End of the name of the file in which a journal's summary is kept: listing does not read the journals again."""

NOTES = ".notes.json"
"""End of the name of the file in which a run's name and tags are kept."""

FORMAT = 1
LAST_EVENTS = 50
"""Events in which the end of a run is looked for."""

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=:+-]{0,62}\Z")
TAG_RULE = "1 to 63 of A-Z a-z 0-9 . _ = : + -, starting with a letter or digit"
NAME_LIMIT = 100

_ASIDE = re.compile(r"journal-(\d{8}T\d{6})\Z")


@dataclass(frozen=True)
class RunSummary:
    """A run in a few figures.

    Attributes:
        federation: Id of the federation.
        began: Wall-clock second of its first event.
        last: Wall-clock second of its last event.
        ending: How it ended, such as `ended by ada@head`; empty while its journal has no end: it runs, or was lost.
        rounds: Rounds that count.
        failed_rounds: Rounds that did not.
        seconds: What the rounds that count took together.
        figures: Measures of the last round that has any: the loss and metrics by name.
        best: The best round, or None.
        digest: Digest of the layout, or nothing.
        seed: Seed of the rounds, or None where the layout is not known.
        damage: What of the journal cannot be read, or nothing.
    """

    federation: str
    began: float = 0.0
    last: float = 0.0
    ending: str = ""
    rounds: int = 0
    failed_rounds: int = 0
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    best: BestRound | None = None
    digest: str = ""
    seed: int | None = None
    damage: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        best = None if self.best is None else self.best.to_wire()
        return {**self.__dict__, "figures": dict(self.figures), "best": best}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RunSummary:
        """The summary that a file holds.

        Raises:
            ValueError: If it is none.
        """
        try:
            return cls(
                plain(str(data["federation"])),
                float(data["began"]),
                float(data["last"]),
                plain(str(data["ending"])),
                int(data["rounds"]),
                int(data["failed_rounds"]),
                float(data["seconds"]),
                {plain(name): float(value) for name, value in data["figures"].items()},
                None if data["best"] is None else BestRound.from_wire(data["best"]),
                plain(str(data["digest"])),
                None if data["seed"] is None else int(data["seed"]),
                plain(str(data["damage"])),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError("it is no summary of a run") from error


class Run:
    """What one launch did.

    Args:
        journal: Its journal: `journal.db` of the last launch, `journal-TIME.db` of one before.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._summary: RunSummary | None = None

    # -- who it is -------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.journal.parent

    @property
    def stamp(self) -> str:
        """The time under which a later launch has set it aside; empty for the last one of its folder."""
        found = _ASIDE.match(self.journal.stem)
        return found.group(1) if found else ""

    @property
    def id(self) -> str:
        """`FEDERATION` for the last launch in a folder, `FEDERATION@TIME` for one before."""
        return f"{self.folder.name}@{self.stamp}" if self.stamp else self.folder.name

    @property
    def name(self) -> str:
        """The name that it was given, or its id."""
        return self._notes()[0] or self.id

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, in order."""
        return self._notes()[1]

    def rename(self, name: str) -> None:
        """Give it a name; an empty one takes it back.

        Raises:
            RunError: If it cannot be a name, or cannot be written.
        """
        if not isinstance(name, str) or len(name) > NAME_LIMIT or plain(name) != name or "\n" in name:
            raise RunError(f"the name of a run is one line of at most {NAME_LIMIT} characters, not {name!r:.80}")
        if os.sep in name or name.endswith(".db"):
            raise RunError(
                f"{name!r:.80} would be taken for a path: the name of a run has no {os.sep} and no .db at its end"
            )
        self._note(name.strip(), self.tags)

    def tag(self, *tags: str, remove: bool = False) -> None:
        """Add tags, or remove them.

        Raises:
            RunError: If one cannot be a tag, or the file cannot be written.
        """
        for tag in tags:
            if not isinstance(tag, str) or not TAG.match(tag):
                raise RunError(f"{tag!r:.80} cannot be a tag: it has {TAG_RULE}")
        kept = [tag for tag in self.tags if tag not in tags]
        self._note(self._notes()[0], tuple(kept if remove else [*kept, *dict.fromkeys(tags)]))

    def _notes(self) -> tuple[str, tuple[str, ...]]:
        try:
            found = read_json(read_small(self._beside(NOTES)))
            name, tags = found["name"], found["tags"]
            if isinstance(name, str) and isinstance(tags, list):
                return plain(name)[:NAME_LIMIT], tuple(tag for tag in tags if isinstance(tag, str) and TAG.match(tag))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return "", ()

    def _note(self, name: str, tags: tuple[str, ...]) -> None:
        text = json.dumps({"format": FORMAT, "name": name, "tags": list(tags)})
        try:
            write_private(self._beside(NOTES), text)
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written ({error.strerror}): the run keeps its name") from error

    def _beside(self, end: str) -> Path:
        return self.journal.with_name(self.journal.stem + end)

    # -- what it did -----------------------------------------------------------------------------

    @property
    def summary(self) -> RunSummary:
        """Its figures; read from the journal where that has changed since they were last told.

        Raises:
            RunError: If the journal cannot be read, or is one of a later version.
        """
        if self._summary is None:
            stamp = self._stamp()
            self._summary = self._kept(stamp) or self._read(stamp)
        return self._summary

    def _stamp(self) -> list[int]:
        """What changes when the journal does."""
        parts: list[int] = []
        for path in (self.journal, self.journal.with_name(self.journal.name + "-wal")):
            try:
                found = path.stat()
                parts += [found.st_ino, found.st_size, found.st_mtime_ns]
            except FileNotFoundError:
                # A log that was written back and one that is gone hold as much.
                parts += [0, 0, 0]
            except OSError as error:
                raise RunError(f"{path} cannot be read: {error.strerror}") from error
        return parts[:3] if not parts[4] else parts

    def _kept(self, stamp: list[int]) -> RunSummary | None:
        try:
            found = read_json(read_small(self._beside(SUMMARY)))
            if found["format"] == FORMAT and found["stamp"] == stamp:
                return RunSummary.from_wire(found["summary"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _read(self, stamp: list[int]) -> RunSummary:
        rounds, failed, ends, damage = self._journal()
        layout = self.layout
        done = list(map(RoundSummary.from_wire, rounds))
        figures: dict[str, float] = {}
        for result in reversed(done):
            figures = {
                name: value
                for name, value in measured(result.loss, result.metrics, result.train_loss)
                if math.isfinite(value)
            }
            if figures:
                break
        summary = RunSummary(
            layout.federation if layout is not None else self.folder.name,
            *ends,
            len(rounds),
            len(failed),
            sum(result.seconds for result in done),
            figures,
            best_of(done),
            layout.digest() if layout is not None else "",
            layout.rounds.seed if layout is not None else None,
            str(damage),
        )
        text = json.dumps({"format": FORMAT, "stamp": stamp, "summary": summary.to_wire()}, allow_nan=False)
        with contextlib.suppress(OSError):
            if os.access(self.folder, os.W_OK):
                write_private(self._beside(SUMMARY), text)
        return summary

    def _journal(self) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]], tuple[float, float, str], Damage]:
        """Rounds that count and those that do not; when it began and ended, and how; what cannot be read."""
        try:
            journal = Journal(self.journal, read_only=True)
            try:
                fold = journal.fold()
                first = next(iter(journal.events()), None)
                newest = journal.before(None, LAST_EVENTS)
                damage = journal.damage
            finally:
                journal.close()
        except (JournalError, LaterVersionError) as error:
            raise RunError(error.message) from error
        except OSError as error:
            raise RunError(f"{self.journal} cannot be read: {error.strerror}") from error
        rounds, failed = sound_results(fold.rounds, damage), sound_results(fold.failed_rounds, damage)
        began = first.time if first is not None else 0.0
        if rounds:
            # The first events may have been compacted.
            began = min(began, float(rounds[0]["ended"]) - float(rounds[0].get("seconds") or 0.0))
        last = newest[-1] if newest else None
        return rounds, failed, (began, last.time if last is not None else began, _ending(newest)), damage

    @property
    def layout(self) -> Layout | None:
        """The layout that it was launched with; None for a script that lists its nodes itself in a way no file can."""
        if not self.stamp:
            with contextlib.suppress(RedError):
                record = LaunchRecord.read(self.folder)
                return loads(record.layout, record.path)
            for text, origin in layouts_kept(self.folder):
                with contextlib.suppress(RedError):
                    return loads(text, origin)
            return None
        with contextlib.suppress(RedError, OSError):
            journal = Journal(self.journal, read_only=True)
            try:
                told = next((event.data for event in journal.events() if "layout" in event.data), None)
            finally:
                journal.close()
            if told is not None:
                return loads(str(told["layout"]), str(told.get("path") or self.journal))
        return None

    @property
    def history(self) -> History:
        """Its rounds that count.

        Raises:
            RunError: If the journal cannot be read.
        """
        return History(tuple(map(RoundResult.from_wire, self._journal()[0])))

    @property
    def in_use(self) -> bool:
        """Whether a process has its journal open."""
        if not self.journal.exists():
            return False
        try:
            db = sqlite3.connect(f"{self.journal.absolute().as_uri()}?mode=rw", uri=True, timeout=0.0)
        except sqlite3.Error:
            return False
        try:
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            db.rollback()
        except sqlite3.OperationalError as error:
            return "locked" in str(error)
        except sqlite3.DatabaseError:
            return False
        finally:
            db.close()
        return False

    def to_wire(self) -> dict[str, Any]:
        """Plain data for `--json`: id, name, tags, files and the summary."""
        about = {"id": self.id, "name": self.name, "tags": list(self.tags), "journal": str(self.journal)}
        try:
            return {**about, **self.summary.to_wire()}
        except RunError as error:
            return {**about, "damage": error.message}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.journal == other.journal

    def __hash__(self) -> int:
        return hash(self.journal)

    def __repr__(self) -> str:
        return f"<Run {self.name}>"


def _ending(newest: Sequence[Event]) -> str:
    """How a run ended, as its last events tell: after its end, nodes that were built are released; else nothing."""
    for event in reversed(newest):
        if event.kind == "federation" and event.text.startswith(("ended by", "closed by")):
            return plain(event.text)
        if event.data.get("state") != NodeState.RELEASED:
            break
    return ""


def note_summary(journal: Path) -> None:
    """Write the summary of a run that has ended beside its journal, so that lists need not read the journal."""
    with contextlib.suppress(RedError):
        _ = Run(journal).summary


def _is_copy_of_layout(folder: Path) -> bool:
    """Whether `layout.yaml` is the copy that was made at the launch: a folder of a script may hold one of its own."""
    try:
        return (folder / "layout.yaml").read_text(encoding="utf-8") == LaunchRecord.read(folder).layout
    except (RedError, OSError, ValueError):
        return False


def files_of(run: Run) -> list[Path]:
    """All files and folders that are this run's alone."""
    journal, folder = run.journal, run.folder
    mine = [journal.with_name(journal.name + end) for end in ("", "-wal", "-shm")]
    mine += [journal.with_name(journal.stem + end) for end in (SUMMARY, NOTES)]
    mine += [figures_path(journal).with_name(figures_path(journal).name + end) for end in ("", "-wal", "-shm")]
    end = f"-{run.stamp}" if run.stamp else ""
    mine += [folder / f"{FOLDER}{end}", folder / f"states{end}"]
    if not run.stamp:
        mine += [folder / name for name in (RECORD, PINNED, "in-use")]
        if _is_copy_of_layout(folder):
            mine.append(folder / "layout.yaml")
    return [path for path in mine if os.path.lexists(path)]
