"""What it means when user code does not simply return: it raised, it asked to exit, or a fork of it came back.

Methods of a template are called inside `try: … except BaseException`, and what they raise becomes plain data here.
Nothing that a template raises leaves the process as an exception of its own class, and nothing is longer than a few
kilobytes.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")

TEXT_LIMIT = 2000
"""Max characters of an exception's message that are kept."""

TRACEBACK_LIMIT = 8000
"""Max characters of a traceback that are kept."""

SENT_LIMIT = 64_000
"""Max characters of an exception's message that may reach the caller of a method as they are."""

KNOWN_TRACEBACKS = 64
"""Max different errors of one phase whose tracebacks are told."""

LINE_LIMIT = 500
FRAMES = 30
CHAIN = 4
"""Max exceptions of a chain (`raise … from …`) that are told."""

_real_exit = os._exit
_OWN = str(Path(__file__).parents[1]) + os.sep
_EXAMPLES = os.path.join(_OWN, "examples", "")


class ContainedError(Exception):
    """Stands for an exception of user code that would end a thread or a process, such as `SystemExit`."""


class MethodError(Exception):
    """An exception of a method other than the one that was asked for, such as `get_state` after `fit`."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__(method)
        self.method, self.error = method, error


class ProcessExit(SystemExit):
    """`os._exit` was called by a node that shares its process with others: the node fails and the process lives on."""


# -- exceptions as plain data ----------------------------------------------------------------------


def failure_report(error: BaseException, method: str, known: dict[str, str] | None = None) -> dict[str, Any]:
    """An exception of a template as plain data: `error` (one line or a few), `where` (the method), `traceback`.

    In a process that user code has forked this does not return: the fork ends here, as its exit code says.

    Args:
        error: What was raised.
        method: The method of the template that was called.
        known: Tracebacks that were told already, by error: ten thousand nodes may all raise the same.
    """
    if isinstance(error, MethodError):
        method, error = error.method, error.error
    check_fork(error)
    text = error_text(error)
    if isinstance(error, ValueError) and any(words in text for words in READ_ONLY):
        text += _line_of(error) + (_SHARED.format(method=method) if method in GIVEN_PARAMETERS else _FOREIGN)
    trace = None if known is None else known.get(text, "" if len(known) >= KNOWN_TRACEBACKS else None)
    if trace is None:
        try:
            trace = traceback_text(error)
        except BaseException:
            trace = "Traceback (it cannot be read)\n"
        if known is not None:
            known[text] = trace
    return {"error": text, "where": method, "traceback": trace}


READ_ONLY = ("assignment destination is read-only", "output array is read-only", "array is not writeable")
"""What numpy says of an array that cannot be written to."""

GIVEN_PARAMETERS = ("fit", "fit_together", "evaluate")
"""Methods whose parameters all nodes of a host share."""

_SHARED = (
    ": {method} shares its parameters with other nodes, and may not write to them; copy what you change:"
    " {{name: array.copy() for name, array in parameters.items()}}"
)
_FOREIGN = (
    ": what comes from another process, or is shared, cannot be written to; copy the array before you change it:"
    " array = array.copy()"
)


def _line_of(error: BaseException) -> str:
    """File and line of user code in which an exception was raised."""
    with suppress(BaseException):
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_framework(frame.filename)]
        return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return ""


def error_text(error: BaseException) -> str:
    """The type of an exception and its message, of limited length, whatever the exception does when it is asked."""
    name = _class_name(error)
    if isinstance(error, ContainedError):
        return bounded(str(error), 2 * TEXT_LIMIT)  # it was cut already
    if isinstance(error, ProcessExit):
        return f"SystemExit: {_message(error)} (by os._exit)"
    return f"{name}: {_message(error)}".strip().rstrip(":")


def _class_name(error: BaseException) -> str:
    # As `type` itself tells it, whatever a metaclass says.
    return bounded(type.__dict__["__name__"].__get__(type(error)), LINE_LIMIT)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as second:
        return f"(its message cannot be read: __str__ raised {_class_name(second)})"
    return bounded(text, TEXT_LIMIT)


def bounded(text: str, limit: int) -> str:
    """A text of at most about `limit` characters that can be written as UTF-8; it says where it was cut."""
    length = str.__len__(text)
    kept = str.__getitem__(text, slice(0, limit))
    # Half of a surrogate pair would make the journal and the wire refuse all that stands around it.
    kept = kept.encode("utf-8", "backslashreplace").decode()
    return kept if length <= limit else f"{kept}… (cut: {length:,} characters in all)"


def traceback_text(error: BaseException) -> str:
    """The traceback of an exception, the frames of user code first, of limited length."""
    parts: list[str] = []
    told: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in told and len(told) < CHAIN:
        told.add(id(one))
        parts.append(_one_traceback(one))
        if one.__cause__ is not None:
            parts.append("\nThe above exception was the direct cause of the following exception:\n\n")
            one = one.__cause__
        elif one.__context__ is not None and not one.__suppress_context__:
            parts.append("\nDuring handling of the above exception, another exception occurred:\n\n")
            one = one.__context__
        else:
            one = None
    if len(parts) > 1 and not parts[-1].startswith("Traceback"):
        parts.pop()
    return without_middle("".join(reversed(parts)), TRACEBACK_LIMIT)


def without_middle(text: str, limit: int) -> str:
    """A traceback of about `limit` characters: its beginning says where it was raised, its end what."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}\n… (cut)\n{text[-half:]}"


def _one_traceback(error: BaseException) -> str:
    notes = [bounded(note, LINE_LIMIT) for note in _notes(error)]
    return "".join([*stack_lines(error.__traceback__), "\n".join([error_text(error), *notes]), "\n"])


def _notes(error: BaseException) -> list[str]:
    with suppress(BaseException):
        return [note for note in list(getattr(error, "__notes__", ()))[:5] if type(note) is str]
    return []


def stack_lines(at: TracebackType | None) -> list[str]:
    """The frames of a traceback as lines; those of the framework that called user code are left away."""
    try:
        stack = traceback.extract_tb(at)
    except BaseException:
        return ["Traceback (its frames cannot be read):\n"]
    first = next((place for place, frame in enumerate(stack) if not is_framework(frame.filename)), 0)
    frames = list(stack)[first:]
    left = len(frames) - FRAMES
    shown = frames if left <= 0 else [*frames[: FRAMES // 2], *frames[-FRAMES // 2 :]]
    lines = [_clipped(line) for line in traceback.StackSummary.from_list(shown).format()]
    if left > 0:
        lines.insert(FRAMES // 2, f"  … {left:,} frames more\n")
    return ["Traceback (most recent call last):\n", *lines]


def _clipped(line: str) -> str:
    return "".join(part if len(part) <= LINE_LIMIT else part[:LINE_LIMIT] + "…\n" for part in line.splitlines(True))


def is_framework(filename: str) -> bool:
    """Whether a file is one of this package (but its examples) or of Ray."""
    if filename.startswith(_OWN):
        return not filename.startswith(_EXAMPLES)
    return f"{os.sep}ray{os.sep}" in filename


# -- calling -----------------------------------------------------------------------------------------


def called(method: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a method of a template.

    Raises:
        MethodError: If it raised.
    """
    try:
        return function(*args)
    except BaseException as error:
        raise MethodError(method, error) from error


def containing(function: Callable[..., Result]) -> Callable[..., Result]:
    """A method that raises nothing but `Exception`s, and in which no fork of the process comes back.

    Ray calls a template's methods when somebody calls `node.handle.fit.remote()`: `sys.exit` in one of them would leave
    an actor that neither works nor dies.
    """

    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> Result:
        # Ray sends this function by value: what is of this process alone stands in the one below.
        return call_contained(function, args, kwargs)

    return method


def call_contained(function: Callable[..., Result], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Result:
    """Call a function as `containing` says."""
    # A process that the user's code has forked on purpose may call this too.
    before = forks.count
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        if forks.count != before:
            leave_fork(error)
        if isinstance(error, Exception) and _is_tame(error):
            raise
        # Without its cause: Ray would write that down too.
        raise ContainedError(error_text(error)).with_traceback(error.__traceback__) from None
    if forks.count != before:
        leave_fork(None)
    return result


def own_methods(template: type, without: type, base: type) -> dict[str, Any]:
    """The public methods that a template wrote.

    Args:
        template: The template.
        without: A class whose methods stand in front of the template's.
        base: What all templates derive from.
    """
    found = {}
    for name, member in inspect.getmembers(template, inspect.isfunction):
        stands_before = getattr(without, name, None) is not getattr(base, name, None)
        written = member is not getattr(base, name, None)
        plain = inspect.isfunction(inspect.getattr_static(template, name)) and not inspect.isgeneratorfunction(member)
        if written and plain and not stands_before and not name.startswith("_"):
            found[name] = member
    return found


# -- forks -------------------------------------------------------------------------------------------


class Forks:
    """Tells a process from its forks.

    Attributes:
        count: How often the line of processes that led here has forked since `watch`.
        here: What `count` was in the process that watches: it differs in each fork.
    """

    def __init__(self) -> None:
        self.count = self.here = 0
        self._watched = False

    def watch(self) -> None:
        """This is the process that answers for its nodes; forks of it are not."""
        self.here = self.count
        if not self._watched:
            self._watched = True
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.count += 1


forks = Forks()
"""Of this process."""


def _is_tame(error: Exception) -> bool:
    """Whether Ray can write an exception down as it is: it has a text that is UTF-8 and not very long."""
    try:
        return len(str(error).encode()) <= SENT_LIMIT
    except BaseException:
        return False


def check_fork(error: BaseException | None = None) -> None:
    """Return only in the process that watches: a fork that came back ends here, with `error` or with success."""
    if forks.count != forks.here:
        leave_fork(error)


def leave_fork(error: BaseException | None) -> NoReturn:
    """End a process that user code forked and that came back out of it: it is not the one that answers.

    Its exit code is the one that Python would have ended it with.
    """
    code: Any = 0
    with suppress(BaseException):
        if isinstance(error, SystemExit):
            code = error.code if error.code is not None else 0
            if not isinstance(code, int):
                print(bounded(str(code), TEXT_LIMIT), file=sys.stderr)
                code = 1
        elif error is not None:
            code = 1
            print(traceback_text(error), end="", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    _real_exit(code & 0xFF if isinstance(code, int) else 1)


EXIT_PATIENCE = 1.0
"""Max seconds from `os._exit` to the end of the process; the engine ends it earlier when it hears of the call."""


class ExitWatch:
    """Stands in for `os._exit` in the process of an actor.

    Ray tells of such an end in the words that it has for a crash, without the code.
    """

    def __init__(self) -> None:
        self._real = os._exit
        self._called = threading.Event()
        self._report: dict[str, Any] = {}
        self._shared = False

    def install(self, *, shared: bool) -> None:
        """Take the place of `os._exit`.

        Args:
            shared: Many nodes share the process: one that calls `os._exit` fails alone.
        """
        self._shared = shared
        if os._exit is self._real:
            setattr(os, "_exit", self._exit)  # noqa: B010

    def wait(self) -> dict[str, Any]:
        """Return once `os._exit` was called: who called it, with which code."""
        self._called.wait()
        return self._report

    def _exit(self, status: int) -> NoReturn:
        if forks.count != forks.here:
            self._real(status)
        frame = sys._getframe(1)
        if self._shared and _is_node_code(frame):
            raise ProcessExit(status)
        stack = traceback.extract_stack(frame)
        # A thread of the user's own was called by nobody here.
        entered = next((place for place, one in enumerate(stack) if _is_ours(one.filename)), None)
        shown = [one for one in stack[entered or 0 :] if not is_framework(one.filename)] or stack[-1:]
        self._report = {
            "code": int(status),
            "where": "a thread" if entered is None else shown[0].name,
            "traceback": "".join(["Traceback (most recent call last):\n", *traceback.format_list(shown[-20:])]),
        }
        self._called.set()
        threading.Event().wait(EXIT_PATIENCE)
        self._real(status)


exit_watch = ExitWatch()
"""Of this process; it does nothing before it is installed."""


def wait_for_exit() -> dict[str, Any]:
    """Return once `os._exit` was called in this process: who called it, with which code."""
    return exit_watch.wait()


def guard_process(*, shared: bool) -> None:
    """Make this the process of an actor: what ends it is told, and its forks do not answer for it.

    Args:
        shared: Many nodes share the process.
    """
    forks.watch()
    exit_watch.install(shared=shared)
    # Ray's own handler waits until all calls of an actor have returned, and the call that tells of its end never does:
    # the process would neither work nor end.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OWN) and not filename.startswith(_EXAMPLES)


def _is_node_code(frame: Any) -> bool:
    """Whether code of this package called the code of a frame, and will hear of what it raises."""
    while frame is not None:
        if _is_ours(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False
