"""The files of red-tui: private to their owner, and refused where they are not."""

from __future__ import annotations

import os
from pathlib import Path

from red_tui.state_folder import check_folder, check_own, state_folder


def home() -> Path:
    """The folder of all state, made with mode 0700 if it is not there.

    Raises:
        StateFolderError: If it is not a folder of this user alone.
    """
    return private_folder(state_folder())


def federation_folder(fed_id: str) -> Path:
    """The folder of one federation's files.

    Raises:
        StateFolderError: If it, or a file in it, belongs to or can be written by another user.
    """
    folder = private_folder(private_folder(home() / "federations") / fed_id)
    for entry in folder.iterdir():
        check_own(entry)
    return folder


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter; folders that are made on the way there are private too.

    Raises:
        StateFolderError: If something else is there, or a folder that others own or can write.
    """
    check_folder(path)
    if not path.parent.exists():
        private_folder(path.parent)
    path.mkdir(exist_ok=True, mode=0o700)
    return path


def read_own(path: Path) -> str:
    """The text of a file that nobody but this user can have written.

    Raises:
        StateFolderError: If another user owns it or can write it.
        FileNotFoundError: If it is not there.
    """
    check_own(path)
    return path.read_text(encoding="utf-8")


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600: aside, flushed to disk, then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
