"""What a layout may say: pydantic models that refuse what they do not know."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from red_tui import checks
from red_tui.layout.rules import (
    CLASS_PATTERN,
    DEFAULT_ID,
    MAX_NODES,
    NEED_EACH,
    PARTITIONS,
    STRATEGIES,
    Refused,
    check_config,
    check_federation_id,
    check_id_pattern,
    check_partition,
    check_role_words,
    check_schema,
    check_spec,
    clashing_ids,
    is_class_spec,
    segments_of,
    unknown_role,
)
from red_tui.layout.yaml_tree import written
from red_tui.nodes.hierarchy import Hierarchy
from red_tui.nodes.ids import Segment


class Part(BaseModel):
    """Base of all parts: unknown keys and other types are refused, numbers are finite, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class TopologyChoice(Part):
    """What schemas other than star need to know about neighbours."""

    k: Annotated[int, Field(ge=1)] | None = None
    """Neighbours of each node, for the schema k-connected."""
    adjacency: dict[str, list[str]] | None = None
    """Neighbours by node id, for the schema custom."""
    levels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None
    """Aggregators below each one of the level above, for the schema hierarchical: [4], or [4, 8]."""
    groups: dict[str, list[str]] | None = None
    """Ids of nodes, or patterns such as client_1*, by the id of their aggregator, for the schema hierarchical."""

    @property
    def aggregators(self) -> list[str]:
        """Ids of the aggregators that levels or groups name; none where these make no tree."""
        try:
            return Hierarchy(self.levels, self.groups).aggregators
        except ValueError:
            return []


class MailboxChoice(Part):
    """What happens where more messages come than a node reads."""

    capacity: Annotated[int, Field(ge=1)] = 1024
    """Messages that wait in a node's mailbox at most."""
    policy: Literal["wait", "drop-oldest", "drop-newest"] = "wait"
    """wait: who sends waits for room.  drop-oldest, drop-newest: that message is dropped, and counted."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that a sender waits for room, or for a node that is being rebuilt, before it gets an error."""


NEEDED = {"k-connected": ("k",), "custom": ("adjacency",), "hierarchical": ("levels", "groups")}


def check_shape(schema: str, topology: TopologyChoice, count: int, segments: Sequence[Segment], strategy: str) -> None:
    """Raise Refused if schema, topology, nodes and strategy do not go together."""
    needed = NEEDED.get(schema, ())
    given = [name for name in type(topology).model_fields if getattr(topology, name) is not None]
    for name in given:
        if name not in needed and ":" not in schema:
            raise Refused(f"the schema {schema} takes no {name}; leave it out", path=("topology", name))
    if needed and not given:
        words = " or ".join(f"{{{name}: ...}}" for name in needed)
        raise Refused(f"the schema {schema} needs {' or '.join(needed)}: write topology: {words}", path=("schema",))
    k = topology.k
    if schema == "k-connected" and k is not None and (k >= count or k * count % 2):
        why = f"has at most {count - 1} neighbours" if k >= count else "times k must be even: each edge has two ends"
        raise Refused(
            f"k = {k} with {count} nodes: {'a node' if k >= count else 'their number'} {why}", path=("topology", "k")
        )
    if "levels" in given or "groups" in given:
        _check_hierarchy(topology, segments, strategy)


def _check_hierarchy(topology: TopologyChoice, segments: Sequence[Segment], strategy: str) -> None:
    if topology.levels is not None and topology.groups is not None:
        raise Refused("levels and groups both say which groups there are: leave one out", path=("topology", "groups"))
    told = "levels" if topology.levels is not None else "groups"
    try:
        hierarchy = Hierarchy(topology.levels, topology.groups)
    except ValueError as error:
        raise Refused(str(error), path=("topology", told)) from None
    trouble = hierarchy.trouble(node_id for segment in segments for node_id in segment)
    if trouble:
        raise Refused(trouble, path=("topology", told))
    if strategy in NEED_EACH:
        raise Refused(
            f"{strategy} needs every update, and in a hierarchy aggregators pass the means of their groups on: use a"
            " strategy of means, or the schema star",
            path=("rounds", "strategy"),
        )


Resources = dict[str, Annotated[float, Field(gt=0)]]
Config = Annotated[dict[str, Any], AfterValidator(check_config)]
ClassSpec = Annotated[str, AfterValidator(check_spec), Field(json_schema_extra={"pattern": CLASS_PATTERN})]


class NodeGroup(Part):
    """Nodes of one kind."""

    count: Annotated[int, Field(ge=1, le=MAX_NODES)]
    """How many nodes."""
    role: Annotated[str, AfterValidator(check_role_words)]
    """Roles joined by dashes, such as train-eval."""
    id: Annotated[str, AfterValidator(check_id_pattern)] = DEFAULT_ID
    """Their ids: {i} (or {i:03d}) becomes a number, which counts on over all groups that write the same pattern."""
    config: Config = Field(default_factory=dict)
    """Further keys for these nodes' config, over those of the layout's own config."""
    template: ClassSpec | None = None
    """module:Class of these nodes, if it is not the layout's template."""

    @model_validator(mode="after")
    def _one_id_names_one_node(self) -> NodeGroup:
        if self.count > 1 and "{i" not in self.id:
            raise Refused(f"{self.id!r} names one node but count is {self.count}; write {{i}} into it", path=("id",))
        return self


class Bundle(Part):
    """Bundles that are alike."""

    count: Annotated[int, Field(ge=1, le=MAX_NODES)] = 1
    """How many of them."""
    cpu: Annotated[float, Field(ge=0)] = 1.0
    """CPUs of each."""
    gpu: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of each."""
    resources: Resources = Field(default_factory=dict)
    """Custom resources of each."""

    @model_validator(mode="after")
    def _asks_something(self) -> Bundle:
        if self.cpu + self.gpu == 0 and not self.resources:
            raise Refused("a bundle must ask for something: give it cpu, gpu or resources")
        return self


ALTERNATIVES = ("<number>", "<list>")
"""What pydantic writes into locations where a value may be of several kinds."""


def _size(given: str | int | None) -> str | None:
    """A size in one spelling, however it is written."""
    count = checks.size(given, "it", none="null", refusal=Refused)
    return None if count is None else checks.size_written(count)


def _bundles_kind(value: Any) -> str:
    return ALTERNATIVES[1 if isinstance(value, (list, tuple)) else 0]


Bundles = Annotated[
    Annotated[Annotated[int, Field(ge=1, le=MAX_NODES)], Tag("<number>")] | Annotated[list[Bundle], Tag("<list>")],
    Discriminator(_bundles_kind),
]


class Placement(Part):
    """Where the nodes live."""

    isolation: Literal["process", "bundle"] = "process"
    """process: an actor for each node.  bundle: a host actor for each bundle, which holds many nodes."""
    split: Literal["uniform", "random", "weighted"] = "uniform"
    """How cpus and gpus are shared out over the bundles."""
    weights: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] | None = None
    """One positive number a bundle, for the split weighted."""
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """How Ray spreads the bundles over hosts."""
    cpus: Annotated[float, Field(gt=0)] | None = None
    """CPUs for the whole federation; left out, as many as fit the cluster."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs for the whole federation."""
    resources: Resources = Field(default_factory=dict)
    """Custom resources for the whole federation."""
    bundles: Bundles | None = None
    """How many bundles, or what each asks for; left out, one for each node."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Seed of the split random."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many nodes of one bundle work at a time, in the isolation bundle."""
    nodes_per_bundle: Annotated[int, Field(ge=1)] | None = None
    """How many nodes one bundle holds at most, in the isolation bundle; left out, as many as there are."""

    wait_for_resources: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    """Seconds that a build waits for resources that others hold or are giving back."""
    state_memory: Annotated[str | int | None, AfterValidator(_size)] = "1GB"
    """Size (1GB, 500MB) up to which what nodes keep stays in memory, then it lies in files; 0: always; null: never."""

    @model_validator(mode="after")
    def _weights_belong_to_weighted(self) -> Placement:
        if self.split == "weighted" and self.weights is None:
            raise Refused("the split weighted needs weights: one positive number a bundle", path=("split",))
        if self.split != "weighted" and self.weights is not None:
            raise Refused(f"weights are for the split weighted, and split is {self.split}", path=("weights",))
        if self.isolation == "process" and self.concurrency != 1:
            raise Refused("concurrency is for the isolation bundle", path=("concurrency",))
        if self.isolation == "process" and self.nodes_per_bundle is not None:
            raise Refused("nodes_per_bundle is for the isolation bundle", path=("nodes_per_bundle",))
        if isinstance(self.bundles, list) and not self.bundles:
            raise Refused("the list is empty; name a bundle or leave it out", path=("bundles",))
        return self

    def num_bundles(self, num_nodes: int) -> int:
        """Bundles for nodes (the coordinator's not counted)."""
        if self.bundles is None:
            return num_nodes
        return self.bundles if isinstance(self.bundles, int) else sum(bundle.count for bundle in self.bundles)


def _refuse_unknown(option: str, name: str, allowed: list[str]) -> None:
    """Raise Refused, at its key, for an option that what has this name does not take."""
    if option not in allowed:
        raise Refused(
            f"{option!r} is not an option of {name}", allowed=allowed, word=option, path=(option,), at_key=True
        )


class StrategyChoice(BaseModel):
    """A strategy by name, with its own options beside the name."""

    model_config = ConfigDict(
        extra="allow", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: Annotated[
        str, Field(json_schema_extra={"anyOf": [{"enum": sorted(STRATEGIES)}, {"pattern": CLASS_PATTERN}]})
    ] = "fedavg"
    """How updates become the next parameters; `module:Class` names a strategy of one's own."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in STRATEGIES and not is_class_spec(value):
            raise Refused(f"{value!r} is not a strategy", allowed=[*sorted(STRATEGIES), "module:Class"], word=value)
        return value

    @model_validator(mode="after")
    def _options_known(self) -> StrategyChoice:
        if self.is_own:
            check_config(self.options)
            return self
        allowed = STRATEGIES.get(self.name, {})
        for option in self.options:
            _refuse_unknown(option, self.name, sorted(allowed))
            wanted, value = allowed[option], self.options[option]
            number = wanted is float and isinstance(value, int)
            if isinstance(value, bool) is not (wanted is bool) or not (number or isinstance(value, wanted)):
                what = {float: "a number", int: "a whole number"}.get(wanted, f"of type {wanted.__name__}")
                raise Refused(f"must be {what}, not {value!r}", path=(option,))
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is a class of one's own, whose options only it knows."""
        return self.name not in STRATEGIES

    @property
    def options(self) -> dict[str, Any]:
        """What is written beside the name."""
        return dict(self.model_extra or {})


KEPT_USUALLY = 3
"""Checkpoints that stay where nothing else is said."""


class KeepChoice(Part):
    """Which rounds stay on disk."""

    last: Annotated[int, Field(ge=1)] = KEPT_USUALLY
    """Number of the last rounds that stay."""
    best: Annotated[str, Field(pattern=r"^-?[^-\s@:][^\r\n@:]{0,99}$")] | None = None
    """A metric or loss: its best round stays too.  The lowest value is the best of losses, errors and distances, as
    their names tell, and of a name with a - before it (-score)."""
    by: Literal["highest", "lowest"] | None = None
    """Which value of best is the best one, where its name does not tell."""
    node_states: bool = False
    """Whether what nodes keep (get_state) is in each checkpoint too: a run that goes on elsewhere has it."""

    @model_validator(mode="after")
    def _by_needs_best(self) -> KeepChoice:
        if self.by and not self.best:
            raise Refused("says how a best round is chosen, and best names no metric", path=("by",))
        if self.by == "highest" and self.best and self.best.startswith("-"):
            raise Refused(f"contradicts best: {self.best}, whose lowest value is the best one", path=("by",))
        return self


class Rounds(Part):
    """How the federation learns."""

    strategy: StrategyChoice = Field(default_factory=StrategyChoice)
    """How updates become the next parameters."""
    count: Annotated[int, Field(ge=1)] = 20
    """Rounds of a run that does not say how many."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the eligible nodes that take part in a round."""
    deadline: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a round goes on with the results that it has."""
    min_results: Annotated[int | float, Field(json_schema_extra={"exclusiveMinimum": 0})] = 0.5
    """Results that a round needs: a fraction (0.5, 1.0) or a whole number of nodes (3)."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the choice of nodes."""
    evaluate_every: Annotated[int, Field(ge=0)] = 1
    """Rounds between two evaluations of the parameters; 0: never evaluated."""
    exact: bool = False
    """Add updates up without an error: the same bytes whatever the isolation and the number of bundles."""
    checkpoints: Annotated[int, Field(ge=0)] = KEPT_USUALLY
    """Number of rounds whose parameters stay on disk, the newest first; 0: none."""
    keep: KeepChoice | None = None
    """Which rounds stay on disk, instead of checkpoints: {last: 3, best: accuracy}."""

    node_history: bool = False
    """Whether the figures of every node in every round are kept, in a file beside the journal."""
    evaluator: ClassSpec | None = None
    """module:Class or module:function that judges the parameters on the server's node; left out, nothing does."""

    @model_validator(mode="after")
    def _kept_once(self) -> Rounds:
        # A layout that is written out says 3 where it was left out.
        if self.keep is not None and self.checkpoints not in (KEPT_USUALLY, self.keep.last):
            raise Refused(
                f"says {self.checkpoints}, and keep.last says {self.keep.last}: write one of them",
                path=("checkpoints",),
            )
        return self

    @field_validator("min_results", mode="before")
    @classmethod
    def _fraction_or_count(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Refused("must be a fraction such as 0.5 or a whole number of nodes such as 3")
        if not 0 < value < math.inf:
            raise Refused(f"must be {'a finite number' if math.isinf(value) else 'above 0'}, not {value}")
        if isinstance(value, float) and value > 1:
            raise Refused(
                f"{value} is no fraction: write at most 1.0, or a whole number of nodes such as {round(value)}"
            )
        return value


class PartitionChoice(BaseModel):
    """A rule that deals data out, by name, with its own options beside the name."""

    model_config = ConfigDict(
        extra="allow", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: Annotated[str, Field(json_schema_extra={"enum": list(PARTITIONS)})] = "iid"
    """How examples are dealt out to nodes."""

    @model_validator(mode="after")
    def _makes_sense(self) -> PartitionChoice:
        if self.name not in PARTITIONS:
            raise Refused(f"{self.name!r} is not a partition", allowed=list(PARTITIONS), word=self.name, path=("name",))
        allowed = PARTITIONS[self.name]
        for option in self.model_extra or {}:
            _refuse_unknown(option, self.name, list(allowed))
        check_partition(self.name, dict(self.model_extra or {}))
        return self


class DataChoice(Part):
    """Where nodes' data come from, and which part is whose."""

    source: Annotated[str, Field(min_length=1, max_length=500)]
    """module:function that gives a data set (arrays by name, a tuple, a sequence), or a .npz, .csv or .parquet file."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments by name for the function."""
    partition: PartitionChoice = Field(default_factory=PartitionChoice)
    """How examples are dealt out to nodes."""
    parts: Annotated[int, Field(ge=1)] | None = None
    """Number of parts; left out, one for each node of the layout."""


class Failure(Part):
    """What happens to nodes that fail."""

    policy: Literal["rebuild", "leave"] = "rebuild"
    """rebuild: they get a new process under their name, with their last state.  leave: they stay failed."""
    max_rebuilds: Annotated[int, Field(ge=0)] = 3
    """Automatic rebuilds of one node at most."""
    backoff: Annotated[float, Field(ge=0)] = 0.5
    """Seconds before the first rebuild; doubled each time."""


class GroupRows(NamedTuple):
    """One group of nodes as it goes into the table."""

    segment: Segment
    role: str
    group: int
    config: dict[str, Any]


class Layout(Part):
    """A federation on paper: its nodes, where they live and how they learn."""

    federation: Annotated[str, AfterValidator(check_federation_id)]
    """Id of the federation; it names its actors on the cluster."""
    title: Annotated[str, Field(max_length=200, pattern=r"^[^\r\n]*$")] = ""
    """What pickers show; left out, the first comment line of the file."""
    schema_name: Annotated[str, AfterValidator(check_schema)] = Field("star", alias="schema")
    """Who talks to whom: star, ring, mesh, k-connected, custom, hierarchical, or module:Class."""
    template: ClassSpec
    """module:Class of the nodes; it derives from FederatedNode."""
    server: ClassSpec | None = None
    """module:Class of the server; left out, the built-in one that aggregates."""
    aggregator: ClassSpec | None = None
    """module:Class of a hierarchy's aggregators; left out, the built-in one that adds its group up."""
    nodes: Annotated[list[NodeGroup], Field(min_length=1)]
    """The nodes, group by group, in row order."""
    start_from: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\r\n]*$")] | None = None
    """Parameters to start from: a safetensors file, FEDERATION@best, FEDERATION@last, or FEDERATION@12 for round 12."""
    roles: list[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]] = Field(default_factory=list)
    """Role words of your own, beside train, eval and test."""
    placement: Placement = Field(default_factory=Placement)
    """Where the nodes live."""
    rounds: Rounds = Field(default_factory=Rounds)
    """How the federation learns."""
    failure: Failure = Field(default_factory=Failure)
    """What happens to nodes that fail."""
    topology: TopologyChoice = Field(default_factory=TopologyChoice)
    """What schemas other than star need to know about neighbours."""
    mailbox: MailboxChoice = Field(default_factory=MailboxChoice)
    """What happens where more messages come than a node reads, in sessions."""
    hooks: list[ClassSpec] = Field(default_factory=list)
    """module:Class of what hears of rounds and runs; each derives from RoundHook and is made without arguments."""
    config: Config = Field(default_factory=dict)
    """Keys that reach every node's config."""
    data: DataChoice | None = None
    """The data set that is dealt out to the nodes: each has its part as self.data."""

    _marks: Any = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Layout:
        """What no part can see alone; the first in the order of a file."""
        if self.aggregator is not None and self.schema_name != "hierarchical" and ":" not in self.schema_name:
            raise Refused(f"the schema {self.schema_name} has no aggregators; leave it out", path=("aggregator",))
        for index, group in enumerate(self.nodes):
            problem = unknown_role(group.role, self.roles)
            if problem:
                raise problem.at("nodes", index, "role")
        if self.num_nodes > MAX_NODES:
            raise Refused(f"{self.num_nodes:,} nodes are more than {MAX_NODES:,}", path=("nodes",))
        segments = segments_of([(group.id, group.count) for group in self.nodes])
        clash = clashing_ids(segments)
        if clash:
            raise Refused(clash.text, path=("nodes", clash.group, *(["id"] if clash.group else [])))
        bundles = self.placement.num_bundles(self.num_nodes + len(self.topology.aggregators))
        if self.placement.weights is not None and len(self.placement.weights) != bundles:
            raise Refused(
                f"{len(self.placement.weights)} weights for {bundles} bundles: write one a bundle",
                path=("placement", "weights"),
            )
        if self.data is not None:
            if "data" in self.config:
                raise Refused("data is said twice: leave it out of config", path=("config", "data"), at_key=True)
            if self.data.parts is not None and self.data.parts < self.num_nodes:
                raise Refused(
                    f"{self.data.parts} parts for {self.num_nodes} nodes: each node has a part of its own",
                    path=("data", "parts"),
                )
        check_shape(self.schema_name, self.topology, self.num_nodes, segments, self.rounds.strategy.name)
        return self

    @property
    def num_nodes(self) -> int:
        """Number of nodes, the server not counted."""
        return sum(group.count for group in self.nodes)

    def class_specs(self) -> list[tuple[str, str]]:
        """The fields that name a class or a function, and the `module:name` of each."""
        fields = [("template", self.template), ("server", self.server), ("aggregator", self.aggregator)]
        fields += [(f"nodes[{index}].template", group.template) for index, group in enumerate(self.nodes)]
        fields += [("schema", self.schema_name if ":" in self.schema_name else None)]
        fields += [("rounds.strategy.name", self.rounds.strategy.name if self.rounds.strategy.is_own else None)]
        fields += [("rounds.evaluator", self.rounds.evaluator)]
        fields += [(f"hooks[{index}]", hook) for index, hook in enumerate(self.hooks)]
        return [(field, spec) for field, spec in fields if spec]

    def node_groups(self) -> list[GroupRows]:
        """The groups in row order, each with the layout's config under its own."""
        segments = segments_of([(group.id, group.count) for group in self.nodes])
        return [
            GroupRows(segment, group.role, index, {**self.config, **group.config})
            for index, (segment, group) in enumerate(zip(segments, self.nodes, strict=True))
        ]

    def common_config(self) -> dict[str, Any]:
        """The keys that reach every node's config; `data` among them, where the layout says where data come from."""
        told = {"data": self.data.model_dump(exclude_defaults=True)} if self.data is not None else {}
        return {**self.config, **told}

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data, defaults filled in, under the names that a file uses."""
        return self.model_dump(by_alias=True)

    def to_yaml(self) -> str:
        """The layout as a file that reads back as an equal layout."""
        return written(self.as_dict())

    def digest(self) -> str:
        """16 hexadecimal digits that are equal where layouts mean the same, whatever their spelling and title."""
        text = json.dumps({**self.as_dict(), "title": ""}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differences(self, other: Layout) -> list[str]:
        """Lines such as `placement.bundles: 8 → 4` from this layout to `other`; empty where the digests are equal."""
        mine, theirs = ({**layout.as_dict(), "title": ""} for layout in (self, other))
        return differences_between(mine, theirs)

    def position(self, path: str) -> tuple[int, int] | None:
        """Line and column (from 1) of a field such as `nodes[1].role` in the file that was read, or None."""
        return self._marks.get(path) if self._marks else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.title == other.title and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash((self.title, self.digest()))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a layout, for editors."""
    schema = Layout.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "red-tui layout",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def differences_between(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Lines such as `placement.bundles: 8 → 4` from one layout's plain data to another's."""
    return list(_differences(mine, theirs, ""))


def _differences(mine: Any, theirs: Any, path: str) -> Sequence[str]:
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        lines: list[str] = []
        for key in [*mine, *(key for key in theirs if key not in mine)]:
            lines += _differences(
                mine.get(key, _ABSENT), theirs.get(key, _ABSENT), f"{path}.{key}" if path else str(key)
            )
        return lines
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return [line for at in range(len(mine)) for line in _differences(mine[at], theirs[at], f"{path}[{at}]")]
    before, after = _shown(mine), _shown(theirs)
    return [] if before == after else [f"{path}: {before} → {after}"]


_ABSENT = object()
_SPACES = re.compile(r"\s+")


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else _SPACES.sub(" ", json.dumps(value, ensure_ascii=False, sort_keys=True))
