"""The logger of a node: it never raises, whatever it is given, and its last lines show in the node's detail."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from red_tui.nodes.user_code import bounded, error_text

LOG_LINES = 200
"""Lines that a node keeps."""

LINE_LIMIT = 4000
"""Max characters of a line that is kept, or that handlers are given."""


class NodeLog(logging.Handler):
    """Keeps the last lines that a node logged, for its detail in the console."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[tuple[float, str, str]] = deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.lines.append((record.created, str(record.levelname).lower(), text_of(record, 2 * LINE_LIMIT)))


def text_of(record: logging.LogRecord, limit: int = LINE_LIMIT) -> str:
    """The message of a record, of limited length; one that cannot be formatted says so."""
    try:
        return bounded(record.getMessage(), limit)
    except BaseException as error:
        return f"{_shown(record.msg)} {_shown(record.args)} (cannot be formatted: {error_text(error)})"


def _shown(value: Any) -> str:
    try:
        return bounded(value if isinstance(value, str) else repr(value), LINE_LIMIT // 4)
    except BaseException:
        return f"<{type(value).__name__}>"


class NodeLogger(logging.Logger):
    """What a template has as `self.log`.

    A template that logs something wrong, such as `self.log.info("%d of %d", 1)`, still does its work: the line says
    what could not be formatted.

    Args:
        name: Its name.
        level: See `logging.Logger`.
        wrapped: The logger to which its records go; None: those of `red_tui.node`.
    """

    def __init__(self, name: str, level: int = logging.NOTSET, wrapped: logging.Logger | None = None) -> None:
        super().__init__(name, level)
        self.parent = wrapped if wrapped is not None else logging.getLogger("red_tui.node")
        self.wrapped = wrapped if wrapped is not None else self
        if wrapped is not None:
            self.filters = wrapped.filters

    def __reduce__(self) -> tuple[Any, ...]:
        return logging.getLogger, (self.name,)

    def isEnabledFor(self, level: int) -> bool:
        """As any logger says, without a cache: nobody tells this one of changes further up."""
        return not self.disabled and self.manager.disable < level and level >= self.getEffectiveLevel()

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """A record that every handler can format."""
        try:
            record = super().makeRecord(*args, **kwargs)
        except Exception:
            # `extra` names a field of the record itself; it is the ninth argument.
            record = super().makeRecord(*args[:8])
        text = text_of(record)
        try:
            fine = record.getMessage() == text
        except BaseException:
            fine = False
        if not fine:
            record.msg, record.args = text, ()
        return record


def _never_raising(name: str) -> Callable[..., None]:
    write = getattr(logging.Logger, name)

    def method(self: NodeLogger, *args: Any, **kwargs: Any) -> None:
        try:
            write(self, *args, **{**kwargs, "stacklevel": kwargs.get("stacklevel", 1) + 1})
        except Exception as error:
            told = ", ".join([*map(_shown, args), *(f"{key}={_shown(value)}" for key, value in kwargs.items())])
            logging.Logger.warning(self, "log.%s(%s) cannot be logged: %s", name, told, error_text(error))

    method.__name__, method.__doc__ = name, write.__doc__
    return method


for _name in ("debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "log"):
    setattr(NodeLogger, _name, _never_raising(_name))


def node_logger(log: Any, node_id: str) -> Any:
    """The logger of a node: around the one that it was given, or one of its own name.

    Args:
        log: What the node was given; something else than a `logging.Logger` is handed on as it is.
        node_id: Id of the node.
    """
    if log is None:
        log = logging.getLogger(f"red_tui.node.{node_id}")
    if not isinstance(log, logging.Logger) or isinstance(log, NodeLogger):
        return log
    return NodeLogger(log.name, wrapped=log)
