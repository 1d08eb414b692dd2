"""A federation inside a trial of Ray Tune: whose placement group it uses, and its id."""

from __future__ import annotations

import warnings
from typing import Any

from red_tui.errors import PlacementError
from red_tui.nodes.config import FederationConfig

MAX_LENGTH = 63
"""Characters of an id at most."""


def trial_group() -> Any:
    """The placement group that this process runs in.

    Raises:
        PlacementError: If it runs in none.
    """
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    if group is None:
        raise PlacementError(
            "is_tune: this process runs in no placement group; give the trial its resources with"
            " tune.with_resources(trainable, red.get_resources_split(..., is_tune=True))",
            asked=None,
            available=None,
        )
    return group


def config_of_trial(config: FederationConfig) -> FederationConfig:
    """The config with the trial's id at the end of the federation's: trials run at a time, and ids name actors.

    Outside of a trial, or where the trial's id stands in it already, the config as it is.
    """
    trial_id = _trial_id()
    if not trial_id or trial_id in config.federation_id:
        return config
    kept = config.federation_id[: MAX_LENGTH - len(trial_id) - 1]
    return config.updated(federation_id=f"{kept}-{trial_id}")


def _trial_id() -> str:
    """Id of the trial that this process runs; empty if it runs none."""
    try:
        from ray.tune import get_context
    except ImportError:
        return ""
    with warnings.catch_warnings():
        # Outside of a trial it warns, and there is none.
        warnings.simplefilter("ignore")
        return str(get_context().get_trial_id() or "")
