"""Schedules are made of their seeds alone, and the default ones leave no kind of fault out."""

from __future__ import annotations

from collections import Counter

from tests.chaos.conftest import SEEDS
from tests.chaos.faults import FAULTS as INJECTORS
from tests.chaos.schedules import FAULTS, NEVER_AFTER, NEVER_TOGETHER, ROUNDS, schedule_of


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert [schedule_of(seed) for seed in range(50)] == [schedule_of(seed) for seed in range(50)]
    assert len({str(schedule_of(seed)) for seed in range(50)}) > 40


def test_steps_follow_each_other_and_leave_rounds_to_recover_in() -> None:
    for schedule in map(schedule_of, range(500)):
        numbers = [step.round for step in schedule.steps]
        assert numbers == sorted(set(numbers)) and numbers[0] >= 2 and numbers[-1] < ROUNDS
        for step in schedule.steps:
            for fault in step.faults:
                isolations, moments = FAULTS[fault.kind]
                assert schedule.isolation in isolations and step.moment in moments


def test_the_default_schedules_have_every_fault_in_every_isolation() -> None:
    planned: Counter[tuple[str, str]] = Counter()
    for schedule in map(schedule_of, SEEDS):
        planned.update((fault.kind, schedule.isolation) for fault in schedule.faults)
    assert {pair for pair, count in planned.items() if count} == {
        (kind, isolation) for kind, (isolations, _) in FAULTS.items() for isolation in isolations
    }


def test_what_cannot_be_survived_together_is_not_asked_for() -> None:
    for schedule in map(schedule_of, range(500)):
        before: set[str] = set()
        for step in schedule.steps:
            kinds = [fault.kind for fault in step.faults]
            for kind in kinds:
                assert not NEVER_TOGETHER.get(kind, set()) & set(kinds) - {kind}
                assert not NEVER_AFTER.get(kind, set()) & {*before, *kinds}
            before.update(kinds)


def test_every_fault_has_its_injector() -> None:
    assert set(FAULTS) == set(INJECTORS)
