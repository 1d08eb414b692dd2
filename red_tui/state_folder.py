"""Where red-tui keeps files, and whether they may be trusted: `$RED_HOME`, else the platform's state folder.

Others on the machine must not be able to put files there: notes name processes to end and folders to remove,
journals are folded, and the token opens the cluster.
"""

from __future__ import annotations

import getpass
import os
import socket
import stat
from pathlib import Path

import platformdirs

from red_tui.errors import StateFolderError


def operator_name() -> str:
    """`user@host` of this process, for the audit of commands."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without an entry, as in containers
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname() or 'localhost'}"


def user_name(uid: int) -> str:
    """`user NAME`, or the number of a user without a name."""
    try:
        import pwd

        return f"user {pwd.getpwuid(uid).pw_name}"
    except (ImportError, KeyError):
        return f"user {uid}"


_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def state_folder() -> Path:
    """The folder of all state, which need not exist.

    Raises:
        StateFolderError: If `RED_HOME` is no absolute path, or no folder can be derived without it.
    """
    given = os.environ.get("RED_HOME")
    if not given:
        try:
            return Path(platformdirs.user_state_dir("red-tui"))
        except RuntimeError as error:
            raise StateFolderError(
                "this user has no home folder, and HOME is not set: set HOME, or RED_HOME to an absolute path", path=""
            ) from error
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        path = Path(given)
    if not path.is_absolute():
        raise StateFolderError(
            f"RED_HOME={given} is not absolute, so that it would be another folder in each process: write an absolute"
            f" path, such as RED_HOME={Path.cwd() / path}",
            path=given,
        )
    return path


def check_own(path: Path) -> None:
    """Refuse a file or a folder that another user owns or may write; what is not there is fine.

    A symbolic link is judged itself, and then what it leads to.

    Raises:
        StateFolderError: With the reason and a way out.
    """
    try:
        entry = path.lstat()
        target = path.stat() if stat.S_ISLNK(entry.st_mode) else entry
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StateFolderError(f"{path} cannot be looked at: {error.strerror}", path=str(path)) from error
    _check_owner(path, entry.st_uid)
    _check_owner(path, target.st_uid)
    if target.st_mode & _WRITABLE_BY_OTHERS and not stat.S_ISSOCK(target.st_mode):
        raise StateFolderError(
            f"{path} can be written by other users (mode {stat.S_IMODE(target.st_mode):04o}), who could put files of"
            f" theirs there: look through it and make it private with `chmod -R go-w {path}`, or set RED_HOME to"
            " another folder",
            path=str(path),
        )


def _check_owner(path: Path, owner: int) -> None:
    if owner != os.geteuid():
        raise StateFolderError(
            f"{path} belongs to {user_name(owner)}, not to {user_name(os.geteuid())}, so that it is not used: set"
            " RED_HOME to a folder of your own",
            path=str(path),
        )


def check_folder(path: Path) -> None:
    """Refuse what is there under the name of a folder and is none, or is not one's own.

    Raises:
        StateFolderError: With the reason and a way out.
    """
    check_own(path)
    if path.is_symlink() and not path.exists():
        raise StateFolderError(f"{path} is a symbolic link that leads nowhere: remove it", path=str(path))
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                raise StateFolderError(
                    f"{part} is a file, and red-tui needs a folder there: remove it, or set RED_HOME to another folder",
                    path=str(path),
                )
            return


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
    """Write a file of mode 0600: aside, flushed to disk, then renamed.  Its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
