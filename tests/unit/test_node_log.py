"""What a template logs never raises, whatever it is, and is kept in lines of limited length."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import red_tui as red
from red_tui.nodes.node_log import LINE_LIMIT, LOG_LINES, NodeLog, NodeLogger, node_logger
from red_tui.runtime.bundle_actor import BundleActor
from red_tui.runtime.node_runtime import NodeRuntime
from tests.unit.steppers import Stepper, batch


class Raising:
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


MISUSES: dict[str, tuple[Callable[[Any], None], str]] = {
    "too few": (lambda log: log.info("%d of %d", 1), "%d of %d (1,) (cannot be formatted: TypeError"),
    "too many": (lambda log: log.warning("round", 3), "round (3,) (cannot be formatted: TypeError"),
    "of another type": (lambda log: log.error("%d", "a"), "%d ('a',) (cannot be formatted: TypeError"),
    "no text": (lambda log: log.info(Raising()), "<Raising> () (cannot be formatted: SystemExit: 3)"),
    "no text inside": (lambda log: log.info("%s", Raising()), "(cannot be formatted: SystemExit: 3)"),
    "no message": (lambda log: log.info(), "log.info() cannot be logged: TypeError"),
    "a level in words": (lambda log: log.log("INFO", "x"), "log.log(INFO, x) cannot be logged: TypeError"),
    "a field of its own": (lambda log: log.info("x", extra={"message": 1}), "x"),
    "another keyword": (lambda log: log.info("x", lr=1), "log.info(x, lr=1) cannot be logged: TypeError"),
    "no stack level": (lambda log: log.info("x", stacklevel="a"), "cannot be logged: TypeError"),
    "an error of its own": (lambda log: log.exception("%s", 1, 2), "(1, 2) (cannot be formatted: TypeError"),
    "half a character": (lambda log: log.info("\ud800"), "\\ud800"),
    "very long": (lambda log: log.info("y" * 10_000_000), "y" * LINE_LIMIT + "… (cut: 10,000,000 characters in all)"),
}


def of_a_process(given: logging.Logger | None = None) -> Any:
    node = type("Node", (NodeRuntime, Stepper), {})("n0", "train", red.FederationConfig(), given)
    node.red_hello()
    return node


def of_a_host(given: logging.Logger | None = None) -> Any:
    host = BundleActor()
    list(host.build(batch([0], Stepper), {}))
    return host.node_of(0, "n0")


@pytest.mark.parametrize("node_of", [of_a_process, of_a_host])
@pytest.mark.parametrize("misuse", MISUSES)
def test_whatever_is_logged_wrongly_is_a_line_and_no_error(node_of: Callable[[], Any], misuse: str) -> None:
    stream = io.StringIO()
    shown = logging.StreamHandler(stream)
    parent = logging.getLogger("red_tui.node")
    parent.addHandler(shown)
    node = node_of()
    act, told = MISUSES[misuse]
    try:
        assert act(node.log) is None
    finally:
        parent.removeHandler(shown)
    (line,) = node.red_detail()["log"]
    assert told in line[2] and len(line[2]) < LINE_LIMIT + 100
    assert told in stream.getvalue() and "--- Logging error ---" not in stream.getvalue()
    assert line[2].encode()


@pytest.mark.parametrize("node_of", [of_a_process, of_a_host])
def test_what_is_logged_rightly_stays_as_it_is(node_of: Callable[[], Any]) -> None:
    node, seen = node_of(), []  # type: Any, list[logging.LogRecord]
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    node.log.addHandler(handler)
    node.log.info("%d of %d", 1, 2, extra={"mine": 5})
    node.log.debug("not shown")
    node.log.setLevel(logging.DEBUG)
    node.log.debug("shown")
    assert [record.getMessage() for record in seen] == ["1 of 2", "shown"]
    assert (seen[0].args, seen[0].mine, seen[0].funcName) == (  # type: ignore[attr-defined]
        (1, 2),
        5,
        "test_what_is_logged_rightly_stays_as_it_is",
    )
    assert [line[1:] for line in node.red_detail()["log"]] == [["info", "1 of 2"], ["debug", "shown"]]


def test_a_logger_that_the_node_was_given_gets_its_lines_at_its_own_level() -> None:
    given, kept = logging.getLogger("mine.training"), NodeLog()
    given.addHandler(kept)
    given.setLevel(logging.WARNING)
    try:
        node = of_a_process(given)
        node.log.info("not shown")
        node.log.warning("shown")
        assert [line[2] for line in kept.lines] == ["shown"] and node.log.name == "mine.training"
        given.setLevel(logging.INFO)
        node.log.info("shown now")
        assert [line[2] for line in kept.lines] == ["shown", "shown now"]
        assert isinstance(node.log, logging.Logger) and pickle.loads(pickle.dumps(node.log)) is given
    finally:
        given.handlers.clear()


def test_something_else_than_a_logger_is_handed_on_as_it_is() -> None:
    adapter = logging.LoggerAdapter(logging.getLogger("mine"), {})
    assert node_logger(adapter, "n0") is adapter
    own = NodeLogger("n")
    assert node_logger(own, "n0") is own


def test_only_the_last_lines_are_kept() -> None:
    node = of_a_host()
    for number in range(LOG_LINES + 5):
        node.log.info("line %d", number)
    lines = node.red_detail()["log"]
    assert len(lines) == LOG_LINES and lines[0][2] == "line 5"
