"""Connecting to a cluster that is not one's own, in a process that may die of it."""

from __future__ import annotations

import sys

import pytest

from red_tui.errors import NotConnected
from red_tui.supervisor.cluster_probe import probe

ENDS = {
    "import os; os.abort()": r"a process that connected to it died \(SIGABRT\)",
    "raise SystemExit(7)": r"died \(exit code 7\)",
    "print('[33m{}')": r"died \(exit code 0\)",
    "print('{\"error\": 5}')": "died",
    'print(\'{"error": "Version mismatch: 1 and 2"}\')': "Version mismatch.*with the cluster's versions",
    'print(\'{"error": "no token"}\')': "RAY_AUTH_TOKEN_PATH",
    "import time; time.sleep(60)": "lets nobody in within 1 s",
}


@pytest.mark.parametrize("code", ENDS)
def test_however_the_process_that_asks_ends_the_caller_hears_it_in_one_error(code: str) -> None:
    with pytest.raises(NotConnected, match=f"the cluster at host:1 .*{ENDS[code]}"):
        probe("host:1", (sys.executable, "-c", code), timeout=1.0 if "sleep" in code else 30.0)


def test_a_process_that_could_connect_says_so() -> None:
    probe("host:1", (sys.executable, "-c", 'print(\'{"error": ""}\')'))
