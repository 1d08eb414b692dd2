"""A layout as the parts of a federation."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from red_tui.aggregation.evaluator import check_evaluator
from red_tui.aggregation.server import FederatedAggregator, FederatedServer
from red_tui.aggregation.strategies import OwnStrategy, Strategy, choice_of
from red_tui.checkpoints.sources import StartingPoint, find_checkpoint
from red_tui.checks import shown, size
from red_tui.errors import CommandRefused, LayoutError, RedError, TopologyError
from red_tui.federation.argument_checks import check_server
from red_tui.federation.base import FederatedBase
from red_tui.federation.spec import FederationSpec, GroupSpec, PlacementSpec
from red_tui.federation.state import FailurePolicy
from red_tui.layout import Layout, load_object, load_template, refuse_contradictions
from red_tui.layout.loader import contradiction
from red_tui.layout.models import Bundle
from red_tui.messaging import RULES, Topology, TopologyRule
from red_tui.messaging.mailbox import MailboxRule
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.states import Roles
from red_tui.nodes.template import FederatedNode
from red_tui.rounds.hooks import RoundHook, check_hook
from red_tui.rounds.sampling import RoundSettings


def spec_of(
    layout: Layout, path: str = "", working_dir: Path | None = None, *, recorded: bool = False
) -> tuple[type[FederatedBase], FederationSpec]:
    """The schema class and the parts that a layout describes; imports its templates.

    Args:
        layout: The layout.
        path: What messages call it.
        working_dir: Folder of its modules.
        recorded: Whether a federation was made from it before: what it says twice is then read as it was.

    Raises:
        LayoutError: If a template, the server or the schema cannot be imported, or is not one, or if the layout
            contradicts itself.
    """
    if not recorded:
        refuse_contradictions(layout, path)

    def imported(
        spec: str, field: str, base: type = FederatedNode, roles: Collection[str] | None = None, isolation: str = ""
    ) -> Any:
        position = layout.position(field)
        return load_template(
            spec, working_dir, path, field=field, base=base, position=position, roles=roles, isolation=isolation
        )

    isolation = layout.placement.isolation
    common = {part for group in layout.nodes if not group.template for part in Roles(group.role).parts}
    template = imported(layout.template, "template", roles=common, isolation=isolation)
    schema = schema_class(layout, path, working_dir)
    groups = []
    for rows, group in zip(layout.node_groups(), layout.nodes, strict=True):
        own, field = template, f"nodes[{rows.group}].template"
        if group.template:
            own = imported(group.template, field, roles=Roles(group.role).parts, isolation=isolation)
        groups.append(GroupSpec(rows.segment, rows.role, own, rows.config))
    evaluator, hooks = _called(layout, path, working_dir)
    placement = layout.placement
    bundles: Any = placement.bundles
    if isinstance(bundles, list):
        bundles = list(itertools.chain.from_iterable([_resources(bundle)] * bundle.count for bundle in bundles))
    rounds = layout.rounds
    strategy: dict[str, Any] = {"name": rounds.strategy.name, **rounds.strategy.options}
    if rounds.strategy.is_own:
        strategy = OwnStrategy(strategy, imported(rounds.strategy.name, "rounds.strategy.name", Strategy))
        try:
            choice_of(strategy)
        except ValueError as error:
            raise contradiction(layout, path, "rounds.strategy", str(error)) from None
    spec = FederationSpec(
        config=FederationConfig(**{**layout.common_config(), "federation_id": layout.federation}),
        groups=groups,
        schema=schema.schema,
        server_template=(
            imported(layout.server, "server", FederatedServer, ("server",), "process")
            if layout.server
            else FederatedServer
        ),
        placement=PlacementSpec(
            isolation=placement.isolation,
            nodes_per_bundle=placement.nodes_per_bundle,
            concurrency=placement.concurrency,
            split=placement.split,
            strategy=placement.strategy,
            cpus=placement.cpus,
            gpus=placement.gpus,
            resources=placement.resources,
            bundles=bundles,
            weights=placement.weights,
            seed=placement.seed,
            wait_for_resources=placement.wait_for_resources,
            state_memory=size(placement.state_memory, "state_memory", none="no limit"),
        ),
        settings=RoundSettings(
            strategy=strategy,
            fraction=rounds.fraction,
            deadline=rounds.deadline,
            min_results=rounds.min_results,
            seed=rounds.seed,
            evaluate_every=rounds.evaluate_every,
            exact=rounds.exact,
            node_history=rounds.node_history,
        ),
        failure=FailurePolicy(layout.failure.policy, layout.failure.max_rebuilds, layout.failure.backoff),
        title=layout.title,
        layout_path=path,
        layout=layout,
        topology=_topology(layout, path, schema),
        initial_parameters=(
            StartingPoint(layout.start_from, Path(path).absolute().parent) if layout.start_from else None
        ),
        mailbox=MailboxRule(layout.mailbox.capacity, layout.mailbox.policy, layout.mailbox.timeout),
        aggregator_template=(
            imported(layout.aggregator, "aggregator", FederatedAggregator, (AGGREGATOR_ROLE,))
            if layout.aggregator
            else FederatedAggregator
        ),
        evaluator=evaluator,
        hooks=hooks,
    )
    if not recorded:
        try:
            check_server(spec.server_template, spec.settings.choice["name"])
        except ValueError as error:
            raise contradiction(layout, path, "rounds.strategy", str(error)) from None
    return schema, spec


def _called(layout: Layout, path: str, working_dir: Path | None) -> tuple[str | None, tuple[RoundHook, ...]]:
    """What a layout has called beside its nodes: the evaluator, by its name, and the hooks.

    Raises:
        LayoutError: If one cannot be imported, or is none.
    """

    def refused(field: str, error: Exception) -> LayoutError:
        return contradiction(layout, path, field, str(error))

    spec = layout.rounds.evaluator
    if spec is not None:
        field = "rounds.evaluator"
        try:
            check_evaluator(load_object(spec, working_dir, path, field=field, position=layout.position(field)))
        except TypeError as error:
            raise refused(field, error) from None
    hooks = []
    for index, hook in enumerate(layout.hooks):
        field = f"hooks[{index}]"
        kind = load_template(hook, working_dir, path, field=field, base=RoundHook, position=layout.position(field))
        try:
            hooks.append(check_hook(kind, hook))
        except TypeError as error:
            raise refused(field, error) from None
    return spec, tuple(hooks)


def check_topology(layout: Layout, path: str) -> None:
    """Raise LayoutError if a layout's nodes cannot keep the topology of its schema; one's own schemas are left out."""
    pass

    if ":" not in layout.schema_name:
        _topology(layout, path, SCHEMAS[layout.schema_name])


def _topology(layout: Layout, path: str, schema: type[FederatedBase]) -> TopologyRule | None:
    """The rule of a layout's schema, with what the layout says of it; None for the star and for other shapes.

    Raises:
        LayoutError: If its nodes cannot keep it.
    """
    name = schema.schema
    if name == "star" or name not in RULES:
        return None
    seed, told = layout.rounds.seed, layout.topology
    try:
        rule = TopologyRule(name, k=told.k, seed=seed, adjacency=told.adjacency, levels=told.levels, groups=told.groups)
        ids = [node_id for group in layout.node_groups() for node_id in group.segment]
        inner = rule.hierarchy.aggregators if rule.hierarchy is not None else []
        rule.check_names([*(one for one in ids if one not in inner), *inner])
        Topology(rule, [*ids, *inner])
    except TopologyError as error:
        line, column = layout.position("topology") or layout.position("schema") or (None, None)
        where = f"{path}:{line}:{column}: " if line else ""
        raise LayoutError(
            f"{where}topology: {error.message}", file=path, line=line, column=column, field="topology", allowed=None
        ) from error
    return rule


def schema_class(layout: Layout, path: str, working_dir: Path | None) -> type[FederatedBase]:
    """The class that a layout's `schema` names."""
    pass

    if ":" not in layout.schema_name:
        return SCHEMAS[layout.schema_name]
    return load_template(
        layout.schema_name, working_dir, path, field="schema", base=FederatedBase, position=layout.position("schema")
    )


def _resources(bundle: Bundle) -> dict[str, float]:
    amounts = {"CPU": bundle.cpu, "GPU": bundle.gpu, **bundle.resources}
    return {name: amount for name, amount in amounts.items() if amount > 0}


def folder_of(given: Any) -> Path:
    """The folder that was given for a layout's modules.

    Raises:
        CommandRefused: If it is none.
    """
    if not isinstance(given, (str, Path)):
        raise CommandRefused(f"working_dir must be the path of a folder, not {shown(given)}")
    chosen = Path(given).expanduser().resolve()
    if not chosen.is_dir():
        raise CommandRefused(f"working_dir {str(given)!r} is no folder: name the one that holds the layout's modules")
    return chosen


def working_dir_of(path: Path, given: str | None) -> Path | None:
    """The folder whose modules travel with a layout: the one given, else the layout's if it holds Python files."""
    if given:
        return folder_of(given)
    folder = path.resolve().parent
    has_modules = any(folder.glob("*.py")) or any(folder.glob("*/__init__.py"))
    return folder if has_modules else None


class StarFederatedLearningSchema(FederatedBase):
    """A server in the middle that aggregates, and clients that speak with it only."""

    schema = "star"


class RingFederatedLearningSchema(FederatedBase):
    """Each node has two neighbours; a round is local `fit` and then gossip between neighbours."""

    schema = "ring"
    _rule = TopologyRule("ring")


class MeshFederatedLearningSchema(FederatedBase):
    """All nodes are neighbours; a round is local `fit` and then gossip between them."""

    schema = "mesh"
    _rule = TopologyRule("mesh")


class KConnectedFederatedLearningSchema(FederatedBase):
    """Each node has `k` neighbours, drawn at random (`topology_seed`); a round is local `fit` and then gossip.

    Raises:
        TopologyError: If `k` is too large, or the number of nodes times `k` is odd.
    """

    schema = "k-connected"

    def __init__(self, *args: Any, k: int, topology_seed: int = 0, **kwargs: Any) -> None:
        self._rule = TopologyRule("k-connected", k=k, seed=topology_seed)
        super().__init__(*args, **kwargs)


class CustomFederatedLearningSchema(FederatedBase):
    """Neighbours as given: a square symmetric `adjacency` matrix, neighbours by id, or a `networkx.Graph`.

    Raises:
        TopologyError: If it breaks a rule, naming the row.
    """

    schema = "custom"

    def __init__(self, *args: Any, adjacency: Any = None, graph: Any = None, **kwargs: Any) -> None:
        self._rule = TopologyRule("custom", adjacency=adjacency, graph=graph)
        super().__init__(*args, **kwargs)


class HierarchicalFederatedLearningSchema(FederatedBase):
    """Levels of stars: aggregators (edge servers) add the updates of their groups up, and the server the groups'.

    The aggregators are nodes of the federation with the role `aggregator`; `should_participate` is asked of the others.
    A round gives the parameters that a star would give.  Strategies that need every update (median, krum, ...) are
    refused, for an aggregator passes one mean on.

    Args:
        *args: See `FederatedBase`.
        levels: Aggregators below each one of the level above: `[4]`, or `[4, 8]` for four and eight below each of them;
            the nodes are shared out in order among the lowest ones.  Their ids are `edge_0`, `edge_0_3` and so on.
        groups: Instead: ids of nodes, or patterns such as `client_1*`, by the id of their aggregator.
        aggregator_template: A `FederatedAggregator` of one's own; one with a `train` takes part in sessions.
        **kwargs: See `FederatedBase`.

    Raises:
        TopologyError: If levels or groups do not fit the nodes.
        ValueError: If the strategy or the server needs every update.
    """

    schema = "hierarchical"

    def __init__(
        self,
        *args: Any,
        levels: Sequence[int] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        aggregator_template: type | None = None,
        **kwargs: Any,
    ) -> None:
        self._rule = TopologyRule("hierarchical", levels=levels, groups=groups)
        self._aggregator = aggregator_template
        super().__init__(*args, **kwargs)


def check_start(layout: Layout, path: str, *, resumes: bool = False) -> Path | None:
    """The file from which a layout starts, unless it has none, or may go on without it.

    Raises:
        LayoutError: If there is no such file or checkpoint.
    """
    if not layout.start_from or resumes:
        return None
    try:
        return find_checkpoint(layout.start_from, Path(path).absolute().parent)
    except RedError as error:
        raise contradiction(layout, path, "start_from", error.message) from None


SCHEMAS: dict[str, type[FederatedBase]] = {
    made.schema: made
    for made in (
        StarFederatedLearningSchema,
        RingFederatedLearningSchema,
        MeshFederatedLearningSchema,
        KConnectedFederatedLearningSchema,
        CustomFederatedLearningSchema,
        HierarchicalFederatedLearningSchema,
    )
}
"""The schemas that a layout names by a word."""


class Federation:
    """Makes federations from layouts."""

    @staticmethod
    def from_layout(
        layout: str | Path,
        *,
        working_dir: str | Path | None = None,
        keep: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> FederatedBase:
        """A federation in this process, of the schema that the layout names.

        Args:
            layout: Path of a layout, or the name of one that red-tui ships.
            working_dir: Folder of the modules that the layout names; None: the layout's own folder.
            keep: Folder in which its journal and checkpoints are kept; None: nothing is kept.
            resume: Go on with what `keep` holds; where it holds nothing, the federation begins there.

        Raises:
            LayoutError: With file, line, column and field.
            RedError: If `keep` is in use, or holds another federation, or one that is not to be resumed.
        """
        pass
        from red_tui.layout import load, resolve

        path = resolve(layout)
        folder = folder_of(working_dir) if working_dir else path.resolve().parent
        parsed = load(path)
        schema, spec = spec_of(parsed, str(path), folder)
        check_start(parsed, str(path), resumes=resume)
        return schema.from_spec(spec, keep=keep, resume=resume, layout=(parsed, path.absolute()))
