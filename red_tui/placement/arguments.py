"""What a split of resources is given: checked before anything is reserved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_tui import checks
from red_tui.errors import PlacementError

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
