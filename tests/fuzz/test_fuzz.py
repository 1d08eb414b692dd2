"""A bounded run of every target with one seed, and what once failed."""

from __future__ import annotations

import pytest

from tests.fuzz.hunting import Hunt, Target
from tests.fuzz.targets import TARGETS

INPUTS = {
    "words": 60,
    "layout": 60,
    "config": 60,
    "typed": 100,
    "record": 40,
    "journal-file": 25,
    "journal-rows": 25,
    "checkpoint": 100,
}
"""Of targets that take long; 300 of the others."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_ends_otherwise_than_read_or_refused(target: Target) -> None:
    hunt = Hunt(target, seed=1)
    hunt.replay_corpus()
    hunt.run(inputs=INPUTS.get(target.name, 300))
    assert {key: (finding.what, finding.data[:500]) for key, finding in hunt.findings.items()} == {}
