"""The pool that a federation's placement asks for: how large it is, and how it waits for room."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from red_tui.errors import PlacementError
from red_tui.federation.spec import PlacementSpec
from red_tui.nodes.config import FederationConfig
from red_tui.placement.availability import Availability, look, script_group_name, wait_for
from red_tui.placement.feasibility import check_feasible, packs
from red_tui.placement.groups import create_groups, ensure_ray
from red_tui.placement.pool import Pool
from red_tui.placement.shares import COORDINATOR_FRACTION, UNIT, Bundle, amounts_text, split_bundles, total_of

MAX_LENGTH = 63
"""Characters of an id at most."""


def trial_group() -> Any:
    """The placement group that this process runs in.

    Raises:
        PlacementError: If it runs in none.
    """
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    if group is None:
        raise PlacementError(
            "is_tune: this process runs in no placement group; give the trial its resources with"
            " tune.with_resources(trainable, red.get_resources_split(..., is_tune=True))",
            asked=None,
            available=None,
        )
    return group


def config_of_trial(config: FederationConfig) -> FederationConfig:
    """The config with the trial's id at the end of the federation's: trials run at a time, and ids name actors.

    Outside of a trial, or where the trial's id stands in it already, the config as it is.
    """
    trial_id = _trial_id()
    if not trial_id or trial_id in config.federation_id:
        return config
    kept = config.federation_id[: MAX_LENGTH - len(trial_id) - 1]
    return config.updated(federation_id=f"{kept}-{trial_id}")


def _trial_id() -> str:
    """Id of the trial that this process runs; empty if it runs none."""
    try:
        from ray.tune import get_context
    except ImportError:
        return ""
    with warnings.catch_warnings():
        # Outside of a trial it warns, and there is none.
        warnings.simplefilter("ignore")
        return str(get_context().get_trial_id() or "")


SHRINK = 0.97
DEFAULT_BUNDLES = 256
"""Bundles in a pool that nobody sized, at most: each is a process when it is built."""

SMALLEST_POOL = 10 * UNIT
"""CPUs below which a pool that takes what is free is not made."""


def make_pool(maker: PoolMaker) -> Pool:
    """A pool as planned; its bundles are reserved when the first node is built.

    Raises:
        PlacementError: If the resources cannot be split so, or a given group has too few bundles.
    """
    spec, num_clients = maker.spec, maker.num_clients
    if spec.is_tune:
        return _given(spec.group or trial_group(), spec.offset, num_clients, in_trial=True)
    if spec.group is not None:
        return _given(spec.group, spec.offset, num_clients)
    ensure_ray()
    return maker.make(look())


def _given(group: Any, offset: int, num_clients: int, *, in_trial: bool = False) -> Pool:
    specs = [dict(bundle) for bundle in group.bundle_specs]
    if offset < 0 or offset + 2 > len(specs):
        raise PlacementError(
            f"a federation needs a coordinator's bundle and at least one more from bundle_offset {offset} on; the"
            f" placement group has {len(specs)} bundles",
            asked=offset + 2,
            available=len(specs),
        )
    if in_trial and offset == 0:
        # Tune's trainable has all of bundle 0: the server and the directory run beside it and ask nothing.
        specs[0] = {}
    return Pool(specs[offset : offset + num_clients + 1], offset=offset, groups=[group])


class PoolMaker:
    """Sizes the pool of a federation, waits for room for it and reserves it.

    A pool that names its CPUs has the same bundles always.  One that does not takes what is free, where what is being
    given back counts as free: the same federation made twice in a row has the same bundles.

    Args:
        spec: What is asked.
        num_clients: Number of client nodes.
        fed_id: Id of the federation.
        detached: Whether its placement groups outlive this process.
        layout: Whether a layout describes the federation: messages then name its keys.
        tell: Hears of a wait when it begins.
    """

    def __init__(
        self,
        spec: PlacementSpec,
        num_clients: int,
        fed_id: str,
        detached: bool,
        layout: bool,
        tell: Callable[[str], Any],
    ) -> None:
        self.spec = spec
        self.num_clients = num_clients
        self._fed_id = fed_id
        self._detached = detached
        self._layout = layout
        self._tell = tell
        self._ended = threading.Event()

    def make(self, now: Availability) -> Pool:
        """The pool as it is planned; `provisional` if no CPU is free now, and it is sized when one is."""
        provisional = not self._has_cpus(now)
        free = [dict(host.resources) for host in now.hosts] if provisional else now.free_soon()
        return Pool(
            self._bundles(free),
            self.spec.strategy,
            reserve=self.reserve,
            measure=self.measure if provisional else None,
            ended=self._ended,
        )

    def existing(self, groups: Sequence[Any]) -> Pool:
        """The pool whose placement groups are reserved already, by an earlier supervisor of the federation."""
        specs = [dict(spec) for group in groups for spec in group.bundle_specs]
        return Pool(specs, self.spec.strategy, groups=groups, owned=True, reserve=self.reserve, ended=self._ended)

    def _has_cpus(self, now: Availability) -> bool:
        return self.spec.sized or _cpus(now.free_soon()) >= SMALLEST_POOL

    def measure(self) -> list[Bundle]:
        """Wait until any CPU is free; gives the bundles that the pool then has.  Blocks.

        Raises:
            PlacementError: If none is within the federation's `wait_for_resources`.
        """
        now, waited = self._wait(self._has_cpus, lambda now: {"CPU": UNIT})
        if not self._has_cpus(now):
            raise self._no_cpu(now, waited)
        return self._bundles(now.free_soon())

    def reserve(self, bundles: Sequence[Bundle], strategy: str) -> list[Any]:
        """Wait until there is room for the bundles, and reserve them.  Blocks.

        Raises:
            PlacementError: If they never fit, or there is no room within the federation's `wait_for_resources`.
        """
        asked = total_of(bundles)
        check_feasible(bundles, strategy, look().hosts)
        now, waited = self._wait(lambda now: now.has_room(bundles), lambda now: now.lacking(asked))
        if now.lacking(asked):
            raise self._no_room(now, bundles, waited)
        name = f"{self._fed_id}/pool" if self._detached else script_group_name(self._fed_id)
        return create_groups(bundles, strategy, name=name, detached=self._detached)

    def _wait(
        self, fits: Callable[[Availability], bool], lacking: Callable[[Availability], Mapping[str, float]]
    ) -> tuple[Availability, float]:
        """Wait until something fits, if that can be of use; gives the account then, and the seconds if in vain."""
        now, wait = look(), self.spec.wait_for_resources
        if fits(now) or now.is_held_here(lacking(now)):
            return now, 0.0
        names = set(lacking(now))
        if names and not any(name in bundle for bundle in now.returning.values() for name in names):
            held = now.held(names)
            self._tell(f"waits for {', '.join(sorted(names))}, {wait:g} s at most" + (f": {held}" if held else ""))
        came = wait_for(lambda now: fits(now) or now.is_held_here(lacking(now)), wait, self._ended)
        return look(), 0.0 if came else wait

    def _no_room(self, now: Availability, bundles: Sequence[Bundle], waited: float) -> PlacementError:
        asked = total_of(bundles)
        return PlacementError(
            f"no room for {len(bundles)} bundles ({amounts_text(asked)}){_within(waited)}:"
            f" {now.why_no_room(bundles)}; {self._help(now, now.lacking(asked))}",
            asked=asked,
            available={name: now.total_free.get(name, 0.0) for name in asked},
        )

    def _no_cpu(self, now: Availability, waited: float) -> PlacementError:
        held = now.held({"CPU"})
        whose = f": {held}" if held else ""
        return PlacementError(
            f"no CPU of the cluster is free{_within(waited)} (of {now.total.get('CPU', 0.0):g} in all{whose});"
            f" {self._help(now, {'CPU': 1.0})}",
            asked={"CPU": "what is free"},
            available={"CPU": now.total_free.get("CPU", 0.0)},
        )

    def _help(self, now: Availability, names: Mapping[str, float]) -> str:
        """What to do, in the terms of a layout or of a script."""
        longer = 60 if self.spec.wait_for_resources < 60 else round(10 * self.spec.wait_for_resources)
        if now.is_held_here(names):
            return ", or ".join(now.remedies(set(names)))
        if self._layout:
            ways = [f"wait longer with `placement: {{wait_for_resources: {longer}}}`"]
            if not self.spec.sized:
                ways.append("name the CPUs to wait for with `placement: {cpus: 2}`")
        else:
            ways = [f"wait longer with wait_for_resources={longer}"]
            if not self.spec.sized:
                split = f"red.get_resources_split({self.num_clients}, num_cpus=2, timeout={longer})"
                ways.append(f"name the CPUs to wait for with resources={split}")
        return ", or ".join([*now.remedies(set(names)), *ways])

    def _bundles(self, free: Sequence[Mapping[str, float]]) -> list[Bundle]:
        spec = self.spec
        if spec.bundles is not None and not isinstance(spec.bundles, int):
            listed = [{name: amount for name, amount in bundle.items() if amount > 0} for bundle in spec.bundles]
            smallest = min((bundle.get("CPU", 1.0) for bundle in listed), default=1.0)
            return [{"CPU": max(UNIT, round(smallest * COORDINATOR_FRACTION, 4))}, *listed]
        count = spec.bundles if spec.bundles is not None else self._count(free)

        def split(cpus: float) -> list[Bundle]:
            return split_bundles(
                count, cpus, spec.gpus, spec.split, seed=spec.seed, weights=spec.weights, resources=spec.resources
            )

        if spec.cpus is not None:
            return split(spec.cpus)
        cpus = min(_cpus(free), float(count) + COORDINATOR_FRACTION)
        # What is free in all may lie on several hosts so that no equal parts of it fit: take less until they do.
        while not packs(split(cpus), free) and cpus > 2 * UNIT * (count + 1):
            cpus *= SHRINK
        return split(cpus)

    def _count(self, free: Sequence[Mapping[str, float]]) -> int:
        """How many bundles a pool gets that nobody sized: one a node, or one a CPU where nodes share hosts."""
        spec = self.spec
        if spec.isolation != "bundle":
            return min(self.num_clients, DEFAULT_BUNDLES)
        cpus = spec.cpus if spec.cpus is not None else _cpus(free)
        return max(1, min(self.num_clients, DEFAULT_BUNDLES, int(cpus)))


def _cpus(hosts: Sequence[Mapping[str, float]]) -> float:
    return sum(host.get("CPU", 0.0) for host in hosts)


def _within(waited: float) -> str:
    return f" within {waited:g} s" if waited else ""
