"""How a federation was launched, as its folder keeps it."""

from __future__ import annotations

import contextlib
import json
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from red_tui.errors import RedError
from red_tui.journal.journal import Journal
from red_tui.journal.limits import read_json
from red_tui.layout import loads
from red_tui.runtime.node_actor import NAMESPACE
from red_tui.state_folder import write_private

RECORD = "launch.json"


SMALL = 1 << 24
"""Max bytes of a layout or a record."""


JOURNAL = "journal.db"


@dataclass(frozen=True)
class LaunchRecord:
    """How a federation was launched, as its folder keeps it.

    Attributes:
        layout: Text of its layout.
        path: Where the layout came from.
        cluster: The cluster's address, and whether it is an embedded one.
        who: Who launched it.
        namespace: Ray namespace of its actors.
        created: Wall-clock second.
        damage: Why this is not what was written at the launch, or nothing.
    """

    layout: str
    path: str
    cluster: Mapping[str, Any]
    who: str
    namespace: str = NAMESPACE
    created: float = 0.0
    damage: str = ""

    def save(self, folder: Path) -> str:
        """Write it; gives why it could not be written, or nothing."""
        try:
            write_private(folder / "layout.yaml", self.layout)
            write_private(folder / RECORD, json.dumps({**asdict(self), "damage": ""}, indent=1))
        except OSError as error:
            return f"{folder} cannot be written ({error.strerror}): this federation cannot be taken up again"
        return ""

    @classmethod
    def read(cls, folder: Path) -> LaunchRecord:
        """Read it; where it is damaged, what the layout and the journal beside it tell of it.

        Raises:
            RedError: If it is not there, or nothing beside it tells of it either.
        """
        path = folder / RECORD
        try:
            return cls._checked(read_json(read_small(path)))
        except (OSError, ValueError, TypeError, RedError) as error:
            missing = isinstance(error, FileNotFoundError)
            why = "no federation of this id was launched from this host and home" if missing else str(error)
            failure = RedError(
                f"{folder.name!r} cannot be taken up again: {why} ({path}); see `red-console ls`, or launch"
                " it with `red-console up LAYOUT`"
            )
        if not folder.is_dir():
            raise failure
        for text, origin in layouts_kept(folder):
            with contextlib.suppress(RedError):
                if loads(text, origin).federation == folder.name:
                    return cls(text, origin, {}, "", created=time.time(), damage=f"{RECORD} cannot be read: {why}")
        raise failure

    @classmethod
    def _checked(cls, plain: Any) -> LaunchRecord:
        record = cls(**plain)
        texts = (record.layout, record.path, record.who, record.namespace)
        if not all(isinstance(text, str) for text in texts) or not isinstance(record.cluster, dict):
            raise ValueError("it is no record of a launch")
        if isinstance(record.created, bool) or not isinstance(record.created, (int, float)):
            raise ValueError("it is no record of a launch")
        loads(record.layout, record.path)
        return record


def read_small(path: Path) -> str:
    """The text of a file that is small when it is what it should be.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no file, too large, or no text.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > SMALL:
        raise ValueError(f"{path} is no file of at most {SMALL:,} bytes")
    return path.read_text(encoding="utf-8")


def layouts_kept(folder: Path) -> Iterator[tuple[str, str]]:
    """Layouts of a federation that its folder keeps beside its record: their texts, and where they are from."""
    beside = folder / "layout.yaml"
    with contextlib.suppress(OSError, ValueError):
        yield read_small(beside), str(beside)
    with contextlib.suppress(OSError, RedError):
        journal = Journal(folder / JOURNAL, read_only=True)
        try:
            told = next((event.data for event in journal.events() if "layout" in event.data), None)
        finally:
            journal.close()
        if told is not None:
            yield str(told["layout"]), str(told.get("path") or beside)
