"""Whether two runs are the same, byte for byte, and from which round they part: of journals, folders and checkpoints.

Each round's record has a digest of its parameters and one of what the server keeps for the next round; a checkpoint
has them too.  So nothing but records is read, and no cluster is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from red_tui.checkpoints.checkpoint_file import PARAMETERS, CheckpointNotes, read_checkpoint, read_notes, state_digest
from red_tui.checkpoints.sources import find_checkpoint, folder_of_checkpoints, listed
from red_tui.errors import RedError, WrongUse
from red_tui.journal.damage import Damage, sound_results
from red_tui.journal.journal import Journal
from red_tui.journal.launch_record import JOURNAL, layouts_kept
from red_tui.layout import Layout, loads
from red_tui.replay.time_points import ReplayError
from red_tui.replay.timeline import journal_path
from red_tui.rounds.history import History, RoundResult

SAME, PARTED, UNKNOWN = "same", "parted", "unknown"
"""What a comparison may say."""

_FIRST_EVENTS = 100
"""Events among which the layout of a journal is looked for."""

_STATE = "what the server keeps for the next round"


class HasHistory(Protocol):
    """A federation of this process, or a client of one."""

    @property
    def history(self) -> History:
        """Its finished rounds."""


Run = str | os.PathLike[str] | History | HasHistory
"""A run as `verify` takes it."""


@dataclass(frozen=True)
class RoundBytes:
    """What is known of a round's bytes.

    Attributes:
        parameters: Digest of the parameters; empty where it is not known.
        state: Digest of what the server keeps for the next round; empty for nothing, None where it is not known.
        told: What the round's record says of it, in words: for the one from which two runs part.
    """

    parameters: str
    state: str | None = None
    told: str = ""


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run.

    Attributes:
        name: As it was named.
        rounds: Its rounds by number.
        layout: Its layout, where that is kept.
        layout_digest: Digest of the layout; empty where it is not known.
        seed: The seed of the rounds, where it is known.
        versions: Of red-tui and the libraries below it, in the order in which they ran.
        changed: What was changed of the rounds after the launch.
        damage: What of it cannot be read; empty for nothing.
    """

    name: str
    rounds: Mapping[int, RoundBytes]
    layout: Layout | None = None
    layout_digest: str = ""
    seed: Any = None
    versions: tuple[str, ...] = ()
    changed: Mapping[str, Any] = field(default_factory=dict)
    damage: str = ""


@dataclass(frozen=True)
class Verification:
    """Whether two runs are the same.

    Attributes:
        verdict: `same`: all rounds that both have are the same, byte for byte; `parted`: they are not; `unknown`: that
            cannot be told, and `why` says why.
        round: The first round that is known to differ, or None.
        same_through: The last round before it that is known to be the same, or None.
        parts: What differs there: `parameters`, and what the server keeps for the next round.
        compared: Rounds whose bytes were compared.
        last: The last round of either run.
        differences: What differs between the runs otherwise: layout, seed, versions, who took part.
        why: Why it cannot be told.
    """

    verdict: str
    round: int | None = None
    same_through: int | None = None
    parts: tuple[str, ...] = ()
    compared: int = 0
    last: tuple[int, int] = (0, 0)
    differences: tuple[str, ...] = ()
    why: str = ""

    @property
    def exit_code(self) -> int:
        """0 for the same, 1 for parted, 2 where it cannot be told."""
        return {SAME: 0, PARTED: 1}.get(self.verdict, 2)

    def __bool__(self) -> bool:
        return self.verdict == SAME

    def __str__(self) -> str:
        before = "" if self.same_through is None else f"; they are the same through round {self.same_through}"
        if self.verdict == PARTED:
            return f"the runs part in round {self.round}: {' and '.join(self.parts)} differ{before}"
        if self.verdict == UNKNOWN:
            return f"it cannot be told whether the runs are the same: {self.why}{before}"
        counted = "1 round" if self.compared == 1 else f"{self.compared} rounds"
        shorter, longer = sorted(self.last)
        more = f"; one ends there, the other goes on to round {longer}" if shorter != longer else ""
        return f"the runs are the same through round {self.same_through} ({counted} compared){more}"

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict,
            "round": self.round,
            "same_through": self.same_through,
            "parts": list(self.parts),
            "compared": self.compared,
            "last": list(self.last),
            "differences": list(self.differences),
            "why": self.why,
        }


def verify(a: Run, b: Run) -> Verification:
    """Say whether two runs are the same, byte for byte, and from which round they part.  It needs no Ray.

    A run that goes further than the other one is the same as far as both go.

    Args:
        a: Id of a federation of this user, its folder (`keep=`), a `journal.db`, a checkpoint (FILE, FEDERATION@best,
            FEDERATION@12), or a federation of this script or its `history`.
        b: The other one.

    Returns:
        The verdict (true where the runs are the same), the round from which they part, and what else differs.

    Raises:
        RedError: If one of them is not there, or is no run.
    """
    return compare(record_of(a), record_of(b))


def compare(a: RunRecord, b: RunRecord) -> Verification:
    """Compare two runs; see `verify`."""
    last = (max(a.rounds, default=0), max(b.rounds, default=0))
    told = tuple(_differences(a, b))
    common = sorted(a.rounds.keys() & b.rounds.keys())
    known = [number for number in common if a.rounds[number].parameters and b.rounds[number].parameters]
    same_through = None
    for place, number in enumerate(known, start=1):
        mine, theirs = a.rounds[number], b.rounds[number]
        parts = () if mine.parameters == theirs.parameters else ("parameters",)
        if None not in (mine.state, theirs.state) and mine.state != theirs.state:
            parts = (*parts, _STATE)
        if parts:
            if mine.told != theirs.told:
                told = (*told, f"round {number}: {mine.told or 'nothing'} → {theirs.told or 'nothing'}")
            return Verification(PARTED, number, same_through, parts, place, last, told)
        same_through = number
    why = ""
    damaged = [f"{one.name}: {one.damage}" for one in (a, b) if one.damage]
    if not common:
        why = f"no round is in both: {a.name} has {_span(a.rounds)}, {b.name} has {_span(b.rounds)}"
    elif not known or known[-1] != common[-1]:
        lacking = [one.name for one in (a, b) if not one.rounds[common[-1]].parameters]
        why = f"the record of round {common[-1]} has no digest in {' and '.join(lacking)} (an earlier red-tui wrote it,"
        why += " or it could not be kept)"
    elif damaged:
        why = "; ".join(damaged)
    verdict = UNKNOWN if why else SAME
    return Verification(verdict, None, same_through, (), len(known), last, told, why)


def _span(rounds: Mapping[int, RoundBytes]) -> str:
    if not rounds:
        return "none"
    first, last = min(rounds), max(rounds)
    return f"round {first}" if first == last else f"rounds {first} to {last}"


def _differences(a: RunRecord, b: RunRecord) -> Iterator[str]:
    """What differs otherwise."""
    if a.layout is not None and b.layout is not None:
        yield from (line for line in a.layout.differences(b.layout) if not line.startswith("federation:"))
    elif a.layout_digest and b.layout_digest and a.layout_digest != b.layout_digest:
        yield f"layout: {a.layout_digest} → {b.layout_digest}"
    if a.seed != b.seed and None not in (a.seed, b.seed) and (a.layout is None or b.layout is None):
        yield f"seed: {a.seed} → {b.seed}"
    if a.changed != b.changed:
        yield f"changed after the launch: {dict(a.changed) or 'nothing'} → {dict(b.changed) or 'nothing'}"
    if a.versions and b.versions and a.versions != b.versions:
        yield f"versions: {' then '.join(a.versions)} → {' then '.join(b.versions)}"


# -- reading -------------------------------------------------------------------------------------------


def record_of(source: Run) -> RunRecord:
    """What is known of a run.

    Raises:
        RedError: If it is not there, or is no run.
    """
    if isinstance(source, History):
        return _of_history("this history", source)
    if not isinstance(source, (str, os.PathLike)):
        history = getattr(source, "history", None)
        if not isinstance(history, History):
            raise WrongUse(f"{type(source).__name__} is no run: give a federation, its history, its id or a file")
        return _of_history(str(getattr(source, "fed_id", "this federation")), history)
    name = os.fspath(source)
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" or ("@" in name and not path.exists()):
        return _of_checkpoint(name, find_checkpoint(name))
    try:
        journal = journal_path(name)
    except ReplayError:
        folder = folder_of_checkpoints(name)
        if not folder.is_dir():
            raise
        return _of_folder(name, folder)
    return _of_journal(name, journal)


def _of_history(name: str, history: Sequence[RoundResult]) -> RunRecord:
    rounds = {one.number: _bytes_of(one) for one in history}
    return RunRecord(name, rounds)


def _bytes_of(result: RoundResult) -> RoundBytes:
    digests = result.digests
    told = f"{len(result.participants)} took part with {result.num_examples:g} examples, {result.failed} failed"
    return RoundBytes(digests.get("parameters", ""), digests.get("state"), told)


def _of_checkpoint(name: str, path: Path) -> RunRecord:
    try:
        read_checkpoint(path, "bits")
        notes = read_notes(path)
    except RedError as error:
        return RunRecord(name, {}, damage=error.message)
    return _of_notes(name, [notes])


def _of_folder(name: str, folder: Path) -> RunRecord:
    notes, refused = listed(folder)
    return _of_notes(name, notes, "; ".join(refused.values()))


def _of_notes(name: str, notes: Sequence[CheckpointNotes], damage: str = "") -> RunRecord:
    rounds = {one.round: _bytes_in(one) for one in notes}
    last = notes[-1] if notes else None
    versions = tuple(dict.fromkeys(f"red-tui {one.version}" for one in notes))
    return RunRecord(
        name,
        rounds,
        None,
        "" if last is None else last.layout,
        None if last is None else last.extra.get("seed"),
        versions,
        damage=damage,
    )


def _bytes_in(notes: CheckpointNotes) -> RoundBytes:
    """A checkpoint of format 1 does not tell what the server kept."""
    return RoundBytes(notes.digests[PARAMETERS], state_digest(notes.digests) if notes.format > 1 else None)


def _of_journal(name: str, path: Path) -> RunRecord:
    journal = Journal(path, read_only=True)
    try:
        fold = journal.fold()
        layout = _layout_in(journal, path)
        damage = journal.damage
    finally:
        journal.close()
    for seq in fold.unread:
        damage.note(f"event {seq}", "it makes no sense")
    rounds = {}
    for result in sound_results(fold.rounds, damage):
        one = RoundResult.from_wire(result)
        rounds[one.number] = _bytes_of(one)
    # Journals of earlier versions tell the digests of the last checkpoints; their files may be there still.
    for number, digest in _checkpoints_told(fold.checkpoints, damage):
        _fill(rounds, number, RoundBytes(digest, None))
    if path.name == JOURNAL:
        for notes in listed(folder_of_checkpoints(str(path.parent)))[0]:
            _fill(rounds, notes.round, _bytes_in(notes))
    return RunRecord(
        name,
        rounds,
        layout,
        "" if layout is None else layout.digest(),
        None if layout is None else layout.rounds.seed,
        tuple(sorted(fold.versions, key=lambda one: fold.versions[one])),
        fold.changed,
        str(damage),
    )


def _checkpoints_told(checkpoints: Sequence[Any], damage: Damage) -> Iterator[tuple[int, str]]:
    """Round and digest of each checkpoint that a journal tells of; what makes no sense is noted."""
    for place, told in enumerate(checkpoints, start=1):
        number, digest = (told.get("round"), told.get("digest")) if isinstance(told, Mapping) else (None, None)
        if type(number) is int and isinstance(digest, str):
            yield number, digest
        else:
            damage.note(f"what it tells of checkpoint {place}", f"it is {str(told)[:40]}")


def _fill(rounds: dict[int, RoundBytes], number: int, found: RoundBytes) -> None:
    """Take what a checkpoint tells of a round whose record has no digest."""
    known = rounds.get(number)
    if known is not None and not known.parameters:
        rounds[number] = RoundBytes(found.parameters, found.state, known.told)


def _layout_in(journal: Journal, path: Path) -> Layout | None:
    told = next((event.data for event in islice(journal.events(), _FIRST_EVENTS) if "layout" in event.data), None)
    kept = [] if told is None else [(str(told["layout"]), str(told.get("path") or path))]
    if not kept and path.name == JOURNAL:
        kept = list(layouts_kept(path.parent))
    for text, origin in kept:
        try:
            return loads(text, origin)
        except RedError:
            continue
    return None
