"""What a supervisor needs to take a federation up again: its folder, and what of it lives."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from red_tui.federation.run_folder.recovered_run import CHECKPOINTS, STATES
from red_tui.journal.node_figures import figures_path
from red_tui.run_catalog.kept_run import NOTES, SUMMARY
from red_tui.state_folder import federation_folder
from red_tui.supervisor.registry import SUPERVISOR, actors_of, groups_of_all


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
            for end in (NOTES, SUMMARY):
                if journal.with_name(journal.stem + end).exists():
                    journal.with_name(journal.stem + end).rename(aside.with_name(aside.stem + end))
            if (folder / CHECKPOINTS).exists():
                (folder / CHECKPOINTS).rename(folder / f"{CHECKPOINTS}-{stamp}")
            if (folder / STATES).exists():
                for older in folder.glob(f"{STATES}-*"):
                    shutil.rmtree(older, ignore_errors=True)
                (folder / STATES).rename(folder / f"{STATES}-{stamp}")
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    return ""


def living(fed_id: str, namespace: str) -> tuple[list[Any], dict[str, Any]]:
    """Placement groups of a federation in order, and handles of its named actors but the supervisor's."""
    import ray

    actors = {}
    for name in actors_of(namespace).get(fed_id, []):
        if name != SUPERVISOR:
            with contextlib.suppress(ValueError):
                actors[name] = ray.get_actor(f"{fed_id}/{name}", namespace=namespace)
    return groups_of_all().get(fed_id, []), actors
