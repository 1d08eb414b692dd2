"""Schedules of faults, made of a seed: the same seed, the same faults at the same moments."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.scene import Federation

ROUNDS = 12

NODE = ("fit", "evaluate")
ANY = ("fit", "evaluate", "aggregate", "aggregated")

FAULTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # fault: (isolations, moments of a round at which it strikes)
    "node killed": (("process",), NODE),
    "node left": (("process",), NODE),
    "node killed for its memory": (("process",), NODE),
    "node out of memory": (("process", "bundle"), ("fit",)),
    "node hangs": (("process", "bundle"), ("fit",)),
    "host killed": (("bundle",), NODE),
    "host killed for its memory": (("bundle",), NODE),
    "server killed": (("process", "bundle"), ("aggregate", "aggregated", "fit")),
    "supervisor killed": (("process", "bundle"), ANY),
    "supervisor gone": (("process", "bundle"), ANY),
    "host lost": (("process", "bundle"), ANY),
    "cluster lost": (("process", "bundle"), ANY),
    "disk full": (("process", "bundle"), ANY),
    "head silent": (("process", "bundle"), ANY),
    "head killed": (("process", "bundle"), ANY),
    "node frozen": (("process",), NODE),
    "host frozen": (("bundle",), NODE),
    "server frozen": (("process", "bundle"), ("aggregate", "aggregated", "fit")),
    "supervisor frozen": (("process", "bundle"), ANY),
    "checkpoints frozen": (("process", "bundle"), ANY),
    "checkpoints killed": (("process", "bundle"), ANY),
    "raylet frozen": (("process", "bundle"), ANY),
    "clock steps": (("process", "bundle"), ANY),
}
"""What can happen to a federation."""

NEVER_TOGETHER = {
    # What could not be written is lost with the process that remembers it.
    "disk full": {"supervisor killed", "supervisor gone", "cluster lost"},
    # An operator who adopts, and a host that joins, wait for the head to answer.
    "head silent": {"supervisor gone", "host lost"},
    # Who ends an actor for good waits for its process to answer.
    "supervisor frozen": {"supervisor gone"},
    # There is nobody left to be struck.
    "cluster lost": set(FAULTS),
}
"""Faults that do not strike at one moment."""

NEVER_AFTER = {
    # Ray's own head ends itself (a failed check in RemovePlacementGroupBundles, Ray 2.60) when a placement group is
    # removed whose bundles have moved since the head was started anew.
    "host lost": {"head killed"},
}
"""Faults that do not strike in a schedule after others."""

DEAR = {"cluster lost"}
"""Another cluster takes half a minute on a small machine: these are in a schedule only where its seed says so."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: What happens.
        victim: Picks the node, or the host, among those there are: its place modulo their number.
    """

    kind: str
    victim: int


@dataclass(frozen=True)
class Step:
    """Faults that strike at one moment of one round.

    Attributes:
        round: The round.
        moment: `fit`, `evaluate`, or just before or after the server aggregates (`aggregate`, `aggregated`).
        faults: What happens then, one after another.
        patient: Whether the next step waits until all nodes are there again.
    """

    round: int
    moment: str
    faults: tuple[Fault, ...]
    patient: bool


COMPARED = 4
"""One schedule in so many is compared: its federation has momentum, and its sums are exact."""


@dataclass(frozen=True)
class Schedule:
    """All that happens to one federation."""

    seed: int
    isolation: str
    steps: tuple[Step, ...]

    @property
    def faults(self) -> list[Fault]:
        """All faults, in order."""
        return [fault for step in self.steps for fault in step.faults]

    def federation(self) -> Federation:
        """The federation that it happens to."""
        process = self.isolation == "process"
        hangs = any(fault.kind == "node hangs" for fault in self.faults)
        nodes, bundles = (5, 5) if process else (24, 2)
        deadline, momentum = 5.0 if hangs else 90.0, 0.5 * self.compared
        name = f"chaos-{self.seed}"
        return Federation(name, self.isolation, nodes, bundles, ROUNDS, deadline, momentum, self.compared)

    @property
    def compared(self) -> bool:
        """Whether the run is compared, byte for byte, with one that nothing befell."""
        return self.seed % COMPARED == 0

    def __str__(self) -> str:
        told = [
            f"{' and '.join(fault.kind for fault in step.faults)} ({step.moment} of round {step.round})"
            for step in self.steps
        ]
        return f"{self.isolation}: {', '.join(told)}"


def schedule_of(seed: int, kinds: Sequence[str] | None = None) -> Schedule:
    """The schedule of a seed.  Every kind is the first fault of one seed in as many as there are kinds.

    Args:
        seed: Any whole number from 0 on.
        kinds: Kinds of faults to choose from; None: all.
    """
    names = list(kinds or FAULTS)
    rng = random.Random(seed)
    first = names[seed % len(names)]
    isolations = FAULTS[first][0]
    isolation = isolations[(seed // len(names)) % len(isolations)]
    possible = [name for name in names if isolation in FAULTS[name][0] and name not in DEAR]
    steps: list[Step] = []
    number = 1
    for index in range(rng.choice((2, 2, 3))):
        number += rng.randint(1, 3)
        before = {fault.kind for step in steps for fault in step.faults}
        left = [name for name in possible if not before & NEVER_AFTER.get(name, set())]
        kind = first if index == 0 or not left else rng.choice(left)
        moment = rng.choice(FAULTS[kind][1])
        faults = [Fault(kind, rng.randrange(1000))]
        barred = {kind, *NEVER_TOGETHER.get(kind, ())} | {one for one, some in NEVER_TOGETHER.items() if kind in some}
        barred |= NEVER_AFTER.get(kind, set()) | {one for one, some in NEVER_AFTER.items() if kind in some}
        others = [name for name in left if name not in barred and moment in FAULTS[name][1]]
        if others and rng.random() < 0.3:
            faults.append(Fault(rng.choice(others), rng.randrange(1000)))
        steps.append(Step(number, moment, tuple(faults), patient=rng.random() < 0.7))
    return Schedule(seed, isolation, tuple(steps))


def covering(seeds: Sequence[int]) -> list[int]:
    """A few of some seeds, in whose schedules every kind of fault is, in every isolation in which it can strike."""
    struck = {
        seed: {(fault.kind, schedule.isolation) for fault in schedule.faults}
        for seed, schedule in ((seed, schedule_of(seed)) for seed in seeds)
    }
    left = set().union(*struck.values())
    chosen: list[int] = []
    while left:
        chosen.append(max(seeds, key=lambda seed: len(struck[seed] & left)))
        left -= struck[chosen[-1]]
    return chosen
