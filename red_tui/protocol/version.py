"""The version of what supervisor, link and console say to each other, and the refusal of another one."""

from __future__ import annotations

from typing import Any

from red_tui.errors import NotConnected

PROTOCOL = 2
"""Grows when a record or a command changes so that the other side would misread it."""

BEFORE = 1
"""The version of a side that does not state one: versions were not counted before 2."""


def check_protocol(stated: Any, who: str, here: str) -> None:
    """Refuse to go on with a side of another version.

    Args:
        stated: The version that it states; None: it states none.
        who: The other side, as the message names it: `the supervisor of 'digits'`.
        here: This side.

    Raises:
        NotConnected: If it speaks another version; the message names both.
    """
    version = BEFORE if stated is None else stated
    if version != PROTOCOL:
        raise NotConnected(
            f"{who} speaks version {version} of red-tui's protocol, and {here} version {PROTOCOL}: use the same version"
            " of red-tui on both sides",
            address="",
        )
