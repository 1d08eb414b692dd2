"""What nodes keep between turns, as a federation sees to it: written to files, fetched, moved and cleared away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.checks import size_text
from red_tui.errors import RedError
from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.lifelines import BackgroundTasks, Lifelines
from red_tui.federation.lifecycle.node_set import NodeSet, StartPace
from red_tui.federation.reports import LoadedCheckpoint, NodeStates
from red_tui.federation.state import FederationState
from red_tui.node_states.host_states import columns_of, places_of
from red_tui.node_states.kept_states import Kept, KeptStates
from red_tui.node_states.state_files import StateFiles, StatePlace, Stored
from red_tui.node_states.state_index import StateIndex
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.states import HOLDING
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.rounds.ray_calls import answer_of

PORTION = 64_000_000
"""Bytes of states that are on their way between memory, files and machines at a time."""

KEEPER_TIMEOUT = 120.0
"""Seconds that a keeper may take for one portion."""

RETRY_SECONDS = 10.0
"""Seconds until states are written again that the disk did not take."""

NAMED = 64
"""Max ids listed in an event about states that were lost."""

WARNING = "node states"


class StateStore:
    """Sees to the states of a federation's nodes, on the engine's thread.

    Args:
        nodes: The nodes.
        tasks: Where states are written and moved in the background.
    """

    def __init__(self, nodes: NodeSet, tasks: BackgroundTasks) -> None:
        self._nodes, self._tasks = nodes, tasks
        self._state: FederationState = nodes.state
        self._kept: KeptStates = nodes.state.kept
        self._keepers: dict[str, Any] = {}
        self._writing: asyncio.Task[None] | None = None
        self._moving: asyncio.Task[None] | None = None
        self._temporary = False
        self._begun = False

    # -- where states belong -----------------------------------------------------------------------

    @property
    def place(self) -> StatePlace | None:
        """Where hosts write the states of their nodes; None: these stay in memory."""
        if not self._kept.on_disk:
            return None
        self._begin()
        return self._kept.place if self._kept.index is not None else None

    def open(self, *, sweep: bool) -> None:
        """Go on with the states that lie in the federation's folder, if there are any.

        Args:
            sweep: Remove files of this machine that the index does not know: no process lives that may be writing one.
        """
        place = self._kept.place
        if place is None:
            return
        try:
            folder = place.folder()
            if not any(folder.iterdir()):
                return
            self._begin()
            if sweep and self._kept.index is not None:
                files = StateFiles(folder)
                files.remove(set(files.names()) - self._kept.files().keys())
        except (OSError, RedError) as error:
            self._state.trouble(WARNING, f"what nodes kept cannot be read: {error}")
            return
        if len(self._kept):
            text = f"{len(self._kept):,} nodes go on with what they kept ({size_text(self._kept.disk)} in {folder})"
            self._state.record("federation", "info", self._state.fed_id, text)

    def _begin(self) -> None:
        """Make folder and index, once."""
        if self._begun:
            return
        self._begun = True
        kept, fed_id = self._kept, self._state.fed_id
        if kept.place is None:
            self._temporary = True
            kept.place = StatePlace(f"states/{fed_id}-{uuid.uuid4().hex[:8]}", True)
        try:
            index = StateIndex(kept.place.folder())
            kept.load(index)
        except (OSError, RedError) as error:
            text = f"what nodes keep stays in memory, for its folder cannot be used: {error}"
            self._state.trouble(WARNING, text)
            return
        if index.damage:
            self._state.record("federation", "error", fed_id, index.damage)

    def look(self) -> None:
        """States have come: those that have outgrown the bound are written, and what nobody wants is cleared away."""
        if self._nodes.closing:
            return
        kept = self._kept
        if kept.outgrown:
            size = kept.memory
            kept.on_disk = True
            self._begin()
            if kept.index is not None and kept.place is not None:
                text = (
                    f"what nodes keep ({size_text(size)}) has outgrown state_memory ({size_text(kept.bound or 0)}):"
                    f" from now on it lies in files, in {kept.place.folder()} of each machine; a machine that is lost"
                    " takes the states on its disk with it, unless this folder is shared by all machines"
                )
                self._state.record("federation", "info", self._state.fed_id, text)
        if kept.on_disk and kept.memory and (self._writing is None or self._writing.done()):
            self._writing = self._tasks.spawn(self._write())
        if kept.index is not None:
            self._clear()

    # -- what hosts tell -----------------------------------------------------------------------------

    def written(self, bundle: int, told: Mapping[str, Any]) -> set[int]:
        """A host told where it has written states (a record's `stored` and `trouble`); gives their rows."""
        slot = self._nodes.pool.slot_of(bundle)
        entries = places_of(told.get("stored"))
        if entries and self._kept.index is not None:
            host = self._nodes.pool.host_name(bundle)
            try:
                self._kept.put(entries, slot.host_id if slot is not None else "", host, bundle)
            except RedError as error:
                self._state.trouble(WARNING, f"where states lie cannot be noted: {error}")
        if told.get("trouble"):
            self._warn(told["trouble"], self._nodes.pool.host_name(bundle))
        elif entries:
            self._state.trouble(WARNING, "")
        return set(entries)

    def hold(self, rows: Sequence[int], reference: Any, sizes: Sequence[int], but: Iterable[int] = ()) -> None:
        """A block of states has come into memory.

        Args:
            rows: Whose they are, in order.
            reference: The block.
            sizes: About how many bytes each has.
            but: Rows whose states are not in it.
        """
        left_out = set(but)
        for index, row in enumerate(rows):
            if row not in left_out:
                self._kept.hold(row, Kept(reference, index), sizes[index] if index < len(sizes) else None)

    def _warn(self, why: str, host: str = "") -> None:
        where = f" on {host}" if host else ""
        text = (
            f"the disk{where} does not take what nodes keep ({first_sentence(why, 300)}): it stays in memory, and is"
            " written once there is room"
        )
        self._state.trouble(WARNING, text)

    # -- into files --------------------------------------------------------------------------------

    async def room(self) -> None:
        """Wait while more states are on their way to the disk than may lie in memory."""
        kept = self._kept
        while kept.on_disk and kept.memory > max(kept.bound or 0, PORTION):
            self.look()
            writing = self._writing
            if writing is None or writing.done() or WARNING in self._state.troubles:
                return
            await asyncio.wait([writing])

    async def _write(self) -> None:
        """Write what lies in memory to files of this machine, portion by portion."""
        kept = self._kept
        while (held := kept.held()) and not self._nodes.closing and kept.index is not None:
            blocks = self._portion(held)
            error = await self._write_blocks(blocks)
            if error is not None and await self._keeper_lives():
                # One of the blocks cannot be had: its states are lost, and not those of the others.
                for reference, rows in blocks.items():
                    alone = await self._write_blocks({reference: rows})
                    if alone is not None and await self._keeper_lives():
                        self._lost_in_memory({row: held[row] for row in rows}, first_sentence(str(alone)))
            elif error is not None:
                self._warn(first_sentence(str(error)) or f"no answer within {KEEPER_TIMEOUT:g} s")
                await asyncio.sleep(RETRY_SECONDS)
        if kept.index is not None:
            self._clear()

    def _portion(self, held: Mapping[int, Kept]) -> dict[Any, list[int]]:
        """Some of the blocks that lie in memory, with the rows whose states are in them."""
        blocks: dict[Any, list[int]] = {}
        size = 0
        for row, kept in held.items():
            if kept.reference in blocks or size < PORTION:
                blocks.setdefault(kept.reference, []).append(row)
                size += self._kept.size_of(row)
        return blocks

    async def _write_blocks(self, blocks: Mapping[Any, Sequence[int]]) -> Exception | None:
        """Write the states of some blocks; gives why that could not be done at all, or None."""
        kept = self._kept
        held = {row: where for rows in blocks.values() for row in rows if (where := kept.get(row)) is not None}
        number = {reference: place for place, reference in enumerate(blocks)}
        mine = {row: where for row, where in held.items() if where.reference in number}
        places = [(number[where.reference], where.place) for where in mine.values()]
        names = self._state.table.ids.take(np.asarray(list(mine), dtype=np.int64))
        try:
            answer = await answer_of(self._keeper("").write.remote(list(mine), names, places, *blocks), KEEPER_TIMEOUT)
        except Exception as error:
            return error
        entries = {row: at for row, at in places_of(answer["stored"]).items() if kept.get(row) == mine[row]}
        if self._nodes.closing or kept.index is None:
            return None
        if entries:
            kept.put(entries, self._here(), self._host_here())
            self._forget_with_server(list(entries))
        for row, why in answer["refused"].items():
            if kept.get(row) == mine[row]:
                kept.let_go(row)
            if why:
                self._tell_lost([row], why)
        if answer["trouble"]:
            self._warn(answer["trouble"])
            await asyncio.sleep(RETRY_SECONDS)
        elif entries:
            self._state.trouble(WARNING, "")
        return None

    async def _keeper_lives(self) -> bool:
        """Whether the keeper of this machine answers; one that does not is ended, and replaced when it is needed."""
        try:
            await answer_of(self._keeper("").read.options(num_returns=2).remote(columns_of({}))[1], KEEPER_TIMEOUT)
        except Exception:
            self._end_keeper("")
            return False
        return True

    def _lost_in_memory(self, held: Mapping[int, Kept], why: str) -> None:
        """States are gone with the process or the machine in whose memory they were."""
        gone = [row for row, kept in held.items() if self._kept.get(row) == kept]
        for row in gone:
            self._kept.let_go(row)
        if gone:
            self._tell_lost(gone, f"the process or machine that had them in memory has ended ({why})")

    def _forget_with_server(self, rows: Sequence[int]) -> None:
        """The server holds states for a supervisor that dies: those in files need that no more."""
        server = self._state.processes.get(self._state.server_row)
        if self._state.detached and server is not None:
            server.handle.red_forget.remote(list(rows))

    # -- out of files ------------------------------------------------------------------------------

    def columns(self, rows: Iterable[int]) -> dict[str, Any]:
        """Where the states of some rows lie in files; rows without are left out."""
        found = ((row, self._kept.stored(row)) for row in rows)
        return columns_of({row: stored for row, stored in found if stored is not None})

    async def fetch(self, rows: Sequence[int]) -> AsyncIterator[tuple[list[int], dict[int, Kept]]]:
        """Bring states into memory whose files are on other machines, some at a time.

        Args:
            rows: Whose.

        Yields:
            Some of the rows, and where their states are; those that are lost are told of and left out of the latter.
        """
        without = [row for row in rows if self._kept.stored(row) is None]
        if without:
            yield without, {}
        places = {row: stored for row in rows if (stored := self._kept.stored(row)) is not None}
        where = await self._find({stored.file for stored in places.values()})
        by_machine: dict[str | None, dict[int, Stored]] = {}
        for row, stored in places.items():
            by_machine.setdefault(where[stored.file], {})[row] = stored
        for machine, mine in by_machine.items():
            if machine is None:
                hosts = sorted({self._kept.machine_of(stored).host for stored in mine.values()} - {""})
                why = (
                    f"they lay on the disk of {', '.join(hosts) or 'a machine'}, which has left the cluster; a folder"
                    " that all machines share (RED_HOME) keeps states when a machine is lost"
                )
                self._lost(list(mine), why)
                yield list(mine), {}
                continue
            for portion in _portions(mine):
                yield list(portion), await self._fetch_portion(machine, portion)

    async def all_of_clients(self) -> NodeStates:
        """What all nodes but the server keep now, in memory: those in files are read."""
        kept, ids = self._kept, self._state.table.ids
        rows = sorted(row for row in kept if row != self._state.server_row)
        held = {row: where for row in rows if (where := kept.get(row)) is not None}
        async for _, fetched in self.fetch([row for row in rows if row not in held]):
            held.update(fetched)
        numbers: dict[Any, int] = {}
        for where in held.values():
            numbers.setdefault(where.reference, len(numbers))
        places = [(numbers[where.reference], where.place) for where in held.values()]
        names = ids.take(np.fromiter(held, dtype=np.int64, count=len(held)))
        return NodeStates(names, places, list(numbers))

    def take_up(self, loaded: LoadedCheckpoint) -> int:
        """Nodes that do not live go on with what a checkpoint holds of them; gives how many do.

        It is what they kept after that round, whatever lies in files that were written since.
        """
        table, count = self._state.table, 0
        living = table.in_states(HOLDING)
        for index, node_id in enumerate(loaded.node_ids):
            row = table.row_of(node_id)
            if row is not None and not living[row]:
                self._kept.hold(row, Kept(loaded.node_states, index), 0)
                count += 1
        return count

    async def fetch_one(self, row: int) -> Kept | None:
        """Bring the state of one node into memory, if it lies in a file; None for none, or if it is lost."""
        if self._kept.stored(row) is None:
            return None
        async for _, fetched in self.fetch([row]):
            if row in fetched:
                return fetched[row]
        return None

    async def _fetch_portion(self, machine: str, places: Mapping[int, Stored]) -> dict[int, Kept]:
        try:
            states, told = self._keeper(machine).read.options(num_returns=2).remote(columns_of(places))
            lost = await answer_of(told, KEEPER_TIMEOUT)
        except Exception as error:
            self._end_keeper(machine)
            lost = dict.fromkeys(places, f"their machine did not give them ({first_sentence(str(error)) or 'silent'})")
            states = None
        for why in dict.fromkeys(lost.values()):
            self._lost([row for row, told in lost.items() if told == why], why)
        return {row: Kept(states, index) for index, row in enumerate(places) if row not in lost}

    def damaged(self, lost: Sequence[tuple[int, str]]) -> None:
        """A host has built nodes without their states, for these could not be read."""
        for why in dict.fromkeys(why for _, why in lost):
            self._lost([row for row, told in lost if told == why], why)

    def _lost(self, rows: Sequence[int], why: str) -> None:
        for row in rows:
            self._kept.pop(row)
        self._tell_lost(rows, why)

    def _tell_lost(self, rows: Sequence[int], why: str) -> None:
        chosen = np.asarray(sorted(rows), dtype=np.int64)
        ids = self._state.table.ids.take(chosen[:NAMED])
        whose = f"the state of {ids[0]} is" if len(rows) == 1 else f"the states of {len(rows):,} nodes are"
        subject = ids[0] if len(rows) == 1 else f"{len(rows):,} nodes"
        data = {"lost_states": row_ranges(chosen), "ids": ids}
        text = f"{whose} lost: {why}; they go on without"
        self._state.record("node", "error", subject, text, data=data)

    def read_ahead(self, rows: IntArray, bundles: Iterable[int]) -> None:
        """Have the states of the nodes of the next turn in memory by the time it begins.

        Args:
            rows: These nodes.
            bundles: Bundles whose actors may be asked; one a machine is.
        """
        place = self.place
        if place is None or not len(rows):
            return
        chosen: dict[int, Stored] = {}
        left = max(self._kept.bound or 0, PORTION)
        for row in rows.tolist():
            stored = self._kept.stored(row)
            if stored is not None and left > 0:
                chosen[row] = stored
                left -= stored.size
        if not chosen:
            return
        columns = columns_of(chosen)
        asked: set[str] = set()
        for bundle in bundles:
            actor, slot = self._state.bundle_actors.get(bundle), self._nodes.pool.slot_of(bundle)
            if actor is not None and slot is not None and slot.host_id not in asked:
                asked.add(slot.host_id)
                actor.handle.read_ahead.remote(place, columns)

    # -- clearing away -----------------------------------------------------------------------------

    def _clear(self) -> None:
        """Remove files in which no state counts, and move states out of those that are nearly empty."""
        try:
            dead = self._kept.dead_files()
        except RedError:
            return
        if dead:
            self._tasks.spawn(self._remove(dead))
        if (self._moving is None or self._moving.done()) and (files := self._kept.wasteful()):
            self._moving = self._tasks.spawn(self._move(files))

    async def _remove(self, dead: Mapping[str, Any]) -> None:
        place = self._kept.place
        assert place is not None
        with contextlib.suppress(OSError, RedError):
            await asyncio.to_thread(_unlink, place.folder(), list(dead))
        elsewhere: dict[str, list[str]] = {}
        for name, use in dead.items():
            if use.machine not in ("", self._here()):
                elsewhere.setdefault(use.machine, []).append(name)
        for machine in elsewhere.keys() & self._alive() if elsewhere else ():
            self._keeper(machine).remove.remote(elsewhere[machine])

    async def _move(self, files: Mapping[str, Mapping[int, Stored]]) -> None:
        by_machine: dict[tuple[str, str], dict[int, Stored]] = {}
        for places in files.values():
            for row, stored in places.items():
                use = self._kept.machine_of(stored)
                by_machine.setdefault((use.machine, use.host), {})[row] = stored
        alive = self._alive()
        for (machine, host), places in by_machine.items():
            where = machine or self._here()
            if where not in alive:
                continue
            try:
                answer = await answer_of(self._keeper(where).move.remote(columns_of(places)), KEEPER_TIMEOUT)
            except Exception:
                self._end_keeper(where)
                continue
            moved = {row: (places[row], after) for row, after in places_of(answer["stored"]).items()}
            self._kept.move(moved, machine, host)
        self._clear()

    # -- keepers -----------------------------------------------------------------------------------

    def _here(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def _host_here(self) -> str:
        host = self._nodes.pool.hosts.get(self._here())
        return host.name if host is not None else ""

    async def _find(self, names: set[str]) -> dict[str, str | None]:
        """Ray's id of the machine that has each file, if there is one: it may be known by another id now."""
        here, alive = self._here(), self._alive()
        found: dict[str, str | None] = {}
        for name in names:
            machine = self._kept.files()[name].machine
            if self._is_here(name):
                found[name] = here
            elif machine in alive and machine != here:
                found[name] = machine
            else:
                found[name] = None
        sought = [name for name, machine in found.items() if machine is None]
        for machine in alive - {here} if sought else ():
            with contextlib.suppress(Exception):
                has = await answer_of(self._keeper(machine).has.remote(sought), KEEPER_TIMEOUT)
                found.update(dict.fromkeys(has, machine))
        return found

    def _is_here(self, name: str) -> bool:
        assert self._kept.place is not None
        try:
            return (self._kept.place.folder() / name).exists()
        except (OSError, RedError):
            return False

    def _alive(self) -> set[str]:
        import ray

        return {str(entry["NodeID"]) for entry in ray.nodes() if entry["Alive"]}

    def _keeper(self, machine: str) -> Any:
        """The keeper of a machine, which is started when it is first needed; it ends with this process."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        machine = machine or self._here()
        if machine not in self._keepers:
            from red_tui.node_states.state_keeper import StateKeeper

            there = NodeAffinitySchedulingStrategy(machine, soft=False)
            options = ray.remote(num_cpus=0, scheduling_strategy=there, max_restarts=-1, max_task_retries=1)
            self._keepers[machine] = options(StateKeeper).remote(self._kept.place)
        return self._keepers[machine]

    def _end_keeper(self, machine: str) -> None:
        import ray

        keeper = self._keepers.pop(machine or self._here(), None)
        if keeper is not None:
            ray.kill(keeper)

    async def end(self) -> None:
        """End the keepers; what nobody can go on with is removed."""
        import ray

        place, self._begun = self._kept.place, True
        if self._temporary and place is not None:
            machines = {use.machine for use in self._kept.files().values()} - {"", self._here()}
            asked = [self._keeper(one).remove_all.remote() for one in machines & self._alive()]
            for reference in asked:
                with contextlib.suppress(Exception):
                    await answer_of(reference, KEEPER_TIMEOUT)
        for keeper in self._keepers.values():
            ray.kill(keeper)
        self._keepers.clear()
        index, self._kept.index = self._kept.index, None
        if index is not None:
            index.close()
        if self._temporary and place is not None:
            with contextlib.suppress(OSError, RedError):
                await asyncio.to_thread(shutil.rmtree, place.folder(), True)


def _portions(places: Mapping[int, Stored]) -> Iterable[dict[int, Stored]]:
    """States in portions that travel together."""
    portion: dict[int, Stored] = {}
    size = 0
    for row, stored in places.items():
        if portion and size + stored.size > PORTION:
            yield portion
            portion, size = {}, 0
        portion[row] = stored
        size += stored.size
    if portion:
        yield portion


def _unlink(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


@dataclass(frozen=True)
class NodeServices:
    """What starting, watching and ending nodes stands on, whatever they live in.

    Attributes:
        nodes: The nodes.
        engine: Hears of completions.
        tasks: Where builds are heard to their end and processes are ended.
        lifelines: Hears of the end of actors.
        pace: Measures the starts.
        states: Knows where the states of nodes lie.
    """

    nodes: NodeSet
    engine: Engine
    tasks: BackgroundTasks
    lifelines: Lifelines
    pace: StartPace
    states: StateStore
