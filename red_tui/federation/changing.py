"""The verb that changes the next rounds of a federation while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from red_tui.federation.parts import FederationParts
from red_tui.federation.verb_arguments import changes, checked
from red_tui.layout.round_settings import Change, one_of_each


class Changing(FederationParts):
    """A federation whose next rounds can be changed."""

    @property
    def round_settings(self) -> dict[str, Any]:
        """What `set_round` can change, with its value in the next rounds, by name.

        `fraction`, `deadline` (seconds), `min_results` and `evaluate_every`, then the keys of the nodes' config;
        of a key that groups of nodes have with different values, all of them.
        """
        return self._state.terms.values()

    @checked(changes=changes)
    def set_round(self, changes: Mapping[str, Any] | None = None, /, **values: Any) -> list[Change]:
        """Change how the next rounds are run and what nodes are told in them; a round in hand stays as it is.

        Nodes find the keys in `fit`'s and `evaluate`'s `config`, and in `self.config`; a key reaches every node, over
        what its group of nodes has.  What a template took from its config in `build` it keeps until it is built anew.

        Args:
            changes: New values by name; `+momentum` makes a key that nodes do not have yet, and `config.fraction` is
                the key `fraction` of the config where there is one.
            **values: The same, as keywords: `set_round(learning_rate=0.1, deadline=30)`.

        Returns:
            What changed, with what it was before.

        Raises:
            CommandRefused: If a name or a value cannot be; then nothing changes.
        """
        return self.change_rounds(one_of_each(changes or {}, values))

    def change_rounds(
        self, changes: Mapping[str, Any], who: str = "", data: Mapping[str, Any] | None = None
    ) -> list[Change]:
        """`set_round`, with who asked for it and what else the journal is to hold of that."""

        async def change() -> list[Change]:
            state = self._state
            found = state.terms.change(changes)
            if not self._in_hand:
                state.terms.begin()
            told = ", ".join(map(str, found)) or f"{', '.join(changes) or 'nothing'}: as before"
            text = f"{told}; from round {self._next_round} on" if found else told
            kept = {"changed": {change.name: change.new for change in found}} if found else {}
            if found or data:
                kind, subject = ("operator", who) if who else ("round", "next rounds")
                state.record(kind, "info", subject, f"sets {text}" if who else text, data={**kept, **(data or {})})
            return found

        return self._engine.wait(change())

    def restore_rounds(self, changes: Mapping[str, Any]) -> list[str]:
        """Go by what a journal says was changed; gives the names of what cannot be taken over any more."""
        return self._state.terms.restore(changes)

    @property
    def _in_hand(self) -> bool:
        """Whether a round has begun and not ended."""
        return self._runner is not None and self._runner.running

    @property
    def _next_round(self) -> int:
        runner = self._runner
        return runner.in_hand + 1 if runner is not None and runner.running else self._state.completed + 1
