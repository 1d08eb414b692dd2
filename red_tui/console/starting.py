"""What is not needed for the first frame: it is imported while the link starts."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from red_tui.console.mirror import FederationMirror


def import_heavy() -> None:
    """Bring in numpy and what stands on it; to be run in a thread."""
    import red_tui.console.desk
    import red_tui.console.mirror  # noqa: F401
    from red_tui.console.arrangement import warm_up

    warm_up()


def make_mirror() -> FederationMirror:
    """A mirror, once there is data to mirror."""
    from red_tui.console.mirror import FederationMirror

    return FederationMirror()


def all_is_imported() -> None:
    """What was imported stays: looking through it for garbage would hold up the screen by some 40 ms each time."""
    gc.freeze()
