"""What judges on the server's node: what is allowed, what is told of it, and what breaks nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.aggregation.evaluator import CentralEvaluator, check_evaluator
from red_tui.errors import LayoutError
from red_tui.federation.argument_checks import evaluator_of
from red_tui.federation.schemas import spec_of
from red_tui.layout import loads
from red_tui.rounds.loop import with_central

PARAMETERS = {"w": np.asarray([1.0, 3.0])}


def judge(parameters: Any, config: Any) -> dict[str, float]:
    return {"loss": float(parameters["w"].mean()), "round": float(config["round"])}


class Judge:
    made = 0

    def __init__(self) -> None:
        Judge.made += 1

    def evaluate(self, parameters: Any, config: Any) -> red.EvaluateResult:
        return red.EvaluateResult(float(parameters["w"].sum()), 10, {"accuracy": np.float32(0.5)})


def told(evaluator: Any, times: int = 1, token: str = "a") -> dict[str, Any]:
    central = CentralEvaluator()
    for number in range(1, times + 1):
        report = central.judge(number, token, lambda: evaluator, PARAMETERS, {"round": number})
    return report


def test_a_function_a_class_an_object_and_a_name_can_judge() -> None:
    assert told(judge, 3) == {"figures": {"loss": 2.0, "round": 3.0}}
    before = Judge.made
    assert told(Judge, 3) == {"figures": {"accuracy": 0.5, "loss": 4.0}}
    assert Judge.made == before + 1, "a class is made once"
    assert told(Judge())["figures"]["loss"] == 4.0
    assert told(f"{__name__}:judge")["figures"]["loss"] == 2.0


@pytest.mark.parametrize(
    ("evaluator", "error"),
    [
        (lambda parameters, config: 0.5, "not float"),
        (lambda parameters, config: None, "not NoneType"),
        (lambda parameters, config: {"loss": float("nan")}, "returned the loss nan"),
        (lambda parameters, config: {"f1": "high"}, "metric 'f1'"),
        (lambda parameters, config: 1 / 0, "ZeroDivisionError"),
        (f"{__name__}:nothing", "has no nothing"),
        ("no_such_module_here:judge", "no_such_module_here"),
    ],
)
def test_what_goes_wrong_is_a_report(evaluator: Any, error: str) -> None:
    report = told(evaluator)
    assert error in report["error"] and "figures" not in report


def test_a_judgement_that_does_not_return_keeps_one_thread_and_no_more() -> None:
    central, go, inside = CentralEvaluator(), threading.Event(), threading.Event()

    def hangs(parameters: Any, config: Any) -> dict[str, float]:
        inside.set()
        go.wait(30)
        return {"loss": 1.0}

    first = threading.Thread(target=central.judge, args=(1, "a", lambda: hangs, PARAMETERS, {}))
    first.start()
    assert inside.wait(30)
    assert central.judge(2, "a", lambda: hangs, PARAMETERS, {})["error"] == "that of round 1 still runs"
    go.set()
    first.join(30)
    assert central.judge(3, "a", lambda: hangs, PARAMETERS, {}) == {"figures": {"loss": 1.0}}


@pytest.mark.parametrize("given", [5, "judge", {"loss": 1}, type("Empty", (), {})])
def test_what_cannot_judge_is_refused_with_what_can(given: Any) -> None:
    with pytest.raises(TypeError, match=r"evaluator must be a function of \(parameters, config\), or a class"):
        check_evaluator(given)


def test_an_evaluator_that_cannot_travel_is_refused_before_anything_starts() -> None:
    lock = threading.Lock()
    with pytest.raises(ValueError, match=r"evaluator.*cannot travel"):
        evaluator_of(lambda parameters, config: {"loss": float(lock.locked())})
    assert evaluator_of(None) is None


def test_central_figures_stand_plainly_where_no_node_judged() -> None:
    central = {"loss": 0.25, "accuracy": 0.75}
    named = {"central_loss": 0.25, "central_accuracy": 0.75}
    assert with_central({"evaluated": 2, "loss": 0.5, "metrics": {"accuracy": 0.5}}, central) == {
        "metrics": {"accuracy": 0.5, **named}
    }
    assert with_central({"evaluated": 0, "loss": float("nan"), "metrics": {}}, central) == {
        "loss": 0.25,
        "metrics": {"accuracy": 0.75, **named},
    }


LAYOUT = """\
federation: judged
template: red_tui.examples.digits:DigitsClient
nodes:
  - {{count: 2, role: train}}
rounds: {{evaluator: "{evaluator}", node_history: true}}
hooks: {hooks}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "judges_here.py").write_text(
        "import red_tui as red\n"
        "def judge(parameters, config): return {'loss': 0.0}\n"
        "number = 5\n"
        "class Notes(red.RoundHook): pass\n"
        "class Needs(red.RoundHook):\n"
        "    def __init__(self, folder): pass\n",
        encoding="utf-8",
    )
    monkeypatch.delitem(__import__("sys").modules, "judges_here", raising=False)
    return tmp_path


def test_a_layout_names_its_evaluator_and_its_hooks(folder: Path) -> None:
    text = LAYOUT.format(evaluator="judges_here:judge", hooks='["judges_here:Notes"]')
    _, spec = spec_of(loads(text), "x.yaml", folder)
    assert spec.evaluator == "judges_here:judge" and spec.settings.node_history
    assert [type(hook).__name__ for hook in spec.hooks] == ["Notes"]


@pytest.mark.parametrize(
    ("evaluator", "hooks", "place", "error"),
    [
        ("judges_here:juge", "[]", "x.yaml:5:21: rounds.evaluator", "has no juge; did you mean judge"),
        ("judges_here:number", "[]", "x.yaml:5:21: rounds.evaluator", "int has no evaluate"),
        ("judges_not_here:judge", "[]", "x.yaml:5:21: rounds.evaluator", "there is no module 'judges_not_here'"),
        ("judges_here:judge", '["judges_here:judge"]', "x.yaml:6:9: hooks[0]", "is a function, not a class"),
        ("judges_here:judge", '["judges_here:Needs"]', "hooks[0]", "made without arguments"),
        ("judges_here:judge", '["red_tui:FederatedNode"]', "hooks[0]", "does not derive from RoundHook"),
    ],
)
def test_a_layout_that_names_none_says_where(folder: Path, evaluator: str, hooks: str, place: str, error: str) -> None:
    with pytest.raises(LayoutError) as caught:
        spec_of(loads(LAYOUT.format(evaluator=evaluator, hooks=hooks), "x.yaml"), "x.yaml", folder)
    assert place in caught.value.message and error in caught.value.message
