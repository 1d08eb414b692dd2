"""Small plain records of a federation: events, groups of nodes, reports of verbs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from red_tui.nodes.template import FederatedNode
from red_tui.placement.build_plan import LeftOut
from red_tui.protocol.events import Event
from red_tui.runtime.node_actor import NAMESPACE

DISK_TIMEOUT = 600.0
"""Seconds that the end of a federation waits for a finished round to be on disk."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint whose arrays lie in the object store.

    Attributes:
        round: The round after which it was written.
        parameters: Reference to the parameters.
        groups: Reference to its further arrays, by group and name.
        names: Names of these groups; empty for a checkpoint of an earlier version.
        extra: Plain data that was saved beside them.
        server_state: Reference to what goes with the parameters (`ServerState`), or None where it has nothing.
        strategy: Name of the strategy whose state that is; empty where it has none.
        node_states: Reference to a list of what nodes keep, or None.
        node_ids: Whose states these are, in order.
    """

    round: int
    parameters: Any
    groups: Any
    names: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    server_state: Any = None
    strategy: str = ""
    node_states: Any = None
    node_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeStates:
    """What nodes keep, in the object store.

    Attributes:
        ids: Whose states they are.
        places: For each the number of its block, and its place there (None: the block is the state).
        blocks: References to the blocks.
    """

    ids: Sequence[str]
    places: Sequence[tuple[int, int | None]]
    blocks: Sequence[Any]


class CheckpointStore(Protocol):
    """Where parameters are kept on disk.

    Attributes:
        refused: Which files the last `load` passed over, and why.
        measure: By what the best round is kept, in words such as `highest accuracy`; empty: no round is for that.
        node_states: Whether what nodes keep is saved too.
    """

    refused: dict[str, str]
    measure: str
    node_states: bool

    async def save(
        self,
        number: int,
        parameters: Any,
        groups: Mapping[str, Any] | None = None,
        figures: Mapping[str, float] | None = None,
        extra: Mapping[str, Any] | None = None,
        states: NodeStates | None = None,
    ) -> dict[str, Any]:
        """Save what belongs to a round, as long as it takes; gives what the journal notes of it.

        Args:
            number: The round.
            parameters: Reference to the parameters.
            groups: By group a reference to arrays by name, or to a `ServerState`, which has its own groups; one that
                leads to None or to nothing is left out.
            figures: What the round measured, by name.
            extra: Further plain data.
            states: What nodes keep; None: nothing of it is saved.

        Raises:
            Exception: If it cannot be saved.
        """

    async def load(self, at_most: int | None) -> LoadedCheckpoint | None:
        """The last good checkpoint of a round up to `at_most` (None: of any), or None."""


class Recorder(Protocol):
    """Where events are kept before they are shown.  `damage` says, as text, what is lost of those kept before."""

    @property
    def damage(self) -> Any:
        """What is lost, if anything: true and a text then."""

    def append(self, event: Event) -> None:
        """Keep one event, durably."""

    def result(self, number: int) -> Mapping[str, Any] | None:
        """The result of a finished round, as its event holds it; None where it is not known any more."""

    def close(self) -> None:
        """No more events come."""


@dataclass(frozen=True)
class Residence:
    """Where a federation lives, and who keeps what it does.

    Attributes:
        detached: Its actors outlive this process.
        namespace: Of its actors.
        recorder: Where its events are kept; None: nowhere.
        keeper: Where its parameters are kept; None: nowhere.
    """

    detached: bool = False
    namespace: str = NAMESPACE
    recorder: Recorder | None = None
    keeper: CheckpointStore | None = None


HERE = Residence()
"""In this process, which keeps nothing."""


@dataclass(frozen=True)
class GroupDefinition:
    """What the nodes of one entry of a layout have in common.

    Attributes:
        template: Their template.
        config: Further config keys of theirs.
        client_start: Position of the first of them among the client nodes.
        row_start: Row of the first of them.
    """

    template: type[FederatedNode]
    config: Mapping[str, Any] = field(default_factory=dict)
    client_start: int = 0
    row_start: int = 0


@dataclass(frozen=True)
class NodeFailure:
    """A node that a verb could not serve, and why."""

    node_id: str
    why: str
    traceback: str = ""


@dataclass(frozen=True)
class BuildReport:
    """The result of a build.

    Attributes:
        built: Ids of the nodes that are ready.
        failed: Those that failed, with their causes, by id.
        waiting: Ids of those that are still pending or starting.
        left_out: Those that the plan left out, with the reason, by id.
        seconds: Wall time.
        already: Ids of those that had a process before: nothing was done to them.
    """

    built: Sequence[str]
    failed: Mapping[str, NodeFailure]
    waiting: Sequence[str]
    left_out: Mapping[str, str]
    seconds: float
    already: Sequence[str] = ()

    def __str__(self) -> str:
        parts = [f"{len(self.built)} built in {self.seconds:.1f} s"]
        if self.already:
            parts.append(f"{len(self.already)} already built")
        if self.waiting:
            parts.append(f"{len(self.waiting)} still starting")
        if self.failed:
            first = next(iter(self.failed.values()))
            parts.append(f"{len(self.failed)} failed ({first.node_id}: {first.why})")
        if self.left_out:
            node_id = next(iter(self.left_out))
            why = self.left_out[node_id]
            parts.append(f"{len(self.left_out)} left out ({node_id}: {why})")
        return ", ".join(parts)


@dataclass(frozen=True)
class NodeReport:
    """The result of a release, a rebuild or a removal: the ids that it was done to, and why not to others."""

    done: Sequence[str]
    refused: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.done)

    def __str__(self) -> str:
        if not self.refused:
            return f"{len(self.done)} done"
        node_id, why = next(iter(self.refused.items()))
        return f"{len(self.done)} done, {len(self.refused)} refused ({node_id}: {why})"


class LeftOutReasons(Mapping[str, str]):
    """Why nodes were left out, by id.  Made when it is looked at: there may be a million of them."""

    def __init__(self, left_out: Sequence[LeftOut], more: Mapping[str, str] | None = None) -> None:
        self._left_out = left_out
        self._more = dict(more or {})
        self._made: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._made is None:
            self._made = {**{left.node_id: left.why for left in self._left_out}, **self._more}
        return self._made

    def __getitem__(self, node_id: str) -> str:
        if self._made is None and len(self._left_out) and self._left_out[0].node_id == node_id:
            return self._left_out[0].why
        return self._all()[node_id]

    def __iter__(self) -> Iterator[str]:
        yield from (left.node_id for left in self._left_out)
        yield from self._more

    def __len__(self) -> int:
        return len(self._left_out) + len(self._more)
