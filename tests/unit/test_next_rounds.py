"""What of the next rounds can be changed: how it is written, what is refused, and what rounds go by."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from red_tui.errors import CommandRefused, SelectionError
from red_tui.federation.reports import GroupDefinition
from red_tui.federation.round_terms import NextRounds
from red_tui.layout.round_settings import Several, checked, is_plain, named, read_changes, value_of, written
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.template import FederatedNode
from red_tui.rounds.sampling import RoundSettings

SETTINGS = {"fraction": 1.0, "deadline": 60.0, "min_results": 0.5, "evaluate_every": 1, "exact": False}
KNOWN = named(SETTINGS, {"learning_rate": 0.3, "local_epochs": 2, "partition": "iid", "shuffle": True, "num_nodes": 8})

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_that_is_written_is_read_back(value: Any) -> None:
    text = written(value)
    again = value_of(text)
    assert again == value or json.dumps(again) == json.dumps(value)
    assert read_changes(f"+made {text} fraction 0.5", KNOWN)["+made"] == again


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate 0.1", {"learning_rate": 0.1}),
        ("learning_rate=0.1 deadline: 30 fraction 1", {"learning_rate": 0.1, "deadline": 30, "fraction": 1}),
        ("  learning_rate   1e-3  ", {"learning_rate": 1e-3}),
        ("min_results 3 evaluate_every 0", {"min_results": 3, "evaluate_every": 0}),
        ("exact true", {"exact": True}),
        ("+layers [64, 32] +note 'two words' shuffle false", {"+layers": [64, 32], "+note": "two words",
                                                              "shuffle": False}),
        ("+options {a: 1, b: [x, y]} local_epochs 4", {"+options": {"a": 1, "b": ["x", "y"]}, "local_epochs": 4}),
        ("", {}),
    ],
)  # fmt: skip
def test_changes_are_read(text: str, expected: dict[str, Any]) -> None:
    assert read_changes(text, KNOWN) == expected


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("lerning_rate 0.1", 0, "did you mean learning_rate"),
        ("deadline 30 fraction 0", 21, "above 0"),
        ("fraction 1.5", 9, "at most 1"),
        ("deadline soon", 9, "number"),
        ("min_results 1.5", 12, "no fraction"),
        ("evaluate_every 1.5", 15, "whole"),
        ("learning_rate fast", 14, "is a number (0.3)"),
        ("learning_rate true", 14, "is a number"),
        ("partition 3", 10, "is text"),
        ("shuffle 1", 8, "true or false"),
        ("num_nodes 9", 0, "cannot be changed"),
        ("+round 9", 0, "cannot be changed"),
        ("+learning_rate 9", 0, "without the +"),
        ("learning_rate", 13, "is 0.3 now"),
        ("learning_rate 0.1 learning_rate 0.2", 18, "twice"),
        ("learning_rate .inf", 14, "finite"),
        ("+list [1, 2", 6, "no value"),
        ("fraction 0.5 [", 13, "name"),
        (f"+long {'x' * 3000}", 6, "2,000"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(text: str, position: int, word: str) -> None:
    with pytest.raises(SelectionError, match=r"set, position") as caught:
        read_changes(text, KNOWN)
    assert (caught.value.position, word in caught.value.message) == (position, True), caught.value.message  # type: ignore[attr-defined]


def test_a_key_that_is_named_like_a_setting_is_told_apart() -> None:
    known = named(SETTINGS, {"fraction": 7, "learning_rate": 0.3})
    assert known["config.fraction"] == 7
    assert list(checked({"config.fraction": 8, "config.learning_rate": 0.1}, known)) == [
        "config.fraction",
        "learning_rate",
    ]
    assert not checked({"fraction": 1.0, "learning_rate": 0.3}, known)  # as it is


def test_values_that_no_screen_can_show_are_no_values() -> None:
    assert not is_plain(object()) and not is_plain({1: 2}) and not is_plain(float("nan"))
    with pytest.raises(CommandRefused, match="must be text"):
        checked({"learning_rate": object()}, KNOWN)


def rounds(*configs: dict[str, Any], **base: Any) -> NextRounds:
    groups = [GroupDefinition(FederatedNode), *(GroupDefinition(FederatedNode, config) for config in configs)]
    return NextRounds(RoundSettings(), FederationConfig(federation_id="f", **base), groups)


def test_the_round_in_hand_keeps_its_terms_and_the_next_one_has_the_new_ones() -> None:
    terms = rounds({}, learning_rate=0.3)
    before = terms.now
    (rate, deadline) = terms.change({"learning_rate": 0.1, "deadline": 30})
    assert (str(rate), str(deadline)) == ("learning_rate 0.3 → 0.1", "deadline 60.0 → 30")
    assert terms.now is before and terms.now.keys == {} and terms.now.settings.deadline == 60
    assert sorted(terms.shown().to_wire()["later"]) == ["deadline", "learning_rate"]
    terms.begin()
    assert terms.now.keys == {"learning_rate": 0.1} and terms.now.settings.deadline == 30
    assert terms.shown().to_wire()["later"] == []


def test_a_change_with_one_wrong_value_changes_nothing() -> None:
    terms = rounds({}, learning_rate=0.3)
    with pytest.raises(CommandRefused, match="fraction") as caught:
        terms.change({"learning_rate": 0.1, "fraction": 2})
    assert caught.value.name == "fraction"  # type: ignore[attr-defined]
    assert terms.values()["learning_rate"] == 0.3 and terms.version == 0


def test_a_key_that_differs_between_groups_shows_all_its_values() -> None:
    terms = rounds({"learning_rate": 0.3}, {"learning_rate": 0.05}, learning_rate=0.3)
    assert terms.values()["learning_rate"] == Several((0.3, 0.05))
    assert terms.shown().to_wire()["values"]["learning_rate"] == [0.3, 0.05]
    (change,) = terms.change({"learning_rate": 0.1})
    assert str(change) == "learning_rate 0.3 or 0.05 → 0.1"
    assert terms.values()["learning_rate"] == 0.1


def test_what_was_changed_before_is_taken_over_as_far_as_it_can_be() -> None:
    terms = rounds({}, learning_rate=0.3)
    assert terms.restore({"learning_rate": 0.1, "momentum": 0.9, "fraction": 7}) == ["fraction"]
    assert terms.now.keys == {"learning_rate": 0.1, "momentum": 0.9} and terms.now.settings.fraction == 1.0
