"""Everything that red-tui raises on purpose, as one short tree under `RedError`.

Each message says what happened, to what, and what to do next.  `to_wire` and `from_wire` carry an
error through the link and the supervisor without losing its type or its fields.
"""

from __future__ import annotations

from typing import Any


class RedError(Exception):
    """Root of all errors that red-tui raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self).__name__, self.message, self.fields)

    def to_wire(self) -> dict[str, Any]:
        """This error as plain data (type name, message, fields)."""
        return {"type": type(self).__name__, "message": self.message, "fields": _plain(self.fields)}


class LayoutError(RedError):
    """A layout cannot be used.  Fields: file, line, column, field, allowed, and the texts of all `problems`."""

    exit_code = 2


class BuildError(RedError):
    """A node could not be built.  Fields: node, bundle, cause."""


class RunError(RedError):
    """A run cannot be found, read, changed or compared."""


class PlacementError(RedError):
    """Resources do not fit.  Fields: asked, available."""


class RoundError(RedError):
    """A round could not finish.  Fields: round_number, failed (cause by node id)."""


class CheckpointError(RedError):
    """A checkpoint cannot be written or used.  Field: file."""


class NameTaken(RedError):
    """A name is in use on the cluster.  Fields: name, holder."""


class NotConnected(RedError):
    """No cluster or federation answers at an address.  Fields: address."""

    exit_code = 3


class SelectionError(RedError):
    """A query cannot be read.  Fields: query, position (0-based offset into the query)."""

    exit_code = 2


class TopologyError(RedError):
    """Nodes cannot be neighbours in the way that was asked for.  Fields: rule, or node."""

    exit_code = 2


class MessageError(RedError):
    """A message cannot be sent.  Fields: node (the receiver), where one is meant."""


class SessionError(RedError):
    """A session could not go on.  Fields: failed (cause by node id)."""


class CommandRefused(RedError):
    """A command makes no sense in the present state (unknown node, already built, read-only...)."""


class NothingToDo(CommandRefused):
    """What was asked for is so already: no rounds run that could be stopped, no node failed that could be rebuilt."""


class WrongUse(RedError):
    """A command line makes no sense, whatever runs."""

    exit_code = 2


class StateFolderError(RedError):
    """A file or folder of red-tui's own state cannot be used safely.  Fields: path."""

    exit_code = 2


_KINDS = {
    kind.__name__: kind for kind in list(globals().values()) if isinstance(kind, type) and issubclass(kind, RedError)
}


def from_wire(data: dict[str, Any]) -> RedError:
    """The error that `RedError.to_wire` described; an unknown type becomes a plain `RedError`."""
    return _rebuild(str(data.get("type")), str(data.get("message")), dict(data.get("fields") or {}))


def _rebuild(kind: str, message: str, fields: dict[str, Any]) -> RedError:
    return _KINDS.get(kind, RedError)(message, **fields)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
