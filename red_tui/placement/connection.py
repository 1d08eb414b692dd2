"""The driver's connection to Ray."""

from __future__ import annotations

import os


def ensure_ray() -> None:
    """Connect this process to Ray unless it is: `RAY_ADDRESS`, else a running cluster, else one of its own.

    Scripts that want another cluster call `ray.init` themselves beforehand.
    """
    import ray

    if not ray.is_initialized():
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(namespace="red", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
