"""What runs around a template inside its process: start, rounds, control, and the lifeline."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from red_tui.nodes.template import EvaluateResult, FederatedNode, FitResult, Parameters, check_parameters

LOG_LINES = 200

_shared_lock = threading.Lock()
_shared: dict[type, Any] = {}


class NodeLog(logging.Handler):
    """Keeps the last lines that a node logged, for its detail in the console."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[tuple[float, str, str]] = deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.lines.append((record.created, record.levelname.lower(), record.getMessage()))


class NodeRuntime(FederatedNode):
    """The framework's half of a node's actor; the template is the other half.

    Nothing here raises for what a template does wrong: a report is returned, with `error` (one line)
    and `traceback` where something failed, so that a failing node never takes a round with it.
    """

    _red_log: NodeLog
    red_keeps_state = False

    def red_hello(self) -> dict[str, Any]:
        """Answered as soon as the process is up."""
        self._red_log = NodeLog()
        self.log.addHandler(self._red_log)
        if self.log.level == logging.NOTSET:
            self.log.setLevel(logging.INFO)
        return {"pid": os.getpid(), "host": socket.gethostname()}

    def red_lifeline(self) -> None:
        """Never answered: the call fails when the process dies, and says why."""
        threading.Event().wait()

    def red_start(self, kwargs: Mapping[str, Any], state: Any) -> dict[str, Any]:
        """Run `build_shared` once per process, then `build`, then give a kept state back."""
        started = time.perf_counter()
        try:
            self.shared = shared_of(type(self), self.config)
            self.build(**kwargs)
            if state is not None:
                self.set_state(state)
        except Exception as error:
            return failure_report(error, "build")
        return {"seconds": time.perf_counter() - started}

    def red_initial_parameters(self) -> tuple[Parameters | None, dict[str, Any]]:
        """The template's initial parameters (first return) and a report (second)."""
        try:
            return check_parameters(self.initial_parameters(), "initial_parameters()"), {}
        except Exception as error:
            return None, failure_report(error, "initial_parameters")

    def red_fit(self, parameters: Parameters, config: Mapping[str, Any]) -> tuple[Any, ...]:
        """One fit: the update (stays in the object store), a report, and the state after it if the template keeps one.

        State and update come from one call, so that a process that dies right after it has lost neither.
        """
        started = time.perf_counter()
        keeps = self.red_keeps_state
        try:
            result = check_fit(self.fit(parameters, config), parameters)
            report = {"num_examples": float(result.num_examples), "metrics": numbers(result.metrics)}
            state = (self.get_state(),) if keeps else ()
        except Exception as error:
            self.log.error("fit failed: %s", error)
            return (None, failure_report(error, "fit"), *((None,) if keeps else ()))
        return (result.parameters, {**report, "seconds": time.perf_counter() - started}, *state)

    def red_evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> dict[str, Any]:
        """One evaluation, as a report."""
        started = time.perf_counter()
        try:
            result = check_evaluate(self.evaluate(parameters, config))
            report = {
                "loss": float(result.loss),
                "num_examples": float(result.num_examples),
                "metrics": numbers(result.metrics),
            }
        except Exception as error:
            self.log.error("evaluate failed: %s", error)
            return failure_report(error, "evaluate")
        return {**report, "seconds": time.perf_counter() - started}

    def red_state(self) -> Any:
        """What `get_state` gives, to be kept while the node has no process."""
        return self.get_state()

    def red_detail(self) -> dict[str, Any]:
        """What only the process knows: its pid, host and last log lines."""
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "log": [list(line) for line in self._red_log.lines],
        }


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


def failure_report(error: BaseException, where: str) -> dict[str, Any]:
    """An exception of a template as plain data."""
    text = f"{type(error).__name__}: {error}".strip().rstrip(":")
    return {"error": text, "where": where, "traceback": traceback.format_exc()}


def check_fit(result: Any, parameters: Parameters) -> FitResult:
    """Return what `fit` gave if the server can aggregate it.

    Raises:
        TypeError: If it is no `FitResult` or holds something else than arrays.
        ValueError: If names or shapes differ from `parameters`, a number is not finite, or
            `num_examples` is negative.
    """
    if not isinstance(result, FitResult):
        raise TypeError(f"fit must return a red_tui.FitResult, not {type(result).__name__}")
    check_parameters(result.parameters, "the parameters that fit returned")
    if result.parameters.keys() != parameters.keys():
        missing, extra = parameters.keys() - result.parameters.keys(), result.parameters.keys() - parameters.keys()
        raise ValueError(f"fit returned other parameters: missing {sorted(missing)}, not asked for {sorted(extra)}")
    for name, value in result.parameters.items():
        if value.shape != parameters[name].shape:
            raise ValueError(f"fit returned {name!r} with shape {value.shape}, the model's is {parameters[name].shape}")
    check_weight(result.num_examples)
    return result


def check_evaluate(result: Any) -> EvaluateResult:
    """Return what `evaluate` gave if it can be averaged.

    Raises:
        TypeError: If it is no `EvaluateResult`.
        ValueError: If the loss is not finite or `num_examples` is negative.
    """
    if not isinstance(result, EvaluateResult):
        raise TypeError(f"evaluate must return a red_tui.EvaluateResult, not {type(result).__name__}")
    if not np.isfinite(result.loss):
        raise ValueError(f"evaluate returned the loss {result.loss}")
    check_weight(result.num_examples)
    return result


def check_weight(num_examples: Any) -> None:
    """Raise ValueError unless `num_examples` is a finite number that is not negative."""
    if not isinstance(num_examples, (int, float, np.number)) or not np.isfinite(num_examples) or num_examples < 0:
        raise ValueError(f"num_examples must be a finite number that is not negative, not {num_examples!r}")


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain floats; what is not a number is refused.

    Raises:
        TypeError: If a value is no number.
    """
    plain = {}
    for name, value in metrics.items():
        if not isinstance(value, (int, float, np.number, np.bool_)):
            raise TypeError(f"metric {name!r} must be a number, not {type(value).__name__}")
        plain[str(name)] = float(value)
    return plain
