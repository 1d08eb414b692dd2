"""What runs around a template inside its process: start, rounds, control, and the lifeline."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.aggregation.weighted_sum import EXAMPLES, Mixture, mix_models
from red_tui.checks import shown
from red_tui.messaging.node_messaging import NodeMessaging
from red_tui.node_states.host_states import state_of
from red_tui.node_states.packed_state import opened, state_size
from red_tui.nodes.arrays import MOST_EXAMPLES, as_number, check_weight, fits_type, trouble_of
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.extension_types import is_extension
from red_tui.nodes.node_log import NodeLog, NodeLogger
from red_tui.nodes.template import EvaluateResult, FederatedNode, FitResult, Parameters, check_parameters
from red_tui.nodes.user_code import called, check_fork, containing, failure_report, wait_for_exit

NUMBER = "round"
"""The key of a round's number, which every round has."""


def changed_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a round tells beside its number."""
    return {key: value for key, value in config.items() if key != NUMBER} if len(config) > 1 else {}


class BundleKeys:
    """The keys that the nodes of a host know.  Taking over others costs once, not in each round."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._bases: dict[int, Mapping[str, Any]] = {}

    def of_group(self, group: int, base: Mapping[str, Any]) -> dict[str, Any]:
        """What the nodes of a group are told: their own keys, and over them those of the round."""
        self._bases[group] = base
        return {**base, **self._known}

    def take(self, config: Mapping[str, Any], groups: Mapping[int, dict[str, Any]], nodes: Iterable[Any]) -> None:
        """Take a round's keys over: into what groups are told, and into the config of nodes that have made theirs.

        A key that the round before told and this one does not is again what the group says of it.
        """
        keys = changed_keys(config)
        if keys == self._known:
            return
        gone = self._known.keys() - keys.keys()
        self._known = keys
        for number, group in list(groups.items()):
            for name in gone:
                group.pop(name, None)
            group.update({**self._bases[number], **keys})
        for node in list(nodes):
            if "_config" in node.__dict__:
                node.config = with_keys(node.config, self._bases[node.red_group], keys, gone)


def with_keys(
    config: FederationConfig, base: Mapping[str, Any], keys: Mapping[str, Any], gone: Collection[str]
) -> FederationConfig:
    """A node's config in a round: with the round's keys; those that are `gone` are as `base` says, or not there."""
    back = {name: base[name] for name in gone if name in base}
    return config.without(name for name in gone if name not in base).updated(**back, **keys)


Model = Sequence[tuple[str, tuple[int, ...], np.dtype[Any]]]
"""Name, shape and type of each array of a model."""

_shared_lock = threading.Lock()
_shared: dict[type, Any] = {}


class NodeRuntime(NodeMessaging, FederatedNode):
    """The framework's half of a node's actor; the template is the other half.

    Nothing here raises for what a template does wrong: a report is returned, with `error` (one line)
    and `traceback` where something failed, so that a failing node never takes a round with it.
    """

    _red_log: NodeLog
    _red_built = False
    _red_keys: Mapping[str, Any] = {}
    _red_base: Mapping[str, Any] = {}
    red_keeps_state = False

    def red_hello(self) -> dict[str, Any]:
        """Answered as soon as the process is up."""
        self._red_log = NodeLog()
        log = self.log.wrapped if isinstance(self.log, NodeLogger) else self.log
        log.addHandler(self._red_log)
        if log.level == logging.NOTSET:
            log.setLevel(logging.INFO)
        return {"pid": os.getpid(), "host": socket.gethostname()}

    def red_lifeline(self) -> dict[str, Any]:
        """The call fails when the process dies, and says why; it is answered only when `os._exit` was called."""
        return wait_for_exit()

    def red_start(
        self, kwargs: Mapping[str, Any], state: Any, common: FederationConfig, index: int | None = None
    ) -> dict[str, Any]:
        """Run `build_shared(common)` once per process, then `build`, then give a kept state back.

        With `index`, `state` is a block of states.
        """
        started = time.perf_counter()
        try:
            self.shared = called("build_shared", shared_of, type(self), common)
            self.build(**kwargs)
            mine = opened(state[index] if index is not None and state is not None else state)
            if mine is not None:
                called("set_state", self.set_state, mine)
        except BaseException as error:
            return failure_report(error, "build")
        check_fork()
        self._red_built = True
        return {"seconds": time.perf_counter() - started}

    def red_status(self) -> dict[str, Any]:
        """Whether it is built: asked by a supervisor that finds it by its name."""
        return {"pid": os.getpid(), "host": socket.gethostname(), "built": self._red_built}

    def red_initial_parameters(self) -> tuple[Parameters | None, dict[str, Any]]:
        """The template's initial parameters (first return) and a report (second)."""
        try:
            made = check_parameters(self.initial_parameters(), "initial_parameters()")
        except BaseException as error:
            return None, failure_report(error, "initial_parameters")
        check_fork()
        return made, {}

    def fit_once(
        self,
        parameters: Parameters,
        config: Mapping[str, Any],
        model: Model,
        keep: Callable[[NodeRuntime], Any] = state_of,
        ready: FitResult | None = None,
    ) -> tuple[FitResult, dict[str, float], Any]:
        """One fit, checked: the result, its metrics as plain numbers, and the state if the template keeps one.

        Args:
            parameters: What the node starts from.
            config: The round's keys.
            model: What its update has to look like.
            keep: Takes the state of the node, or has it written.
            ready: What the node has given together with others; None: its `fit` is called.

        Raises:
            Exception: What the template raised, or what is wrong with what it gave.
        """
        # A dict of its own for each: what one node puts into it must not reach the next one of its host.
        result = self.fit(dict(parameters), dict(config)) if ready is None else ready
        if not _plainly_fine(result, model):
            result = check_fit(result, parameters)
        return result, numbers(result.metrics), keep(self) if self.red_keeps_state else None

    def evaluate_once(
        self, parameters: Parameters, config: Mapping[str, Any]
    ) -> tuple[EvaluateResult, dict[str, float]]:
        """One evaluation, checked: the result, and its metrics as plain numbers.

        Raises:
            Exception: What the template raised, or what is wrong with what it gave.
        """
        result = check_evaluate(self.evaluate(dict(parameters), dict(config)))
        return result, numbers(result.metrics)

    def red_take_keys(self, config: Mapping[str, Any]) -> None:
        """Take over what was changed of this node's config before a round: the round's keys but its number."""
        keys = changed_keys(config)
        if keys != self._red_keys:
            if not self._red_keys:
                self._red_base = self.config.as_dict()
            gone = self._red_keys.keys() - keys.keys()
            self._red_keys = keys
            self.config = with_keys(self.config, self._red_base, keys, gone)

    def red_fit(self, parameters: Parameters, config: Mapping[str, Any]) -> tuple[Any, ...]:
        """One fit: the update (stays in the object store), a report, and the state after it if the template keeps one.

        State and update come from one call, so that a process that dies right after it has lost neither.
        """
        keeps = self.red_keeps_state
        self.red_take_keys(config)
        started = time.perf_counter()
        try:
            result, metrics, state = self.fit_once(parameters, config, model_of(parameters))
        except BaseException as error:
            return (None, self._red_failed(error, "fit"), *((None,) if keeps else ()))
        check_fork()
        seconds = time.perf_counter() - started
        report = {"num_examples": float(result.num_examples), "metrics": metrics, "seconds": seconds}
        if state is not None:
            report["state_bytes"] = state_size(state)
        return (result.parameters, report, *((state,) if keeps else ()))

    def red_evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> dict[str, Any]:
        """One evaluation, as a report."""
        self.red_take_keys(config)
        started = time.perf_counter()
        try:
            result, metrics = self.evaluate_once(parameters, config)
        except BaseException as error:
            return self._red_failed(error, "evaluate")
        check_fork()
        loss, examples, seconds = float(result.loss), float(result.num_examples), time.perf_counter() - started
        return {"loss": loss, "num_examples": examples, "metrics": metrics, "seconds": seconds}

    def _red_failed(self, error: BaseException, method: str) -> dict[str, Any]:
        """What went wrong, which the node's log tells too."""
        report = failure_report(error, method)
        self.log.error("%s failed: %s", report["where"], report["error"])
        return report

    def red_mix(self, plan: Sequence[Mixture], *blocks: Any) -> tuple[Any, dict[str, Any]]:
        """The model of this node, or of the one that it mixes for, after a round's gossip; and a report.

        Of several rows: a list of their models.
        """
        made, report = mixed(plan, blocks)
        return (made[0] if made is not None and len(made) == 1 else made), report

    def red_state(self) -> Any:
        """What `get_state` gives, to be kept while the node has no process."""
        return containing(self.get_state)()

    def red_detail(self) -> dict[str, Any]:
        """What only the process knows: its pid, host and last log lines."""
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "log": [list(line) for line in self._red_log.lines],
        }


def mixed(plan: Sequence[Mixture], blocks: Sequence[Any]) -> tuple[list[Parameters] | None, dict[str, Any]]:
    """What `mix_models` gives, and a report."""
    try:
        return mix_models(plan, blocks), {}
    except Exception as error:
        return None, failure_report(error, "mix")


def keeps_state(template: type) -> bool:
    """Whether a template says what survives of its nodes."""
    return getattr(template, "get_state", None) is not FederatedNode.get_state


def shared_of(template: type, config: Any) -> Any:
    """`build_shared` of a template, run once per process however many nodes ask at once.

    The dynamic class around a template is not the template: the key is the class that wrote `build_shared`.
    """
    with _shared_lock:
        key = next(cls for cls in template.__mro__ if "build_shared" in vars(cls))
        if key not in _shared:
            _shared[key] = template.build_shared(config)  # type: ignore[attr-defined]
        return _shared[key]


def check_fit(result: Any, parameters: Parameters) -> FitResult:
    """Return what `fit` gave if the server can aggregate it, with its numbers as plain floats.

    Raises:
        TypeError: If it is no `FitResult` or holds something else than arrays of numbers.
        ValueError: If names or shapes differ from `parameters`, or a number is not finite, too large, or negative
            where that makes no sense.
    """
    if not isinstance(result, FitResult):
        raise TypeError(f"fit must return a red_tui.FitResult, not {type(result).__name__}")
    weight = check_weight(result.num_examples)
    update = check_parameters(result.parameters, "the parameters that fit returned", weight)
    if update.keys() != parameters.keys():
        missing, extra = parameters.keys() - update.keys(), update.keys() - parameters.keys()
        raise ValueError(f"fit returned other parameters: missing {sorted(missing)}, not asked for {sorted(extra)}")
    for name, value in update.items():
        if value.shape != np.shape(parameters[name]):
            shape = np.shape(parameters[name])
            raise ValueError(f"fit returned {name!r} with shape {value.shape}, the model's is {shape}")
        wanted = np.asarray(parameters[name]).dtype
        if not _fits_type(value, wanted):
            raise TypeError(
                f"fit returned {name!r} as {value.dtype}, and the model's is {wanted}, which cannot hold it: call"
                f" .astype({_spelled(wanted)}) on it"
            )
    return FitResult(update, weight, result.metrics)


def model_of(parameters: Parameters) -> Model:
    """What updates of a model have to look like: looked at once for all nodes that start from it."""
    return [(name, np.shape(value), np.asarray(value).dtype) for name, value in parameters.items()]


def _plainly_fine(result: Any, model: Model) -> bool:
    """Whether a result passes at first sight; what does not is for `check_fit`, which says what is wrong."""
    if type(result) is not FitResult:
        return False
    made, examples = result.parameters, result.num_examples
    if type(made) is not dict or len(made) != len(model):
        return False
    if type(examples) not in EXAMPLES or not 0 <= examples <= MOST_EXAMPLES:
        return False
    for name, shape, dtype in model:
        value = made.get(name)
        if type(value) is not np.ndarray or value.shape != shape:
            return False
        if value.dtype is not dtype and not _fits_type(value, dtype):
            return False
        if trouble_of(value, examples):
            return False
    return True


def _fits_type(value: Any, wanted: np.dtype[Any]) -> bool:
    """Whether the numbers of an update can stand where the model's do: no fractions for whole numbers, no text."""
    return fits_type(value.dtype, wanted)


def _spelled(dtype: np.dtype[Any]) -> str:
    """A type as one writes it."""
    return f"{'ml_dtypes' if is_extension(dtype) else 'np'}.{dtype.name}"


def check_evaluate(result: Any) -> EvaluateResult:
    """Return what `evaluate` gave if it can be averaged, with its numbers as plain floats.

    Raises:
        TypeError: If it is no `EvaluateResult`, or something in it is no number.
        ValueError: If the loss is not finite or `num_examples` is negative.
    """
    if not isinstance(result, EvaluateResult):
        raise TypeError(f"evaluate must return a red_tui.EvaluateResult, not {type(result).__name__}")
    loss = as_number(result.loss, "the loss that evaluate returned")
    if not math.isfinite(loss):
        raise ValueError(f"evaluate returned the loss {loss}")
    return EvaluateResult(loss, check_weight(result.num_examples), result.metrics)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain floats; what is not a number is refused.

    Raises:
        TypeError: If they are no dict, or a value is no number.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a dict of numbers by name, not {type(metrics).__name__}")
    for name, value in metrics.items():
        if type(value) is not float or type(name) is not str:
            break
    else:
        return dict(metrics)
    plain = {}
    for name, value in metrics.items():
        plain[str(name)] = as_number(value, f"metric {shown(name)}")
    return plain
