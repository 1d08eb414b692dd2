"""How resources are shared out over bundles: pure arithmetic, no Ray.

Ray counts fractions of resources in units of 0.0001, and refuses a bundle that asks 0 of everything
or an actor that asks a fraction of a GPU above one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui import checks
from red_tui.errors import PlacementError

UNIT = 0.0001
COORDINATOR_FRACTION = 0.1
"""Of the CPUs asked for, at most one: what bundle 0, the coordinator's, gets."""

Bundle = dict[str, float]


def shares(
    total: float, count: int, split: str, *, seed: int | None = None, weights: Sequence[float] | None = None
) -> list[float]:
    """Share `total` out over `count` nodes, in multiples of `UNIT`.

    The sum never exceeds `total` and each share is above 0.

    Args:
        total: Amount of one resource.
        count: Number of nodes.
        split: `uniform`, `random` (seeded: between a half and one and a half of the uniform share
            before they are scaled) or `weighted`.
        seed: Of the random split.
        weights: One positive number per node, for `weighted`.

    Raises:
        PlacementError: If `total` is too small to give every node `UNIT`, or the arguments make no split.
    """
    if count < 1:
        raise PlacementError(f"resources are split over at least one node, not {count}", asked=count, available=None)
    parts = np.asarray(_proportions(count, split, seed, weights), dtype=float)
    units_total = math.floor(round(total / UNIT, 6))
    if units_total < count:
        raise PlacementError(
            f"{total:g} cannot be split over {count} nodes: each needs at least {UNIT}, so at least {count * UNIT:g}",
            asked={"nodes": count, "each": UNIT},
            available=total,
        )
    spare = units_total - count
    units = 1 + np.floor(spare * parts / parts.sum() + 1e-9).astype(int)
    overrun = int(units.sum()) - units_total
    if overrun > 0:
        units[int(units.argmax())] -= overrun
    return [round(int(unit) * UNIT, 4) for unit in units]


def _proportions(count: int, split: str, seed: int | None, weights: Sequence[float] | None) -> Sequence[float]:
    if split == "uniform":
        return [1.0] * count
    if split == "random":
        return [float(part) for part in np.random.default_rng(seed).uniform(0.5, 1.5, size=count)]
    if split == "weighted":
        if weights is None or len(weights) != count or not all(math.isfinite(w) and w > 0 for w in weights):
            raise PlacementError(
                f"the weighted split needs {count} positive weights, one per node", asked=weights, available=None
            )
        return weights
    raise PlacementError(f"{split!r} is no split: use uniform, random or weighted", asked=split, available=None)


def usable_gpus(share: float) -> float:
    """A share of GPUs that Ray grants to one actor: whole above one."""
    return float(math.floor(share + 1e-9)) if share > 1 else share


def split_bundles(
    count: int,
    cpus: float,
    gpus: float = 0.0,
    split: str = "uniform",
    *,
    seed: int | None = None,
    weights: Sequence[float] | None = None,
    resources: Mapping[str, float] | None = None,
) -> list[Bundle]:
    """Bundle 0 for the coordinator and one bundle for each of `count` nodes.

    The coordinator's share comes out of the same CPUs, so that all bundles together never ask more
    than was given; GPUs and custom resources go to nodes only.

    Raises:
        PlacementError: If there is too little to share out.
    """
    if not (math.isfinite(cpus) and cpus > 0):
        raise PlacementError(f"num_cpus must be above 0, not {cpus:g}", asked=cpus, available=None)
    if not (math.isfinite(gpus) and gpus >= 0):
        raise PlacementError(f"num_gpus must not be negative: {gpus:g}", asked=gpus, available=None)
    coordinator = max(UNIT, math.floor(min(1.0, cpus * COORDINATOR_FRACTION, cpus / (count + 1)) / UNIT) * UNIT)
    coordinator = round(coordinator, 4)
    bundles: list[Bundle] = [{"CPU": coordinator}]
    cpu_shares = shares(cpus - coordinator, count, split, seed=seed, weights=weights)
    gpu_shares = shares(gpus, count, split, seed=seed, weights=weights) if gpus > 0 else [0.0] * count
    for cpu, gpu in zip(cpu_shares, gpu_shares, strict=True):
        bundle: Bundle = {"CPU": cpu}
        if gpu > 0:
            bundle["GPU"] = usable_gpus(gpu)
        bundles.append(bundle)
    for name, amount in (resources or {}).items():
        for bundle, share in zip(bundles[1:], shares(amount, count, split, seed=seed, weights=weights), strict=True):
            bundle[name] = share
    return bundles


def total_of(bundles: Sequence[Mapping[str, float]]) -> Bundle:
    """Sum of bundles, by resource."""
    total: Bundle = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = round(total.get(name, 0.0) + amount, 4)
    return total


def amounts_text(bundle: Mapping[str, float]) -> str:
    """Resources as text: `CPU 0.45, GPU 1`."""
    return ", ".join(f"{name} {amount:g}" for name, amount in bundle.items()) or "nothing"


SPLITS = ("uniform", "random", "weighted")
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def refusal(text: str) -> PlacementError:
    """The error of an argument that cannot be."""
    return PlacementError(text, asked=None, available=None)


def check_split(
    num_nodes: Any,
    num_cpus: Any,
    num_gpus: Any,
    split_strategy: Any,
    placement_strategy: Any,
    seed: Any,
    is_tune: Any,
    weights: Sequence[float] | None,
    resources: Mapping[str, float] | None,
    timeout: Any,
) -> None:
    """Check the arguments of `get_resources_split`.

    Raises:
        PlacementError: If one cannot be, or two contradict each other.
    """
    checks.whole(num_nodes, "num_nodes", least=1, refusal=refusal)
    checks.number(num_cpus, "num_cpus", above=0, none="all of the cluster", refusal=refusal)
    checks.number(num_gpus, "num_gpus", least=0, refusal=refusal)
    checks.one_of(split_strategy, "split_strategy", SPLITS, refusal=refusal)
    checks.one_of(placement_strategy, "placement_strategy", STRATEGIES, refusal=refusal)
    checks.whole(seed, "seed", least=0, none="a new split each time", refusal=refusal)
    checks.flag(is_tune, "is_tune", refusal=refusal)
    checks.number(timeout, "timeout", above=0, unit="seconds", refusal=refusal)
    _check_weights(weights, split_strategy, num_nodes)
    for name, amount in checks.mapping(resources or {}, "resources", '{"disk": 4}', refusal=refusal).items():
        if name in ("CPU", "GPU"):
            raise refusal(f"resources: {name} is said by num_{name.lower()}s: leave it out here")
        checks.number(amount, f"resources: {name}", above=0, refusal=refusal)


def _check_weights(weights: Any, split: str, num_nodes: int) -> None:
    if weights is None and split != "weighted":
        return
    if split != "weighted":
        raise refusal(f"weights are for split_strategy='weighted', and it is {split!r}: leave one of the two out")
    wrong = isinstance(weights, (str, bytes, Mapping)) or not hasattr(weights, "__len__")
    if wrong or len(weights) != num_nodes:
        needs = f"the weighted split needs {num_nodes} positive weights, one per node"
        raise refusal(f"{needs}, not {checks.shown(weights)}")
    for place, weight in enumerate(weights):
        checks.number(weight, f"weights[{place}]", above=0, refusal=refusal)
