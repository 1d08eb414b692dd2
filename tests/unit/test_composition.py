"""Parts and not towers: where a method lives is where its name says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import red_tui

PACKAGE = Path(red_tui.__file__).parent
COMPOSED = [
    "federation/lifecycle",
    "federation/rounds",
    "federation/sessions.py",
    "federation/node_messages.py",
    "federation/base.py",
    "federation/core.py",
    "federation/schemas.py",
    "supervisor",
    "runtime",
]
MAX_DEPTH = 2


def classes_of(room: str) -> dict[str, list[str]]:
    """The classes that stand in a folder or file, with the names of their bases."""
    place = PACKAGE / room
    files = [place] if place.suffix else sorted(place.rglob("*.py"))
    return {
        node.name: [ast.unparse(base) for base in node.bases]
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    }


def depth(name: str, known: dict[str, list[str]]) -> int:
    """How many classes stand above one, as far as they are ours."""
    return max((1 + depth(base, known) for base in known.get(name, []) if base in known), default=0)


def test_the_lifecycle_and_its_parts_derive_from_nothing() -> None:
    for name, bases in classes_of("federation/lifecycle").items():
        # The directory's actor class is made around a plain one, as Ray wants it.
        assert set(bases) <= {"Protocol", "TopologyDirectory"}, f"{name} derives from {bases}"


@pytest.mark.parametrize("room", COMPOSED)
def test_nobody_derives_from_a_tower(room: str) -> None:
    known = {name: bases for rooms in COMPOSED for name, bases in classes_of(rooms).items()}
    known.update(classes_of("messaging"))
    too_deep = {name: depth(name, known) for name in classes_of(room) if depth(name, known) > MAX_DEPTH}
    assert not too_deep


@pytest.mark.parametrize("room", COMPOSED)
def test_no_method_waits_to_be_written_by_a_class_below(room: str) -> None:
    place = PACKAGE / room
    for file in [place] if place.suffix else sorted(place.rglob("*.py")):
        assert "raise NotImplementedError" not in file.read_text(), f"{file.name}: give the part a callable instead"
