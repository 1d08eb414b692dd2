"""What a federation's constructor is given: checked, and refused where two arguments contradict each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from red_tui import checks
from red_tui.aggregation.server import FederatedServer, overrides_strategy
from red_tui.aggregation.strategies import StrategyChoice, choice_of
from red_tui.federation.spec import FederationSpec, PlacementSpec
from red_tui.layout.loader import TOLD_KEYS
from red_tui.nodes.template import Parameters, check_parameters
from red_tui.placement.availability import WAIT_FOR_RESOURCES
from red_tui.rounds.sampling import RoundSettings, UsualStrategy
from red_tui.runtime.config_transport import check_travels

ISOLATIONS = ("process", "bundle")
RESOURCE_SPLITS = ("uniform", "random")


def settings_of(settings: RoundSettings | Mapping[str, Any] | None, strategy: StrategyChoice | None) -> RoundSettings:
    """The settings of rounds from `settings=` and `strategy=`.

    Raises:
        ValueError: If one of them cannot be, or both name a strategy and differ.
    """
    made = RoundSettings.of(settings)
    if strategy is None:
        return replace(made, strategy=made.choice)
    choice = choice_of(strategy)
    if not isinstance(made.strategy, UsualStrategy) and made.choice != choice:
        raise ValueError(
            f"strategy= says {choice} and settings= says {made.choice}: name the strategy in one place only"
        )
    return replace(made, strategy=choice)


def placement_of(
    isolation: Any,
    nodes_per_bundle: Any,
    concurrency: Any,
    resources: Any,
    bundle_offset: Any,
    is_tune: Any,
    seed: int,
    wait_for_resources: Any = WAIT_FOR_RESOURCES,
) -> PlacementSpec:
    """Where the nodes live.

    Raises:
        ValueError: If an argument cannot be, or says nothing beside another.
    """
    checks.one_of(isolation, "isolation", ISOLATIONS)
    capacity = checks.whole(nodes_per_bundle, "nodes_per_bundle", least=1, none="no limit")
    workers = checks.whole(concurrency, "concurrency", least=1)
    if isolation == "process" and (capacity is not None or workers != 1):
        name = "nodes_per_bundle" if capacity is not None else "concurrency"
        raise ValueError(
            f"{name} is for isolation='bundle', and isolation is 'process', which gives each node a process of its own:"
            " leave it out, or pass isolation='bundle'"
        )
    if checks.flag(is_tune, "is_tune") and resources is not None:
        raise ValueError(
            "is_tune=True uses the placement group of the Tune trial, and resources= names other resources: pass one of"
            " the two"
        )
    split, group = _split_or_group(resources)
    if bundle_offset is not None and group is None and not is_tune:
        raise ValueError(
            "bundle_offset is the coordinator's bundle in a placement group: pass the group as resources=, or leave"
            " bundle_offset out"
        )
    return PlacementSpec(
        isolation=isolation,
        nodes_per_bundle=capacity,
        concurrency=workers,
        split=split,
        seed=seed,
        group=group,
        offset=checks.whole(bundle_offset, "bundle_offset", least=0, none="0") or 0,
        is_tune=is_tune,
        wait_for_resources=checks.number(wait_for_resources, "wait_for_resources", least=0),
    )


def _split_or_group(resources: Any) -> tuple[str, Any]:
    """The split, and the placement group where one was given."""
    if resources is None:
        return "uniform", None
    allowed = f"{checks.alternatives(RESOURCE_SPLITS)}, or a placement group (red.get_resources_split)"
    if isinstance(resources, str):
        if resources == "weighted":
            raise ValueError(
                "resources='weighted' needs one weight a node: reserve the bundles with"
                " red.get_resources_split(n, split_strategy='weighted', weights=[...]) and pass what it returns"
            )
        if resources not in RESOURCE_SPLITS:
            raise ValueError(f"resources must be {allowed}, not {checks.shown(resources)}")
        return resources, None
    if type(resources).__name__ == "PlacementGroupFactory":
        raise ValueError(
            "resources is a PlacementGroupFactory, which reserves nothing by itself: give it to Tune"
            " (tune.with_resources) and pass is_tune=True to the federation in the trial"
        )
    if not hasattr(resources, "bundle_specs"):
        raise ValueError(f"resources must be {allowed}, not {checks.shown(resources)}")
    return "uniform", resources


def logger_of(log: Any) -> logging.Logger | None:
    """The logger that was given, or None.

    Raises:
        TypeError: If it is no logger.
    """
    if log is None or isinstance(log, (logging.Logger, logging.LoggerAdapter)):
        return cast("logging.Logger | None", log)
    raise TypeError(f"log must be a logging.Logger or None, not {checks.shown(log)}")


def first_parameters(given: Any) -> Parameters:
    """The initial parameters as arrays.

    Raises:
        TypeError: If they are no arrays by name.
        ValueError: If one holds NaN or infinity.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"initial_parameters must be a dict of arrays by name such as {{'w': numpy.zeros(3)}}, not"
            f" {checks.shown(given)}"
        )
    return check_parameters({name: np.asanyarray(value) for name, value in given.items()}, "initial_parameters")


def check_spec(spec: FederationSpec) -> None:
    """Raise where parts of a federation contradict each other.

    Raises:
        ValueError: If the config sets a key that the federation tells its nodes itself or has one that cannot travel
            to them, or if the server never asks the strategy that was chosen.
    """
    check_travels(spec.config)
    for key in TOLD_KEYS:
        if key in spec.config.as_dict():
            raise ValueError(f"config: {key!r} is told to the nodes by the federation itself: choose another name")
    check_server(spec.server_template, spec.settings.choice["name"])


def check_server(server: type, strategy: str) -> None:
    """Raise ValueError if a server's own `aggregate` never asks the strategy that was chosen."""
    if strategy != "fedavg" and issubclass(server, FederatedServer) and overrides_strategy(server):
        raise ValueError(
            f"strategy {strategy!r} would not run: {server.__name__}.aggregate does not ask it; call"
            " super().aggregate(...) in it, or leave the strategy out"
        )
