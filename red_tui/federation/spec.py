"""What a federation is made of, before it exists."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from red_tui import checks
from red_tui.aggregation.server import FederatedAggregator, FederatedServer
from red_tui.checkpoints.sources import StartingPoint
from red_tui.federation.state import FailurePolicy
from red_tui.layout import Layout
from red_tui.messaging import TopologyRule
from red_tui.messaging.mailbox import USUAL, MailboxRule
from red_tui.node_states.kept_states import STATE_MEMORY
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.ids import SERVER_ID, ListedIds, PatternIds, Segment, check_id
from red_tui.nodes.states import Roles
from red_tui.nodes.table import distinct
from red_tui.nodes.template import FederatedNode
from red_tui.nodes.template_check import signature_trouble
from red_tui.placement.availability import WAIT_FOR_RESOURCES
from red_tui.rounds.hooks import RoundHook
from red_tui.rounds.sampling import RoundSettings


@dataclass(frozen=True)
class GroupSpec:
    """Client nodes that are declared together: one role for all, or one each."""

    ids: Segment
    role: str | Sequence[str]
    template: type[FederatedNode]
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlacementSpec:
    """Where nodes live.

    Attributes:
        isolation: `process`: an actor per node. `bundle`: a host actor per bundle that holds many nodes.
        nodes_per_bundle: With `bundle`: nodes that a host holds at most; None: no limit.
        concurrency: With `bundle`: nodes of a host that work at a time.
        split: `uniform`, `random` or `weighted`, where bundles are not listed.
        strategy: Ray's placement strategy.
        cpus: CPUs in all; None: what is free on the cluster, at most one a node.
        gpus: GPUs in all.
        resources: Custom resources, in all.
        bundles: Number of bundles for nodes, or the bundles themselves; None: one a node.
        weights: For the weighted split.
        seed: Of the random split.
        group: A placement group that exists already; everything above is then its maker's business.
        offset: Index of the coordinator's bundle in `group`.
        is_tune: Use the placement group of the Tune trial that this process runs in.
        wait_for_resources: Seconds that a build waits for resources that others hold or are giving back.
        state_memory: Bytes of what nodes keep between turns that stay in memory; beyond that it lies in files; 0: it
            always does; None: never.
    """

    isolation: str = "process"
    nodes_per_bundle: int | None = None
    concurrency: int = 1
    split: str = "uniform"
    strategy: str = "PACK"
    cpus: float | None = None
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    bundles: int | Sequence[Mapping[str, float]] | None = None
    weights: Sequence[float] | None = None
    seed: int | None = None
    group: Any = None
    offset: int = 0
    is_tune: bool = False
    wait_for_resources: float = WAIT_FOR_RESOURCES
    state_memory: int | None = STATE_MEMORY

    @property
    def sized(self) -> bool:
        """Whether the bundles are the same whatever is free on the cluster."""
        return self.cpus is not None or not (self.bundles is None or isinstance(self.bundles, int))


@dataclass(frozen=True)
class FederationSpec:
    """All that makes a federation."""

    config: FederationConfig
    groups: Sequence[GroupSpec]
    schema: str = "star"
    server_template: type[FederatedNode] = FederatedServer
    placement: PlacementSpec = field(default_factory=PlacementSpec)
    settings: RoundSettings = field(default_factory=RoundSettings)
    failure: FailurePolicy = field(default_factory=FailurePolicy)
    initial_parameters: Mapping[str, Any] | StartingPoint | None = None
    log: logging.Logger | None = None
    title: str = ""
    layout_path: str = ""
    layout: Layout | None = None
    """What it was read from; None: a script made it."""
    topology: TopologyRule | None = None
    """Who is whose neighbour; None: what the schema says."""
    aggregator_template: type[FederatedNode] = FederatedAggregator
    """Of the aggregators of a hierarchy."""
    mailbox: MailboxRule = USUAL
    """What happens where more messages come than a node reads."""
    evaluator: Any = None
    """What judges parameters on the server's node; None: nothing does."""
    hooks: Sequence[RoundHook] = ()
    """What hears of rounds and runs."""
    kept_rounds: Mapping[str, Any] = field(default_factory=dict)
    """Which rounds stay in the folder of a script, as the keys `checkpoints` or `keep` of a layout's rounds say it."""


def check_template(
    template: Any, what: str, roles: Collection[str] | None = None, isolation: str = ""
) -> type[FederatedNode]:
    """Return a template; `roles` and `isolation` are those of its nodes, as `signature_trouble` takes them.

    Raises:
        TypeError: If it is not a class that derives from `FederatedNode`, or a method of it cannot be called as it is.
    """
    if not (isinstance(template, type) and issubclass(template, FederatedNode)):
        hint = "; take @ray.remote off it (@red.remote says what its actors get)" if hasattr(template, "remote") else ""
        raise TypeError(
            f"{what} must be a class that derives from red_tui.FederatedNode, not {checks.shown(template)}{hint}"
        )
    trouble = signature_trouble(template, roles, isolation)
    if trouble:
        raise TypeError(f"{what}: {trouble}")
    return template


def check_role(role: str) -> Roles:
    """Return the roles of a client node.

    Raises:
        ValueError: If it cannot be one.
    """
    roles = Roles(checks.text(role, "role"))
    if AGGREGATOR_ROLE in roles:
        raise ValueError(
            f"the role {AGGREGATOR_ROLE} is that of a hierarchy's aggregators, which the federation makes itself"
            " (HierarchicalFederatedLearningSchema)"
        )
    return roles


def _listed(given: Any, what: str, of: str) -> list[str]:
    """Return a list of texts.

    Raises:
        ValueError: If it is none, naming the first entry that is no text.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise ValueError(f"{what} must be a list {of}, not {checks.shown(given)}")
    listed = list(given)
    if listed and type(listed[0]) is str and listed.count(listed[0]) == len(listed):
        return listed  # one look at all: a list may have the same entry for each of millions of nodes
    for place, one in enumerate(listed if set(map(type, listed)) - {str} else ()):
        if not isinstance(one, str):
            raise ValueError(f"{what} must be a list {of}: entry {place} is {checks.shown(one)}")
    return listed


def groups_of_roles(
    template: Any, roles: Sequence[str], ids: Sequence[str] | None, isolation: str = ""
) -> list[GroupSpec]:
    """The group of one template from a list of roles.

    Raises:
        TypeError: If the template is none, or cannot be called as nodes of these roles are.
        ValueError: If there are no roles, a role or an id cannot be one, an id stands twice, or
            `ids` and `roles` differ in number.
    """
    if isinstance(roles, str):
        raise ValueError(
            f"roles is a list with one entry a node, not the text {roles!r}: write [{roles!r}] * 8 for eight nodes"
        )
    roles = _listed(roles, "roles", 'with the role of each node, such as ["train"] * 8')
    if len(roles) == 0:
        raise ValueError("a federation has at least one node: roles is empty")
    if ids is not None:
        ids = _listed(ids, "ids", 'with the id of each node, such as ["paris", "lyon"]')
        if len(ids) != len(roles):
            raise ValueError(f"{len(ids)} ids and {len(roles)} roles: give one role for each id")
        for node_id in ids:
            check_id(node_id)
        if SERVER_ID in ids:
            raise ValueError(f"node id {SERVER_ID!r} is the server node's: choose another")
    segment: Segment = PatternIds("client_", "", 0, len(roles)) if ids is None else ListedIds(tuple(ids))
    different = distinct(roles)
    single = {part for role in different for part in check_role(role).parts}
    check_template(template, "client_template", single, isolation)
    return [GroupSpec(segment, roles[0] if len(different) == 1 else tuple(roles), template)]
