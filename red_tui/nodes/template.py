"""What a node does: a template is a class that derives from `FederatedNode`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from red_tui import checks
from red_tui.nodes.arrays import advice_for, check_array
from red_tui.nodes.config import FederationConfig, round_bits, seed_of
from red_tui.nodes.node_log import node_logger
from red_tui.nodes.states import Roles


class Message(NamedTuple):
    """One message as the receiver reads it.

    Attributes:
        header: What it is about; empty for one that cannot be read here, which nobody gets: its body says why.
        body: What it brings, as it was when it was sent; arrays are read-only, large ones are read where they lie.
        sender: Id of the node that sent it; `supervisor` from outside.
        number: 1 for the first message from this sender to this receiver, and so on without gaps.
        sent: Wall-clock second.
    """

    header: str
    body: Any
    sender: str
    number: int
    sent: float


Parameters = dict[str, npt.NDArray[Any]]
"""A model's parameters: arrays by name."""

DEFAULT_MAX_CONCURRENCY = 100
OPTIONS_ATTRIBUTE = "__red_options__"


@dataclass(frozen=True, init=False)
class FitResult:
    """One node's work in one round: its new parameters and on how many examples they stand.

    Attributes:
        parameters: Arrays by name, with the names, shapes and kinds of type of those that `fit` was given.  An array of
            another precision (float64 for float32) is taken; NaN, infinity, text and objects fail the node by name.
        num_examples: Weight of this update in the mean: at least 0, finite.  0 leaves it out of the mean.
        metrics: Numbers by name, such as `{"loss": 0.3}`; they become weighted means in `RoundResult.train_metrics`.
    """

    parameters: Parameters
    num_examples: float
    metrics: Mapping[str, float]

    def __init__(self, parameters: Parameters, num_examples: float, metrics: Mapping[str, float] | None = None) -> None:
        # As the frozen dataclass would, in a third of the time: a host makes thousands of these in a round.
        fields = self.__dict__
        fields["parameters"], fields["num_examples"] = parameters, num_examples
        fields["metrics"] = {} if metrics is None else metrics


@dataclass(frozen=True)
class EvaluateResult:
    """One node's judgement of given parameters: mean loss and metrics over `num_examples`.

    Attributes:
        loss: Mean loss over this node's examples; a finite number, else the node fails by name.
        num_examples: Weight of this judgement in the means over all nodes: at least 0.
        metrics: Numbers by name, such as `{"accuracy": 0.9}`; they become weighted means in `RoundResult.metrics`.
    """

    loss: float
    num_examples: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class NodeData:
    """`self.data` of a node: its part of the data set that the layout names.  A template may set it to its own.

    What is kept are the indices: the examples are taken out of the process's one data set each time they are asked for.
    """

    def __get__(self, node: Any, owner: type) -> Any:
        if node is None:
            return self
        from red_tui.data.source import data_of

        return data_of(node.config, node.node_id, node.__dict__)


class FederatedNode:
    """Base of all templates.  Override what your nodes do; leave the constructor light.

    A constructor that is overridden must pass its arguments on.  Heavy work belongs in `build`: a
    node is `starting` while it runs and a failure is reported with its traceback.

    Whatever a method of a template raises fails this node alone, by name and with its traceback.

    Args:
        node_id: Id of the node in its federation.
        role: Roles joined by dashes, such as `train-eval`.
        config: The federation's config with this node's own keys merged in.
        log: Where its log lines go besides the console; None: nowhere else.

    Attributes:
        node_id: Id of the node in its federation.
        role: Its roles; `"train" in self.role` looks at whole roles.
        config: The federation's config with this node's own keys merged in.
        log: A logger; its last lines show in the console.  It never raises, whatever is logged.
        shared: What `build_shared` made for this process or host.
        data: This node's part of the data set that the layout names under `data`, in the shape that the source gives:
            columns by name, a tuple of arrays, an array, a sequence of examples, or a stream of Ray Data.
        fits_together: Max nodes of a bundle that `fit_together` is given at a time; 1: each node fits by itself.
    """

    shared: Any = None
    data: Any = NodeData()
    fits_together: ClassVar[int] = 1

    def __init__(self, node_id: str, role: str, config: FederationConfig, log: logging.Logger | None = None) -> None:
        self.node_id = node_id
        self.role = Roles(role)
        self.config = config
        self.log: logging.Logger = node_logger(log, node_id)

    @classmethod
    def build_shared(cls, config: FederationConfig) -> Any:
        """Make what the nodes of one process have in common, such as a model or a data set.

        Called once per worker process, before the first `build` there: once a node with the isolation `process`, once a
        bundle with `bundle`.

        Args:
            config: The federation's config, without keys of single nodes.

        Returns:
            Anything; each node of the process has it as `self.shared`.
        """
        return None

    def build(self, **kwargs: Any) -> None:
        """Do the heavy initialisation of this node: load its data, make its state.

        Called in the node's process each time it is built, before `set_state`.

        Args:
            **kwargs: What the caller gave, as in `fed.build(selection, path="/data")`; nothing where a round builds.
        """

    def initial_parameters(self) -> Parameters:
        """Make the parameters that a federation starts from when it was given none.

        The first eligible node is asked, and the next one if it fails.

        Returns:
            Arrays by name; their names, shapes and types hold for the whole run.

        Raises:
            NotImplementedError: If the template does not write it and the federation was given none.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.initial_parameters is not written and the federation was given no"
            " initial_parameters: write the one or pass the other"
        )

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Do one round's work: improve `parameters` on this node's data.

        Keys that somebody changes between rounds (`set_round(learning_rate=0.1)`) are in `config` from the next round
        on, and in `self.config`: read them here, not in `build`, if a change is to have an effect.

        Args:
            parameters: The global parameters, arrays by name.  Nodes share them, and they may be read-only: copy what
                you change.
            config: `round` (an int, 1 for the first), and the keys that were changed since the launch.

        Returns:
            The new parameters, and on how many examples they stand.

        Raises:
            NotImplementedError: If the template does not write it.
        """
        raise NotImplementedError(f"{type(self).__name__}.fit is not written, so it cannot take part in rounds")

    @classmethod
    def fit_together(
        cls, nodes: Sequence[FederatedNode], parameters: Parameters, config: Mapping[str, Any]
    ) -> Sequence[FitResult | None]:
        """Do the work of several nodes of a bundle at once, such as one computation over an axis of nodes.

        Called in place of `fit` where nodes of one class work one after another and start from the same parameters, if
        `fits_together` is 2 or more and no class below has a `fit` of its own.  What this raises fails the node whose
        turn it is; the others are tried again.  A round that is stopped meanwhile does not wait for it: change nothing
        of the nodes here.

        Args:
            nodes: The nodes.
            parameters: As in `fit`.
            config: As in `fit`.

        Returns:
            What `fit` of each would give; None for a node whose `fit` is to be called.

        Raises:
            NotImplementedError: If the template does not write it.
        """
        raise NotImplementedError(f"{cls.__name__}.fit_together is not written: leave fits_together at 1")

    def evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> EvaluateResult:
        """Judge `parameters` on this node's data.

        Called after a round on nodes with the role `eval`.

        Args:
            parameters: The global parameters after the round, arrays by name, read-only.
            config: As in `fit`.

        Returns:
            Mean loss and metrics, and over how many examples.

        Raises:
            NotImplementedError: If the template does not write it.
        """
        raise NotImplementedError(f"{type(self).__name__}.evaluate is not written, so it cannot judge parameters")

    def rng(self, round_number: int) -> np.random.Generator:
        """Make this node's generator of random numbers for a round.

        It depends on the seed, this node's id and the round only: not on who ran before in the same process, on the
        isolation, or on how often the node was rebuilt.  Each call begins it anew.

        Args:
            round_number: `config["round"]` in `fit` and `evaluate`; any other whole number for what is no round's, such
                as 0 in `build`.

        Returns:
            A generator of numpy.  Its seed is the key `seed` of this node's config, else the seed of the federation's
            rounds.

        Raises:
            ValueError: If the round is no whole number, or below 0.
        """
        number = checks.whole(round_number, "round_number", least=0)
        return np.random.default_rng(round_bits(seed_of(self.config), self.node_id, number))

    def train(self, **train_args: Any) -> Any:
        """Do a session's work: send and receive until a message `STOP` comes.

        Args:
            **train_args: What `fed.train(client_args={...})` gave, or `server_args` for the server.

        Returns:
            Anything that can be pickled; it becomes `SessionResult.results[node_id]`.

        Raises:
            NotImplementedError: If the template does not write it.
        """
        raise NotImplementedError(f"{type(self).__name__}.train is not written, so it cannot take part in sessions")

    @property
    def neighbors(self) -> tuple[str, ...]:
        """Ids of the neighbours, as the topology has them now.

        Raises:
            NotImplementedError: Outside of a federation, or before the node is built.
        """
        raise NotImplementedError("a node has neighbours once it is built in a federation")

    def send(self, header: str, body: Any = None, to: str | Sequence[str] | None = None) -> int:
        """Send a message to a neighbour, to some, or to all that are built.

        The body arrives as it is now, whatever becomes of it here, wherever the receiver lives.  Large ones that are
        sent close upon each other travel together, 0.1 s later at most: `receive` sends what waits for that.

        Where a receiver's mailbox is full the federation's `mailbox` rule says what happens: this waits for room, or a
        message is dropped and counted.

        Args:
            header: What the message is about; `STOP` is reserved for the end of the session.
            body: What it brings: anything that can be pickled.  Arrays travel without a copy where they are large.
            to: Id of a neighbour, or ids of some; None: all neighbours that are built.

        Returns:
            To how many it was sent.

        Raises:
            MessageError: If a receiver is no neighbour, is not built or has died, or its mailbox stays full, or if the
                body cannot be sent.
        """
        raise NotImplementedError("a node sends once it is built in a federation")

    def receive(self, block: bool = True, timeout: float | None = None) -> Message | None:
        """Take the next message out of the mailbox.

        A message whose header is `STOP` says that the session ends: return from `train`.  The body's dicts, lists and
        objects are the receiver's own; its arrays are read-only: copy one to change it.

        Args:
            block: Wait for a message; False: look only.
            timeout: Seconds to wait; None: without limit.

        Returns:
            The message, or None if there is none, or none came in time.
        """
        raise NotImplementedError("a node receives once it is built in a federation")

    def update_version(self, version: Any) -> None:
        """Publish what `fed.pull_version` gives of this node, such as its present parameters.

        Args:
            version: Anything that can be pickled; it replaces what was published before.
        """
        raise NotImplementedError("a node publishes once it is built in a federation")

    def test(self, phase: str, **kwargs: Any) -> tuple[float, float]:
        """Test this node.

        Args:
            phase: What `fed.test(phase=...)` says, such as `test` or `validation`.
            **kwargs: What else the caller gave.

        Returns:
            A value and its weight: `fed.test(aggregate=True)` gives the weighted mean over all nodes.

        Raises:
            NotImplementedError: If the template does not write it.
        """
        raise NotImplementedError(f"{type(self).__name__}.test is not written")

    def get_state(self) -> Any:
        """Give what survives release and rebuild.

        Returns:
            Anything that can be pickled; None keeps nothing.
        """
        return None

    def set_state(self, state: Any) -> None:
        """Take back what `get_state` gave before the release; called after `build`.

        Args:
            state: What `get_state` returned; never None.
        """


Template = TypeVar("Template", bound=type)


@overload
def remote(template: Template) -> Template: ...


@overload
def remote(**options: Any) -> Callable[[Template], Template]: ...


def remote(template: Any = None, **options: Any) -> Any:
    """Give a template Ray actor options: `@red.remote` or `@red.remote(num_gpus=1, max_concurrency=4)`.

    The class stays a plain class.

    Args:
        template: The class, where it is decorated without arguments.
        **options: `num_cpus`, `num_gpus` and `resources` say what one node asks of its bundle (default: all that the
            bundle has); `max_concurrency` (default 100, at least 2) is how many calls a node may have open at once.
            Others are Ray's own.

    Returns:
        The class, or the decorator.

    Raises:
        TypeError: If the class does not derive from `FederatedNode`.
        ValueError: If `max_concurrency` is below 2 or an option is one that red-tui sets itself.
    """

    def decorate(cls: Any) -> Any:
        if not (isinstance(cls, type) and issubclass(cls, FederatedNode)):
            raise TypeError(f"@red.remote is for classes that derive from FederatedNode, not for {cls!r}")
        owned = {"name", "namespace", "lifetime", "scheduling_strategy", "concurrency_groups"} & set(options)
        if owned:
            raise ValueError(
                f"{', '.join(sorted(owned))}: red-tui sets this for each node; leave it out of @red.remote"
            )
        most = checks.whole(options.get("max_concurrency", DEFAULT_MAX_CONCURRENCY), "max_concurrency")
        if most < 2:
            raise ValueError("max_concurrency must be at least 2: messages arrive while a node trains")
        for name in ("num_cpus", "num_gpus"):
            checks.number(options.get(name), name, least=0, none="all of the bundle")
        for name, amount in checks.mapping(options.get("resources") or {}, "resources", '{"disk": 1}').items():
            if name in ("CPU", "GPU"):
                raise ValueError(f"resources: {name} is said by num_{name.lower()}s: leave it out here")
            checks.number(amount, f"resources: {name}", least=0)
        setattr(cls, OPTIONS_ATTRIBUTE, {**actor_options(cls), **options})
        return cls

    return decorate(template) if template is not None else decorate


def actor_options(template: type) -> dict[str, Any]:
    """The options that `@red.remote` gave a template."""
    return dict(getattr(template, OPTIONS_ATTRIBUTE, {}))


def _as_dict(value: Any) -> str:
    """What to give instead of parameters without names, after a colon."""
    if isinstance(value, (list, tuple)):
        return ': give {f"layer{i}": array for i, array in enumerate(value)}'
    if isinstance(value, Mapping):
        return ": give dict(value)"
    return ': give {"w": value}' if hasattr(value, "shape") else ""


def check_parameters(parameters: Any, whose: str, weight: float | None = None) -> Parameters:
    """Return `parameters` if they are arrays by name that can be averaged; numbers of numpy become arrays.

    Args:
        parameters: What was given.
        whose: What they are, for the message.
        weight: The number of examples behind them, if they are an update.

    Raises:
        TypeError: If they are not a dict of arrays of numbers.
        ValueError: If one holds NaN, infinity, or numbers that are too large.
    """
    if not isinstance(parameters, dict):
        advice = advice_for(parameters) if hasattr(parameters, "state_dict") else _as_dict(parameters)
        raise TypeError(f"{whose} must be a dict of numpy arrays by name, not {type(parameters).__name__}{advice}")
    for name, value in parameters.items():
        if not isinstance(name, str):
            raise TypeError(f"{whose}: {name!r} must be a numpy array under a string, not {type(value).__name__}")
        if check_array(value, name, whose, weight) is not value:
            return {name: check_array(value, name, whose, weight) for name, value in parameters.items()}
    return parameters
