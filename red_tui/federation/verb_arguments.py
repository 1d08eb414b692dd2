"""Checks of what a federation's verbs are given, by the names of their arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from red_tui import checks
from red_tui.errors import CommandRefused

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
    """A query, ids, or None."""
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
