"""Where red-tui keeps files: `$RED_HOME`, else the platform's state folder.  Private to their owner."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder of all state, made with mode 0700 if it is not there."""
    path = Path(os.environ.get("RED_HOME") or platformdirs.user_state_dir("red-tui"))
    return private_folder(path)


def federation_folder(fed_id: str) -> Path:
    """The folder of one federation's files."""
    return private_folder(home() / "federations" / fed_id)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter; folders that are made on the way there are private too."""
    if not path.parent.exists():
        private_folder(path.parent)
    path.mkdir(exist_ok=True, mode=0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600: aside, flushed to disk, then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
