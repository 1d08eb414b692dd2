"""Whether a federation is where its journal says: rounds, participants and parameters, counted a second time.

The learning of the digits is deterministic: the same parameters, round and node give the same update.  So
the parameters that a journal stands for can be computed from it anew, without Ray and without red-tui's
aggregation.  A round that was lost, a result that was counted twice and a node that was left out by
mistake all give other parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.examples.digits import DigitsClient, judge, load_digits
from red_tui.journal.journal import Fold, Journal
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.template import Parameters
from red_tui.replay.verification import verify
from tests.chaos.scene import JUDGES, SEED, Federation

ACCURACY = 0.85
CLOSE = 2e-4
"""Parameters may differ by so much: sums of float32 in another order, over some hundred steps."""


@dataclass
class Account:
    """What a schedule is judged by; every list is empty where nothing is wrong."""

    rounds: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    accuracy: float = 0.0

    @property
    def problems(self) -> list[str]:
        """All that is wrong."""
        told = {"lost": self.lost, "counted twice": self.twice, "wrong": self.wrong, "left over": self.leaked}
        return [f"{what}: {one}" for what, some in told.items() for one in some]


def journal_of(home: Path, fed_id: str) -> Fold:
    """What the journal of a federation adds up to, read as anybody may read it while it is written."""
    journal = Journal(home / "federations" / fed_id / "journal.db", read_only=True)
    try:
        return journal.fold()
    finally:
        journal.close()


def count_rounds(account: Account, folded: Fold, seen: Mapping[int, float], target: int) -> None:
    """Rounds follow each other without a gap, each once, and none that somebody has seen done is missing."""
    numbers = [int(one["number"]) for one in folded.rounds]
    account.rounds = len(numbers)
    account.twice += [
        f"round {number} is done {times} times" for number, times in Counter(numbers).items() if times > 1
    ]
    account.lost += [f"round {number}" for number in range(1, target + 1) if number not in numbers]
    ended = {int(one["number"]): float(one["ended"]) for one in folded.rounds}
    account.lost += [
        f"round {number} was seen done and is another one now"
        for number, at in seen.items()
        if number in ended and abs(ended[number] - at) > 1e-3
    ]
    account.lost += [f"round {number} was seen done" for number in seen if number not in ended]
    if numbers != sorted(numbers) or len(numbers) > target:
        account.wrong.append(f"the journal has the rounds {numbers}")
    if folded.interrupted is not None:
        account.wrong.append(f"round {folded.interrupted} has begun, never ended, and nothing runs")
    if folded.unread:
        account.wrong.append(f"events {folded.unread} of the journal cannot be read")


def count_results(
    account: Account, federation: Federation, folded: Fold, fits: set[tuple[int, str]], parameters: Parameters
) -> None:
    """The parameters are those that the journal's participants make, each counted once with its examples."""
    replay = Replay(federation)
    for one in folded.rounds:
        number, ids = int(one["number"]), list(one.get("ids") or ())
        account.twice += [f"{node} in round {number}" for node, times in Counter(ids).items() if times > 1]
        account.wrong += [
            f"{node} counts in round {number} without a fit" for node in ids if (number, node) not in fits
        ]
        if len(ids) != one["participants"]:
            account.wrong.append(f"round {number} names {len(ids)} of {one['participants']} participants")
        examples = replay.step(number, dict.fromkeys(ids))
        if examples != one["num_examples"]:
            what = account.twice if one["num_examples"] > examples else account.wrong
            what.append(f"round {number} counts {one['num_examples']:g} examples, its participants have {examples}")
        accuracy = one["metrics"].get("accuracy")
        if one["evaluated"] == JUDGES and abs(accuracy - replay.judged()) > 0.01:
            account.wrong.append(f"accuracy of round {number}: {accuracy:.4f}, computed anew {replay.judged():.4f}")
    far = distance(parameters, replay.parameters)
    if not far < CLOSE:
        account.wrong.append(f"the parameters are {far:.2g} away from those that the journal accounts for")
    account.accuracy = replay.judged()
    if account.accuracy < ACCURACY:
        account.wrong.append(f"accuracy {account.accuracy:.3f} after {len(folded.rounds)} rounds")


def count_checkpoints(
    account: Account, home: Path, federation: Federation, rounds: int, parameters: Parameters
) -> None:
    """The last checkpoint holds the last round's parameters, to the bit; nothing was left half written."""
    folder = home / "federations" / federation.fed_id / "checkpoints"
    if not folder.is_dir():
        return
    found = Checkpoints(folder, federation=federation.fed_id).latest()
    account.wrong += [f"checkpoint {name}: {why}" for name, why in found.refused.items()]
    if found.checkpoint is None:
        account.lost.append("no checkpoint is whole")
    elif found.checkpoint.round != rounds:
        account.lost.append(f"the last checkpoint is of round {found.checkpoint.round}, not {rounds}")
    elif distance(found.checkpoint.parameters, parameters) != 0:
        account.wrong.append("the last checkpoint holds other parameters than the federation")


def count_bytes(account: Account, home: Path, federation: Federation, undisturbed: Federation) -> None:
    """The run has the bytes of one that nothing befell, round by round: the strategy's state too."""
    folders = (home / "federations" / one.fed_id for one in (federation, undisturbed))
    found = verify(*folders)
    if not found or found.compared != federation.rounds:
        account.wrong.append(f"{found} ({'; '.join(found.differences)})")


def count_nodes(account: Account, folded: Fold, states: Mapping[str, str]) -> None:
    """The journal says of each node what the table says."""
    told = folded.states
    account.wrong += [
        f"{node} is {state}, the journal says {told.get(node, 'nothing')}"
        for node, state in states.items()
        if told.get(node) != state
    ]


def distance(one: Parameters, other: Parameters) -> float:
    """The largest difference between parameters; infinite if they are not of one form."""
    if {name: value.shape for name, value in one.items()} != {name: value.shape for name, value in other.items()}:
        return float("inf")
    return max(float(np.abs(np.subtract(value, other[name], dtype=np.float64)).max()) for name, value in one.items())


class Replay:
    """The federation once more, in this process: plain loops over plain arrays."""

    def __init__(self, federation: Federation) -> None:
        base = {
            "federation_id": federation.fed_id,
            "num_nodes": federation.nodes,
            "seed": SEED,
            "partition": "dirichlet",
            "alpha": 1.0,
            "learning_rate": 0.3,
            "local_epochs": 4,
        }
        self._momentum = federation.momentum
        self._velocity: dict[str, Any] = {}
        self._nodes: dict[str, DigitsClient] = {}
        for index, node_id in enumerate(federation.ids):
            node = DigitsClient(node_id, "train", FederationConfig(node_index=index, **base))
            node.build()
            self._nodes[node_id] = node
        self.parameters: Parameters = self._nodes[federation.ids[0]].initial_parameters()

    def step(self, number: int, ids: Sequence[str] | Mapping[str, Any]) -> float:
        """One round with these participants; gives their examples."""
        total, added = 0.0, {name: np.zeros(value.shape) for name, value in self.parameters.items()}
        for node_id in ids:
            result = self._nodes[node_id].fit(self.parameters, {"round": number})
            total += result.num_examples
            for name, value in result.parameters.items():
                added[name] += np.multiply(value, result.num_examples, dtype=np.float64)
        if total:
            self.parameters = {name: self._moved(name, value / total) for name, value in added.items()}
        return total

    def _moved(self, name: str, mean: Any) -> Any:
        """Momentum of the server: v becomes m v + (mean - w), and w becomes w + v."""
        present = self.parameters[name].astype(np.float64)
        self._velocity[name] = self._momentum * self._velocity.get(name, 0.0) + mean - present
        return (present + self._velocity[name]).astype(np.float32)

    def judged(self) -> float:
        """Accuracy on all the images that were held out."""
        digits = load_digits()
        return judge(self.parameters, digits.test_images, digits.test_labels)[1]
