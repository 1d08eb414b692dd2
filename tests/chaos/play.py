"""Plays a schedule: a real federation, real rounds, real faults, and the account of it afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import ray
from ray.util import placement_group_table

import red_tui
from red_tui.errors import CommandRefused, NotConnected, RedError
from red_tui.journal.journal import Fold
from red_tui.nodes.states import NodeState
from red_tui.supervisor.launch import adopt
from tests.chaos import accounting
from tests.chaos.accounting import Account
from tests.chaos.actors import Stage
from tests.chaos.faults import FAULTS, Strike, alive
from tests.chaos.scene import Scene, eventually
from tests.chaos.schedules import Fault, Schedule, Step

Answer = TypeVar("Answer")

ATTEMPTS = 6
"""A round that fails is run again, so many times at most without any progress."""


class Play:
    """One schedule on the scene.

    Attributes:
        client: A client of the federation.
        stage: Where its actors get their cues.
        seen: When each round ended that this client has ever seen done, by number.
        struck: The faults that took place.
        raised: Nodes whose template raised: the policy rebuilds those that die, and leaves these to an operator.
    """

    def __init__(self, scene: Scene, schedule: Schedule, folder: Path) -> None:
        self.scene, self.schedule = scene, schedule
        self.federation = schedule.federation()
        self.folder = folder
        stage = folder / "stage"
        stage.mkdir(parents=True)
        self.stage = Stage(stage)
        self.seen: dict[int, float] = {}
        self.struck: list[Fault] = []
        self.raised: set[str] = set()
        self.supervisors: dict[int, float] = {}
        self.client = red_tui.launch(self.federation.write(folder / "layout.yaml", stage), scene.address)

    def _compare(self, account: Account) -> None:
        """Let a federation whom nothing befalls run the same rounds with the same participants."""
        again = dataclasses.replace(self.federation, fed_id=f"{self.federation.fed_id}-whole", deadline=240.0)
        stage = self.folder / "calm"
        stage.mkdir()
        client = red_tui.launch(again.write(self.folder / "calm.yaml", stage), self.scene.address)
        try:
            for one in self.journal().rounds:
                client.run_round(nodes=list(one["ids"]))
        finally:
            client.down()
        accounting.count_bytes(account, self.scene.home, self.federation, again)

    # -- the course of it --------------------------------------------------------------------------

    def perform(self) -> Account:
        """All of it: the faults, the rest of the rounds, the account, the end, and what is left after it."""
        account = Account()
        try:
            self.settle()
            for step in self.schedule.steps:
                self.run_to(step.round - 1)
                self._step(step)
                if step.patient:
                    self.settle()
            self.run_to(self.federation.rounds)
            self.settle()
            self._settle_accounts(account)
        finally:
            self.end()
        self._look_for_leaks(account)
        if self.schedule.compared:
            self._compare(account)
        return account

    def run_to(self, number: int) -> None:
        """Run until round `number` is done, as an operator does: what stopped is started again."""
        stuck, before = 0, self.completed
        while (done := self.completed) < number:
            stuck = 0 if done > before else stuck + 1
            assert stuck < ATTEMPTS, f"round {done + 1} was tried {stuck} times: {self.last_words()}"
            before = done
            if stuck > 1:
                self.settle()
            self.start(number - done)
            self.wait_idle()

    def start(self, rounds: int) -> None:
        """Start a run, unless one goes on already."""
        try:
            self.ask(lambda client: client.start_run(rounds))
        except CommandRefused as error:
            if "already" not in error.message:
                raise

    def _step(self, step: Step) -> None:
        """Do a step; if its actors were lost before their moment came, once more when all are there."""
        if self._try_step(step):
            return
        self.wait_idle()
        self.settle()
        late = dataclasses.replace(step, round=max(step.round, self.completed + 1))
        assert self._try_step(late), f"nobody comes to {late}\n{self.last_words()}"

    def _try_step(self, step: Step) -> bool:
        strikes = self._cast(step)
        if not strikes:
            return False
        with contextlib.ExitStack() as after_the_round:
            for who, act in {strike.actor: strike.act for strike in strikes}.items():
                self.stage.cue(who, step.moment, act)
            self.start(step.round - self.completed)
            if not self._all_come(strikes, step):
                for strike in strikes:
                    self.stage.go(strike.actor, step.moment)
                return False
            with contextlib.ExitStack() as at_once:
                for strike in strikes:
                    mends = at_once if strike.how.brief and len(strikes) > 1 else after_the_round
                    if (mend := strike.how.hit(self, strike)) is not None:
                        mends.callback(mend)
                    self.struck.append(strike.fault)
                    if strike.how.raises:
                        self.raised.add(strike.actor)
                for strike in strikes:
                    if strike.how.lets_go:
                        self.stage.go(strike.actor, step.moment)
                    else:
                        after_the_round.callback(self.stage.go, strike.actor, step.moment)
            self.wait_idle()
            for strike in strikes:
                confirmed = functools.partial(strike.how.confirm, self, strike)
                eventually(confirmed, f"{strike.fault.kind} ({strike.actor} in {step}) has taken place")
        return True

    def _all_come(self, strikes: list[Strike], step: Step) -> bool:
        """Wait until all actors are at their moment; False if the round went without one of them."""

        def come() -> bool:
            for strike in strikes:
                strike.pid = self.stage.heard(strike.actor, step.moment) or 0
            return all(strike.pid for strike in strikes)

        eventually(lambda: come() or not self._running(), lambda: f"all come to {step}\n{self.last_words()}")
        return come()

    def _cast(self, step: Step) -> list[Strike]:
        """Who plays what: an actor for each fault that needs one of its own, in hosts of their own."""
        ready = self._ready()
        if step.moment == "evaluate":
            ready = {node: bundle for node, bundle in ready.items() if node.startswith("judge")}
        strikes: list[Strike] = []
        for fault in step.faults:
            how = FAULTS[fault.kind]
            if step.moment in ("aggregate", "aggregated"):
                strikes.append(Strike(fault, how, step, "server", how.act))
            elif not how.takes_node and strikes:
                strikes.append(Strike(fault, how, step, strikes[0].actor, strikes[0].act))
            elif free := self._free(ready, strikes):
                strikes.append(Strike(fault, how, step, free[fault.victim % len(free)], how.act))
        # What befalls all comes before what ends the one who waits.
        return sorted(strikes, key=lambda strike: strike.how.takes_node)

    def _free(self, ready: dict[str, int], strikes: list[Strike]) -> list[str]:
        taken = {strike.actor for strike in strikes}
        busy = {ready[node] for node in taken} if self.federation.isolation == "bundle" else set()
        return [node for node, bundle in ready.items() if node not in taken and bundle not in busy]

    def _ready(self) -> dict[str, int]:
        """Bundle of each node that is ready, by id."""
        table = self.ask(lambda client: client.table())
        states, bundles = table.column("state"), table.column("bundle")
        found = {}
        for node in self.federation.ids:
            row = table.row_of(node)
            if row is not None and states[row] == NodeState.READY.code:
                found[node] = int(bundles[row])
        return found

    # -- speaking with it ----------------------------------------------------------------------------

    def ask(self, question: Callable[[Any], Answer]) -> Answer:
        """Ask the federation, for as long as its supervisor needs to come back."""
        answers: list[Answer] = []

        def asked() -> bool:
            try:
                answers.append(question(self.client))
            except NotConnected:
                with contextlib.suppress(RedError):
                    self.client = red_tui.attach(self.federation.fed_id, connected=True)  # type: ignore[call-arg]
                return False
            return True

        eventually(asked, "the supervisor answers")
        return answers[0]

    def supervisor(self) -> int:
        """Process of the supervisor."""
        pid = int(self.ask(lambda client: client.status())["pid"])
        if pid not in self.supervisors:
            self.supervisors[pid] = psutil.Process(pid).create_time()
        return pid

    def adopt(self) -> None:
        """Give the orphaned federation a new supervisor."""
        self.client = adopt(self.federation.fed_id, connected=True)

    @property
    def completed(self) -> int:
        """Rounds that are done; each is noted as seen."""
        rounds = self.ask(lambda client: client.snapshot()).get("rounds", [])
        done = [one for one in rounds if one["state"] == "done"]
        for one in done:
            self.seen.setdefault(int(one["number"]), float(one["ended"]))
        return max((int(one["number"]) for one in done), default=0)

    def wait_idle(self) -> None:
        """Wait until no round runs."""
        eventually(lambda: not self._running(), "the run ends", 240.0)

    def _running(self) -> bool:
        return bool(self.ask(lambda client: client.status())["running"])

    def settle(self) -> None:
        """Wait until all nodes are ready; those that only raised are rebuilt by the operator."""

        def settled() -> bool:
            update = self.ask(lambda client: client.snapshot())
            ready = self._ready()
            missing = [node for node in self.federation.ids if node not in ready]
            if missing and not update["round"]["target"]:
                self._mend(missing)
            return not missing

        eventually(settled, lambda: f"all nodes are ready\n{self.last_words()}")

    def _mend(self, missing: list[str]) -> None:
        """What an operator does about nodes that nobody else brings back."""
        told = {node: self.ask(lambda client, node=node: client.node(node)) for node in missing}
        virtual = [node for node, detail in told.items() if detail["state"] == "virtual"]
        raised = [node for node, detail in told.items() if detail["state"] == "failed" and node in self.raised]
        with contextlib.suppress(CommandRefused):
            if virtual:
                self.ask(lambda client: client.build(virtual))
            if raised:
                self.ask(lambda client: client.rebuild(raised))
                self.raised.difference_update(raised)

    def journal(self) -> Fold:
        """What the journal adds up to now."""
        return accounting.journal_of(self.scene.home, self.federation.fed_id)

    def last_words(self) -> str:
        """Who is not ready and why, and the last events, for a message."""
        missing = [node for node in self.federation.ids if node not in self._ready()]
        whys = [f"{node}: {self.ask(lambda client, node=node: client.explain(node))}" for node in missing[:6]]
        events = self.ask(lambda client: client.events(limit=12))
        return "\n".join([str(self.schedule), *whys, *(" ".join(event.to_wire()[2:6]) for event in events)])

    # -- afterwards ----------------------------------------------------------------------------------

    def _settle_accounts(self, account: Account) -> None:
        completed, parameters = self.completed, self.ask(lambda client: client.parameters())
        folded = self.journal()
        accounting.count_rounds(account, folded, self.seen, self.federation.rounds)
        accounting.count_results(account, self.federation, folded, self.stage.fits(), parameters)
        accounting.count_checkpoints(account, self.scene.home, self.federation, completed, parameters)
        accounting.count_nodes(account, folded, dict.fromkeys(self._ready(), "ready"))
        note = self.ask(lambda client: client.snapshot()).get("note")
        if note:
            account.wrong.append(f"the warning stays though its reason is gone: {note}")
        if len(self.struck) == 0:
            account.wrong.append("no fault took place")

    def end(self) -> None:
        """End the federation."""
        for actor in (*self.federation.ids, "server"):
            for moment in ("fit", "evaluate", "aggregate", "aggregated"):
                if self.stage.heard(actor, moment) is not None:
                    self.stage.go(actor, moment)
        self.ask(lambda client: client.down())

    def _look_for_leaks(self, account: Account) -> None:
        """Nothing of the federation is left: no actor, no placement group, no process, no reserved CPU."""
        what = ""

        def clean() -> bool:
            nonlocal what
            what = "; ".join(self._left())
            return not what

        try:
            eventually(clean, "nothing is left")
        except AssertionError:
            account.leaked.append(what)

    def _left(self) -> Iterator[str]:
        mine = f"{self.federation.fed_id}/"
        for entry in ray._private.state.actors().values():
            if entry["State"] != "DEAD" and str(entry["Name"]).startswith(mine):
                yield f"actor {entry['Name']} is {entry['State']}"
        for entry in placement_group_table().values():
            if str(entry["name"]).startswith(mine) and entry["state"] != "REMOVED":
                yield f"placement group {entry['name']} is {entry['state']}"
        for pid, born in {**self.stage.pids(), **self.supervisors}.items():
            if alive(pid, born):
                yield f"process {pid} lives"
        total, free = ray.cluster_resources().get("CPU", 0.0), ray.available_resources().get("CPU", 0.0)
        if abs(total - free) > 1e-3:
            yield f"{free:g} of {total:g} CPUs are free"
