"""Central evaluation: the server's node judges the parameters on data of its own, beside what nodes judge."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from red_tui.nodes.arrays import as_number
from red_tui.nodes.template import EvaluateResult, Parameters
from red_tui.nodes.user_code import check_fork, failure_report

ALLOWED = (
    "a function of (parameters, config), or a class with a method evaluate(parameters, config); it returns a"
    " red.EvaluateResult, or numbers by name such as {'loss': 0.3, 'accuracy': 0.9}"
)


def check_evaluator(evaluator: Any) -> Any:
    """Return what can judge parameters: a function, a class, an object with `evaluate`, or `module:Class|function`.

    Raises:
        TypeError: If it is none; the message says what is allowed.
    """
    if isinstance(evaluator, str):
        module, _, name = evaluator.partition(":")
        if not (module and name):
            raise TypeError(f"evaluator must be {ALLOWED}; as text it is module:name, not {evaluator!r}")
        return evaluator
    if not callable(getattr(evaluator, "evaluate", None)) and (isinstance(evaluator, type) or not callable(evaluator)):
        what = f"the class {evaluator.__name__}" if isinstance(evaluator, type) else type(evaluator).__name__
        raise TypeError(f"evaluator must be {ALLOWED}; {what} has no evaluate")
    return evaluator


class CentralEvaluator:
    """Judges for one server.  While a judgement does not return, later ones are refused at once."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._round = 0
        self._token = ""
        self._judge: Any = None

    def judge(
        self,
        round_number: int,
        token: str,
        fetch: Callable[[], Any],
        parameters: Parameters,
        config: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Judge parameters; gives a report with `figures` (numbers by name, `loss` among them), or with `error`.

        Args:
            round_number: The round.
            token: What tells the evaluator from another one.
            fetch: Gives it; called once for a token.  A class is made once, without arguments.
            parameters: Arrays by name, which are not to be changed.
            config: What nodes are told in this round.
        """
        if not self._busy.acquire(blocking=False):
            return {"error": f"that of round {self._round} still runs", "where": "", "traceback": ""}
        try:
            self._round = round_number
            if self._judge is None or token != self._token:
                self._judge, self._token = _made(fetch()), token
            figures = _figures(self._judge(parameters, dict(config)))
            check_fork()
        except BaseException as error:
            return failure_report(error, "evaluator")
        finally:
            self._busy.release()
        return {"figures": figures}


def _made(evaluator: Any) -> Any:
    """What is called with parameters and config."""
    if isinstance(evaluator, str):
        module, _, name = evaluator.partition(":")
        found = getattr(importlib.import_module(module), name, None)
        if found is None:
            raise TypeError(f"the module {module} has no {name}")
        evaluator = found
    check_evaluator(evaluator)
    judge = evaluator() if isinstance(evaluator, type) else evaluator
    return judge.evaluate if callable(getattr(judge, "evaluate", None)) else judge


def _figures(result: Any) -> dict[str, float]:
    """What an evaluator gave, as numbers by name.

    Raises:
        TypeError: If it is neither an `EvaluateResult` nor a dict of numbers.
        ValueError: If the loss is not finite.
    """
    if isinstance(result, EvaluateResult):
        told: Mapping[str, Any] = {**dict(result.metrics), "loss": result.loss}
    elif isinstance(result, Mapping):
        told = result
    else:
        raise TypeError(
            "an evaluator returns a red_tui.EvaluateResult, or a dict of numbers by name such as"
            f" {{'loss': 0.3, 'accuracy': 0.9}}, not {type(result).__name__}"
        )
    figures = {str(name): as_number(value, f"metric {str(name)[:40]!r}") for name, value in told.items()}
    if not math.isfinite(figures.get("loss", 0.0)):
        raise ValueError(f"the evaluator returned the loss {figures['loss']}")
    return figures
