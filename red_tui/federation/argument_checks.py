"""What a federation's constructor is given: checked, and refused where two arguments contradict each other."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import ValidationError

from red_tui import checks
from red_tui.aggregation.evaluator import check_evaluator
from red_tui.aggregation.server import FederatedServer, overrides_strategy
from red_tui.aggregation.strategies import OwnStrategy, StrategyChoice, choice_of
from red_tui.checkpoints.sources import StartingPoint
from red_tui.errors import CommandRefused
from red_tui.federation.spec import FederationSpec, PlacementSpec
from red_tui.layout.loader import TOLD_KEYS
from red_tui.layout.models import KeepChoice
from red_tui.node_states.kept_states import STATE_MEMORY
from red_tui.nodes.template import Parameters, check_parameters
from red_tui.placement.availability import WAIT_FOR_RESOURCES
from red_tui.rounds.hooks import RoundHook, check_hook
from red_tui.rounds.sampling import RoundSettings, UsualStrategy
from red_tui.runtime.node_actor import check_travels

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
    state_memory: Any = STATE_MEMORY,
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
        state_memory=checks.size(state_memory, "state_memory", none="no limit"),
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


def evaluator_of(evaluator: Any) -> Any:
    """What judges on the server's node, or None.

    Raises:
        TypeError: If it can judge nothing.
        ValueError: If it cannot travel to the server's process.
    """
    if evaluator is None:
        return None
    checked = check_evaluator(evaluator)
    check_travels({"evaluator": checked}, "evaluator")
    return checked


def hooks_of(hooks: Any) -> tuple[RoundHook, ...]:
    """The hooks of a federation.

    Raises:
        TypeError: If they are no list of hooks.
    """
    if isinstance(hooks, (str, Mapping)) or not isinstance(hooks, Iterable):
        raise TypeError(
            f"hooks must be a list of objects that derive from red_tui.RoundHook, not {checks.shown(hooks)}"
        )
    return tuple(check_hook(hook, f"hooks[{place}]") for place, hook in enumerate(hooks))


def logger_of(log: Any) -> logging.Logger | None:
    """The logger that was given, or None.

    Raises:
        TypeError: If it is no logger.
    """
    if log is None or isinstance(log, (logging.Logger, logging.LoggerAdapter)):
        return cast("logging.Logger | None", log)
    raise TypeError(f"log must be a logging.Logger or None, not {checks.shown(log)}")


def starting_point(given: Any, resume: bool) -> Any:
    """What a script gives as initial parameters: a text or a path is where they are read from.

    Raises:
        CheckpointError: If there is no such file or checkpoint, unless the federation may go on without it (`resume`).
    """
    if not isinstance(given, (str, os.PathLike)):
        return given
    start = StartingPoint(os.fspath(given), Path.cwd())
    if not resume:
        start.path()
    return start


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
    return check_parameters({name: _as_array(value) for name, value in given.items()}, "initial_parameters")


def _as_array(value: Any) -> Any:
    """A list, a number or a tensor as an array; the check says what to do with what cannot be made one."""
    try:
        return np.asanyarray(value)
    except Exception:  # whatever a library of tensors raises: a tensor on a GPU, one with a gradient, a ragged list
        return value


def check_spec(spec: FederationSpec) -> None:
    """Raise where parts of a federation contradict each other.

    Raises:
        ValueError: If the config sets a key that the federation tells its nodes itself or has one that cannot travel
            to them, or if the server never asks the strategy that was chosen.
    """
    check_travels(spec.config)
    if isinstance(spec.settings.strategy, OwnStrategy):
        check_travels({spec.settings.choice["name"]: spec.settings.choice}, "strategy")
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


Verb = TypeVar("Verb", bound=Callable[..., Any])
Rule = Callable[[Any, str], Any]
"""(value, name of the argument) → the value, or CommandRefused."""


def seconds(value: Any, name: str) -> Any:
    """Seconds, or None for no limit."""
    return checks.number(value, name, least=0, unit="seconds", none="no limit", refusal=CommandRefused)


def flag(value: Any, name: str) -> Any:
    """True or False."""
    return checks.flag(value, name, refusal=CommandRefused)


def count(value: Any, name: str) -> Any:
    """A whole number of at least 1."""
    return checks.whole(value, name, least=1, refusal=CommandRefused)


def bundle(value: Any, name: str) -> Any:
    """The index of a bundle."""
    return checks.whole(value, name, least=0, refusal=CommandRefused)


def amounts(value: Any, name: str) -> Any:
    """Resources by name."""
    given = checks.mapping(value, name, '{"CPU": 2}', refusal=CommandRefused)
    return {
        key: checks.number(amount, f"{name}: {key}", least=0, refusal=CommandRefused) for key, amount in given.items()
    }


def words(value: Any, name: str) -> Any:
    """Text."""
    return checks.text(value, name, refusal=CommandRefused)


def condition(value: Any, name: str) -> Any:
    """What ends a run, or None."""
    if value is not None and not isinstance(value, str):
        raise CommandRefused(
            f"{name} must be a condition such as 'accuracy>0.95' or a time such as '+20m', not {checks.shown(value)}"
        )
    return value


def names(value: Any, name: str) -> Any:
    """A query, ids, a plan or a selection, or None."""
    value = getattr(value, "ids", value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise CommandRefused(f"nodes are named by a query or by a list of ids, not by {checks.shown(value)}")
    return [words(one, "each id") for one in value]


def changes(value: Any, name: str) -> Any:
    """New values by name, or None."""
    return None if value is None else checks.mapping(value, name, '{"learning_rate": 0.1}', refusal=CommandRefused)


def keywords(value: Any, name: str) -> Any:
    """Keyword arguments, or None."""
    return None if value is None else checks.mapping(value, name, '{"epochs": 2}', refusal=CommandRefused)


def listed(value: Any, name: str) -> Any:
    """Texts, or None."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise CommandRefused(f'{name} must be a list such as ["paris", "lyon"], not {checks.shown(value)}')
    return [words(one, f"each of {name}") for one in value]


LIMITS: dict[str, Rule] = {"only_bundle": bundle, "available": amounts, "skip_large": flag}


def limits_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The limits of a plan.

    Raises:
        CommandRefused: If one is unknown, or cannot be.
    """
    for name in given:
        if name not in LIMITS:
            raise CommandRefused(f"a plan has no limit {name!r}: use {', '.join(LIMITS)}")
    return {name: None if value is None else LIMITS[name](value, name) for name, value in given.items()}


def number_to_add(given: Any, ids: Sequence[str] | None) -> int:
    """How many nodes are added.

    Raises:
        CommandRefused: If it is no number of nodes, or another than that of the ids.
    """
    if given is None:
        if ids is not None and not len(ids):
            raise CommandRefused("at least 1 node is added, and ids is empty")
        return 1 if ids is None else len(ids)
    number: int = checks.whole(given, "count", least=1, refusal=CommandRefused)
    if ids is not None and len(ids) != number:
        raise CommandRefused(f"count is {number} and there are {len(ids)} ids: leave count out, or give as many ids")
    return number


def checked(**rules: Rule) -> Callable[[Verb], Verb]:
    """Check arguments of a method before it is called: `@checked(timeout=seconds, wait=flag)`."""

    def decorate(verb: Verb) -> Verb:
        parameters = inspect.signature(verb).parameters
        places = {name: place for place, name in enumerate(parameters)}
        keywords_too = {name for name in rules if parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY}

        @functools.wraps(verb)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = list(args)
            for name, rule in rules.items():
                if name in kwargs and name in keywords_too:
                    kwargs[name] = rule(kwargs[name], name)
                elif places[name] < len(given):
                    given[places[name]] = rule(given[places[name]], name)
            return verb(*given, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def kept_rounds(given: Any, folder: Any) -> dict[str, Any]:
    """Which rounds stay in a script's folder, as the rounds of a layout say it.

    Args:
        given: A number of the last ones, a dict such as `{"last": 3, "best": "accuracy"}`, or None.
        folder: The folder; None: there is none.

    Raises:
        ValueError: If it says nothing of that kind, or there is no folder.
    """
    if given is None:
        return {}
    if folder is None:
        raise ValueError("keep_rounds says which rounds stay in the folder of keep=, and there is none: name a folder")
    if not isinstance(given, Mapping):
        return {"checkpoints": checks.whole(given, "keep_rounds", least=0)}
    try:
        KeepChoice.model_validate(dict(given))
    except ValidationError as error:
        (first, *_) = error.errors()
        place = "".join(f"[{part!r}]" for part in first["loc"])
        raise ValueError(
            f"keep_rounds{place}: {first['msg']}; write a number, or {{'last': 3, 'best': 'loss'}}"
        ) from error
    return {"keep": dict(given)}
