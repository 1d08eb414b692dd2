"""What a script or a layout may have called at the ends of rounds and runs: trackers, plots, messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from red_tui.rounds.history import History, RoundResult


@dataclass(frozen=True)
class RunStart:
    """A run of rounds that begins.

    Attributes:
        federation: Id of the federation.
        first_round: Number of its first round.
        last_round: Number of its last round, unless a condition ends it before.
        until: That condition, or None.
        resumed: Whether the run was begun by a process that ended: some of its rounds are over already.
        config: What the nodes are told, without keys of single nodes.
        settings: How rounds are run: `strategy`, `fraction`, `deadline` and so on.
        history: The rounds that are over, those of earlier runs too.
    """

    federation: str
    first_round: int
    last_round: int
    until: str | None = None
    resumed: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History, repr=False)


class RoundHook:
    """Derive from it and override what you want to hear of.

    Each hook has a thread of its own, in the process in which the federation lives: the script's, or the supervisor's.
    Rounds never wait for it.  A hook that is slow hears of every round in order, later; one that raises or hangs breaks
    nothing, and a standing warning says so.

    In a script: `hooks=[MyHook()]`.  In a layout: `hooks: ["module:MyHook"]`; it is made without arguments.
    """

    def on_run_begin(self, run: RunStart) -> None:
        """Hear that a run of rounds begins.

        Args:
            run: The run.
        """

    def on_round_end(self, result: RoundResult) -> None:
        """Hear that a round is over and counts; each round once, in order.

        Args:
            result: The round.
        """

    def on_run_end(self, history: History) -> None:
        """Hear that the run is over, whatever ended it.

        Args:
            history: The rounds of this run.
        """


def check_hook(hook: Any, what: str = "hooks") -> RoundHook:
    """Return a hook; a class that derives from `RoundHook` is made without arguments.

    Raises:
        TypeError: If it is none, or cannot be made so.
    """
    if isinstance(hook, type) and issubclass(hook, RoundHook):
        try:
            return hook()
        except Exception as error:
            raise TypeError(
                f"{what}: {hook.__name__}() raised {type(error).__name__}: {error}; a hook that is given by its class"
                " is made without arguments"
            ) from error
    if not isinstance(hook, RoundHook):
        shown = hook.__name__ if isinstance(hook, type) else type(hook).__name__
        raise TypeError(f"{what}: a hook derives from red_tui.RoundHook, and {shown} does not")
    return hook
