"""Who an operator is: one name for the audit of commands, and the names of other users of this machine."""

from __future__ import annotations

import getpass
import os
import socket


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
