"""What stands under the tests in the terminal: also what another process found that ran a part of them."""

from __future__ import annotations

from typing import Any

import pytest

_told: dict[str, list[str]] = {}


def tell_at_the_end(config: pytest.Config, title: str, lines: list[str]) -> None:
    """Say something once all tests have run; call it before the session of this process ends."""
    output = getattr(config, "workeroutput", None)
    if output is None:
        _told[title] = lines
    else:
        output.setdefault("told", {})[title] = lines


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process that ran tests has ended: take over what it has to say."""
    _told.update(getattr(node, "workeroutput", {}).get("told", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it."""
    for title, lines in _told.items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
