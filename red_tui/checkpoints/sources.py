"""Checkpoints by name: `FILE`, `FEDERATION@best`, `FEDERATION@12`, `FEDERATION@last`; read, listed and exported."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from red_tui import checks
from red_tui.checkpoints.checkpoint_file import (
    AS_BITS,
    AS_FLOAT32,
    AS_THEY_ARE,
    CheckpointNotes,
    read_notes,
    read_parameters,
    storable,
    write_file,
)
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.checkpoints.keep_rule import KeepRule
from red_tui.errors import CheckpointError
from red_tui.state_folder import check_own, state_folder

FOLDER = "checkpoints"
"""Folder of the checkpoints within that of a federation."""

_HOW = "write FILE, FEDERATION@best, FEDERATION@last, or FEDERATION@12 for round 12"
_EXTENSIONS = (AS_THEY_ARE, AS_FLOAT32, AS_BITS)


def load_parameters(source: str | os.PathLike[str], *, extension: str = AS_THEY_ARE) -> dict[str, npt.NDArray[Any]]:
    """Read parameters from a file or from a federation's checkpoint.  It needs no Ray and no running federation.

    Args:
        source: A checkpoint or another safetensors file; `FEDERATION@best`, `FEDERATION@last` or `FEDERATION@12` for
            what a federation of this user keeps.  In place of the federation's id its folder may stand (`keep=`).
            `FEDERATION@best:accuracy` names the measure (`-loss`: its lowest value).
        extension: How bfloat16 and float8 are given: `keep` as types of `ml_dtypes`, `float32` with the same numbers,
            `bits` as uint16 and uint8.

    Returns:
        The parameters: arrays by name, each in memory of its own.

    Raises:
        CheckpointError: If there is no such checkpoint (it says which there are), or it is damaged.
    """
    checks.one_of(extension, "extension", _EXTENSIONS, refusal=lambda text: CheckpointError(text, file=str(source)))
    return read_parameters(find_checkpoint(source), extension)


@dataclass(frozen=True)
class StartingPoint:
    """Where a federation takes its first parameters from, in place of asking a node.

    Attributes:
        source: As in `load_parameters`.
        base: Folder from which a relative path is meant; None: the current one.
    """

    source: str
    base: Path | None = None

    def __str__(self) -> str:
        return self.source

    def path(self) -> Path:
        """The file that is meant now.

        Raises:
            CheckpointError: If there is none.
        """
        return find_checkpoint(self.source, self.base)

    def load(self) -> dict[str, npt.NDArray[Any]]:
        """The parameters.

        Raises:
            CheckpointError: If there is no such checkpoint, or it is damaged.
        """
        return read_parameters(self.path())

    def pinned(self, folder: Path) -> StartingPoint:
        """The same parameters as a file in a folder of one's own: they stay though the source goes.

        A checkpoint of a federation takes no further room: its file, which nothing changes, gets a second name.

        Raises:
            CheckpointError: If there is no such checkpoint, or the folder cannot be written.
        """
        found, target = self.path(), folder / PINNED
        aside = folder / f".{PINNED}.{os.getpid()}"
        try:
            aside.unlink(missing_ok=True)
            try:
                if not found.resolve().is_relative_to(state_folder().resolve()):
                    raise OSError("the files of others may change")
                os.link(found, aside)
            except OSError:
                shutil.copyfile(found, aside)
                os.chmod(aside, 0o600)
            os.replace(aside, target)
        except OSError as error:
            raise CheckpointError(
                f"{found} cannot be kept in {folder}, from which the federation would start: {error.strerror or error}",
                file=str(found),
            ) from error
        return StartingPoint(str(target))


PINNED = "start.safetensors"
"""The file in a federation's folder from which it started."""


def find_checkpoint(source: str | os.PathLike[str], base: Path | None = None) -> Path:
    """The file that a source means.

    Args:
        source: As in `load_parameters`.
        base: Folder from which a relative path is meant; None: the current one.

    Raises:
        CheckpointError: If there is none; it says which there are.
    """
    text = os.fspath(source)
    path = (base or Path()) / Path(text).expanduser()
    if path.is_file():
        return path
    owner, sign, wanted = text.rpartition("@")
    if not sign or not owner or not wanted:
        if folder_of_checkpoints(text, base).is_dir():
            raise CheckpointError(f"{text} is a federation: say which of its rounds, as in {text}@best", file=text)
        raise CheckpointError(f"{text}: there is no such file: {_HOW}", file=text)
    return _of_round(folder_of_checkpoints(owner, base), owner, wanted)


def folder_of_checkpoints(owner: str, base: Path | None = None) -> Path:
    """Where the checkpoints lie of a federation that is named by its id or by its folder; it need not be there."""
    given = (base or Path()) / Path(owner).expanduser()
    if os.sep in owner or (given / FOLDER).is_dir():
        return given if given.name == FOLDER else given / FOLDER
    folder = state_folder() / "federations" / owner
    for part in (folder, folder / FOLDER):
        check_own(part)
    return folder / FOLDER


def _of_round(folder: Path, owner: str, wanted: str) -> Path:
    checkpoints = Checkpoints(folder)
    files = checkpoints.files()
    if not files:
        known = "" if folder.is_dir() else f" ({folder.parent} keeps none)"
        raise CheckpointError(f"{owner!r} has no checkpoint{known}: {_HOW}", file=str(folder))
    if wanted == "last":
        return files[max(files)]
    if wanted.isascii() and wanted.isdigit():
        if int(wanted) not in files:
            raise CheckpointError(
                f"round {wanted} of {owner!r} is not kept: there {_rounds(list(files))}", file=str(folder)
            )
        return files[int(wanted)]
    word, _, metric = wanted.partition(":")
    if word != "best":
        raise CheckpointError(f"{owner}@{wanted}: {wanted!r} is no round: {_HOW}", file=str(folder))
    return files[best_round(folder, owner, metric)[0]]


def best_round(folder: Path, owner: str, metric: str = "") -> tuple[int, KeepRule]:
    """The best round of those that are kept, and by which measure.

    Args:
        folder: The checkpoints.
        owner: Whose they are, for the message.
        metric: The measure; empty: that by which the federation keeps its best round, else its lowest loss.

    Raises:
        CheckpointError: If no round has that measure; it says which there are.
    """
    notes = listed(folder)[0]
    rule = KeepRule.of(1, metric) if metric else rule_of(notes)
    found = rule.best_of((one.round, one.figures) for one in notes)
    if found is None:
        known = sorted({name for one in notes for name in one.figures})
        told = f"they report {', '.join(known)}" if known else "they report nothing (nobody evaluated them)"
        raise CheckpointError(
            f"{owner!r} keeps no round that reports {rule.best!r}: {told}; name one, as in {owner}@best:accuracy, or a"
            f" round; there {_rounds([one.round for one in notes])}",
            file=str(folder),
        )
    return found, rule


def rule_of(notes: list[CheckpointNotes]) -> KeepRule:
    """By which measure a federation keeps its best round, as its last checkpoint tells; else by its lowest loss."""
    for one in reversed(notes):
        told = one.extra.get("keep")
        if isinstance(told, Mapping) and isinstance(told.get("best"), str) and told["best"]:
            return KeepRule(1, told["best"], bool(told.get("lowest")))
    return KeepRule.of(1, "loss")


def listed(folder: Path) -> tuple[list[CheckpointNotes], dict[str, str]]:
    """What the checkpoints of a folder say of themselves, oldest first, and why others cannot be read, by name."""
    notes, refused = [], {}
    for path in Checkpoints(folder).files().values():
        try:
            notes.append(read_notes(path))
        except CheckpointError as error:
            refused[path.name] = error.message
    return notes, refused


def export_parameters(source: str | os.PathLike[str], target: Path, *, extension: str = AS_THEY_ARE) -> int:
    """Write the parameters of a checkpoint as a plain safetensors file, which every library reads; gives its bytes.

    Args:
        source: As in `load_parameters`.
        target: The new file.
        extension: `keep`, or `float32` for readers that know neither bfloat16 nor float8.

    Raises:
        CheckpointError: If there is no such checkpoint, or the file is there already or cannot be written.
    """
    parameters = load_parameters(source, extension=extension)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    if target.exists():
        raise CheckpointError(f"{target} is there already: remove it, or name another file", file=str(target))
    try:
        arrays = {name: storable(name, value, "parameter", target) for name, value in parameters.items()}
        size = write_file(aside, arrays, {"format": "np", "source": os.fspath(source)})
        os.replace(aside, target)
        return size
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror or error}", file=str(target)) from error
    finally:
        aside.unlink(missing_ok=True)


def _rounds(numbers: list[int]) -> str:
    """Rounds for a sentence that begins with `there`: `are 1, 2 and 7`."""
    shown = [str(number) for number in sorted(numbers)[-12:]]
    if len(shown) == 1:
        return f"is {shown[0]} only"
    return f"are {', '.join(shown[:-1])} and {shown[-1]}"
