"""What came of all schedules of a run, added up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.accounting import Account
from tests.chaos.schedules import Fault


@dataclass
class Report:
    """Sums over the schedules that were played.

    Attributes:
        schedules: How many began.
        finished: How many came to their account.
        injected: Faults that took place, by kind.
        survived: Those of them after which the federation was whole again.
    """

    schedules: int = 0
    finished: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    leaked: int = 0
    worst: float = 1.0

    def add(self, struck: list[Fault], account: Account | None) -> None:
        """Add a schedule; without an account it did not come to its end."""
        self.schedules += 1
        kinds = [fault.kind for fault in struck]
        self.injected.update(kinds)
        if account is None:
            return
        self.finished += 1
        self.rounds += account.rounds
        self.lost += len(account.lost)
        self.twice += len(account.twice)
        self.wrong += len(account.wrong)
        self.leaked += len(account.leaked)
        self.worst = min(self.worst, account.accuracy)
        if not account.problems:
            self.survived.update(kinds)

    def lines(self) -> list[str]:
        """The report, for people."""
        told = [f"{self.schedules} schedules, {self.finished} played to their end, {self.rounds} rounds"]
        told += [
            f"  {kind:<28}{count:>4} injected{self.survived[kind]:>5} survived"
            for kind, count in sorted(self.injected.items())
        ]
        told += [
            f"faults injected         {self.injected.total():>5}",
            f"faults survived         {self.survived.total():>5}",
            f"rounds lost             {self.lost:>5}",
            f"results counted twice   {self.twice:>5}",
            f"other discrepancies     {self.wrong:>5}",
            f"federations with leaks  {self.leaked:>5}",
            f"lowest accuracy         {self.worst:>5.3f}",
        ]
        return told
