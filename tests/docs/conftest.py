"""One local Ray for all pages and examples, in a home of its own; this process is connected to it."""

from __future__ import annotations

from tests.system.conftest import cluster, nothing_outlives_the_tests, sandbox

__all__ = ["cluster", "nothing_outlives_the_tests", "sandbox"]
