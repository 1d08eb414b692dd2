"""The heads of the clusters that tests start."""

from __future__ import annotations

from typing import Any

FAIR = ("RAY_worker_niceness", "0")
"""Gives Ray's workers the same share of a busy machine as the tests that wait for them; of itself Ray gives a 28th."""

BARE: dict[str, Any] = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
"""Without what no test reads: dashboard, autoscaler, and the copies of all logs, a tenth of a cluster's CPU time."""
