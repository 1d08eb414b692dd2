"""Where a federation of a script keeps its journal and checkpoints."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from red_tui import checks
from red_tui.federation.records import Keeper, Recorder
from red_tui.federation.spec import FederationSpec
from red_tui.messaging import TopologyRule

if TYPE_CHECKING:
    from red_tui.federation.base import FederatedBase

Record = Callable[..., Any]
"""`FederationState.record`."""

_IMPLEMENTATION = "red_tui.supervisor.script_folder"
"""The package of journals and checkpoints stands above this one, so that it is looked up by name."""


class RunFolder(Protocol):
    """The folder of one federation while a script has it open; nobody else can open it meanwhile."""

    recorder: Recorder
    keeper: Keeper | None

    def begin(self, federation: FederatedBase, record: Record) -> None:
        """Note how the federation begins, or let it go on where the folder's journal ends."""

    def end(self) -> None:
        """Note that the federation is closed, and let others open the folder.  Idempotent."""


def open_run_folder(
    keep: str | os.PathLike[str] | None,
    resume: bool,
    spec: FederationSpec,
    schema: type[FederatedBase],
    rule: TopologyRule,
    layout: tuple[Any, Path] | None = None,
) -> RunFolder | None:
    """Open the folder that a script names with `keep=`; None if it names none.

    Args:
        keep: The folder; it is made if it is not there.
        resume: Go on with what it keeps.
        spec: The parts of the federation.
        schema: Its class.
        rule: Its topology.
        layout: The layout that it is made from and the layout's file; None if the script lists the nodes itself.

    Raises:
        ValueError: If `keep` is no path, or `resume` is given without `keep`.
        RedError: If the folder is in use, keeps another federation, or must not be used.
    """
    checks.flag(resume, "resume")
    if keep is None:
        if resume:
            raise ValueError('resume=True goes on with what a folder keeps: name the folder with keep="runs/a"')
        return None
    if not isinstance(keep, (str, os.PathLike)) or not str(keep):
        raise ValueError(f'keep must be the path of a folder, such as "runs/a", not {checks.shown(keep)}')
    path = Path(keep).expanduser().absolute()
    opened = importlib.import_module(_IMPLEMENTATION).ScriptFolder(path, resume, spec, schema, rule, layout)
    return cast("RunFolder", opened)
