"""One cluster for as many schedules as it survives, and a report at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from tests.chaos.report import Report
from tests.chaos.scene import Scene, scene
from tests.chaos.schedules import covering
from tests.endings import tell_at_the_end

SEEDS = tuple(covering(range(100)))
"""What every test run plays: every kind of fault in every isolation; `make chaos` plays many more."""

_report = Report()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test a seed: `CHAOS_SEEDS` is how many, or some that are named: `7,19`."""
    if "seed" in metafunc.fixturenames:
        asked = os.environ.get("CHAOS_SEEDS")
        if not asked:
            seeds: Sequence[int] = SEEDS
        else:
            seeds = [int(one) for one in asked.split(",") if one] if "," in asked else range(int(asked))
        metafunc.parametrize("seed", seeds)


@pytest.fixture(scope="package")
def stage_set() -> Iterator[Scene]:
    """The cluster of all schedules."""
    with scene() as made:
        yield made


@pytest.fixture(scope="session")
def report() -> Report:
    """The sums of this run."""
    return _report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Put the report under the tests."""
    if _report.schedules:
        tell_at_the_end(session.config, "chaos", _report.lines())
