"""All runs of a folder: listed, found by what a person types, and cleared away."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from red_tui.errors import RunError
from red_tui.journal.launch_record import JOURNAL
from red_tui.run_catalog.kept_run import Run, files_of
from red_tui.state_folder import check_own, state_folder

DEPTH = 3
"""Levels of folders below one that is named in which runs are looked for."""

MOST = 100_000
"""Entries that are looked at below a folder that is named: it may be a whole disk."""

SHOWN = 5
"""Runs that a message names."""


def runs(folder: str | os.PathLike[str] | None = None, *, tag: str | None = None) -> list[Run]:
    """List runs, the newest first: what each launch of a federation did.  Reads files only and needs no cluster.

    Args:
        folder: A folder of runs that scripts keep with `keep=`, or one such folder; None: the federations that were
            launched from this home (`RED_HOME`).
        tag: Only those that have this tag.

    Returns:
        The runs, running and ended ones.  A launch under an id that was used before sets the run before it aside: both
        are listed.

    Raises:
        RunError: If the folder is none.
        StateFolderError: If others own or can write the home's files.
    """
    found = _of_home() if folder is None else _below(Path(folder).expanduser())
    chosen = [run for run in found if tag is None or tag in run.tags]
    return sorted(chosen, key=lambda run: (_changed(run), run.id), reverse=True)


def _changed(run: Run) -> float:
    """When something was written last; what a killed process wrote is in the journal's log alone."""
    times = [0.0]
    for path in (run.journal, run.journal.with_name(f"{run.journal.name}-wal")):
        with contextlib.suppress(OSError):
            if path.stat().st_size:
                times.append(path.stat().st_mtime)
    return max(times)


def _of_home() -> Iterable[Run]:
    home = state_folder()
    place = home / "federations"
    for own in (home, place):
        check_own(own)
    if not place.is_dir():
        return []
    found: list[Run] = []
    for folder in place.iterdir():
        if folder.is_dir():
            check_own(folder)
            found += _in(folder)
    return found


def _in(folder: Path) -> list[Run]:
    found = []
    for path in sorted(folder.glob("journal*.db")):
        run = Run(path)
        if path.name == JOURNAL or run.stamp:
            check_own(path)
            found.append(run)
    return found


def _below(folder: Path) -> list[Run]:
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder: name one in which runs are kept (`keep=` of a script), or leave it out")
    found: list[Run] = []
    left, level = MOST, [folder]
    for depth in range(DEPTH + 1):
        deeper: list[Path] = []
        for one in level:
            mine = _in(one)
            found += mine
            if mine or depth == DEPTH:
                continue
            with os.scandir(one) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        raise RunError(f"{folder} has more than {MOST:,} entries: name a folder closer to the runs")
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                        deeper.append(Path(entry.path))
        level = deeper
    return found


def find(name: str, among: Sequence[Run] | None = None) -> Run:
    """The run that a person names: by id, name, the path of its journal or of its folder.

    Args:
        name: What was typed.
        among: The runs to look in; None: those of this home.

    Raises:
        RunError: If no run, or more than one, is meant.
    """
    path = Path(name).expanduser()
    if os.sep in name or path.suffix == ".db":
        for place in (path, path / JOURNAL):
            if place.is_file():
                return Run(place)
        raise RunError(f"there is no journal at {path}: name a journal, its folder, or a run of `red-console runs`")
    known = runs() if among is None else among
    for meant in ([run for run in known if run.id == name], [run for run in known if run.name == name]):
        if len(meant) == 1:
            return meant[0]
        if meant:
            ids = ", ".join(run.id for run in meant[:SHOWN])
            raise RunError(f"{len(meant)} runs are called {name!r}: name one by its id ({ids})")
    if (path / JOURNAL).is_file():
        return Run(path / JOURNAL)
    there = ", ".join(run.name for run in known[:SHOWN]) or "none"
    raise RunError(f"there is no run {name!r}; the newest are: {there} (see `red-console runs`)")


def delete(run: Run) -> list[Path]:
    """Remove all files of a run for good: journal, checkpoints, states of nodes.

    Returns:
        What was removed.

    Raises:
        RunError: If the run goes on, or a file cannot be removed.
        StateFolderError: If a file belongs to another user, or others can write it.
    """
    if run.in_use:
        raise RunError(f"{run.name} goes on: end it first (`red-console down {run.folder.name}`, or close its script)")
    # The journal last: what is left of a removal that fails can be named and removed again.
    mine = files_of(run)[::-1]
    for path in mine:
        if path.is_symlink():
            raise RunError(f"{path} is a symbolic link, which red-tui did not make: nothing of {run.name} was removed")
        check_own(path)
    for path in mine:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RunError(f"{path} cannot be removed: {error.strerror}") from error
    if not any(run.folder.iterdir()):
        run.folder.rmdir()
    return mine


def prune(keep: int, among: Sequence[Run] | None = None) -> list[Run]:
    """Remove all runs but the newest; those that go on, have a name or a tag stay and do not count.

    Args:
        keep: How many stay.
        among: The runs, newest first; None: those of this home.

    Returns:
        The runs that were removed.

    Raises:
        RunError: As `delete` does; runs before that one are gone.
    """
    gone = prunable(keep, among)
    for run in gone:
        delete(run)
    return gone


def prunable(keep: int, among: Sequence[Run] | None = None) -> list[Run]:
    """The runs that `prune` would remove.

    Raises:
        RunError: If `keep` is not a number from 0 on.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise RunError(f"keep says how many runs stay, from 0 on, not {keep!r}")
    known = runs() if among is None else among
    plain = [run for run in known if run.name == run.id and not run.tags and not run.in_use]
    return plain[keep:]
