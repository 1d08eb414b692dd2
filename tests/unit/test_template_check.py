"""Where users trip: what a template does wrong is said before its first round, or with the line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.errors import LayoutError
from red_tui.federation.schemas import spec_of
from red_tui.layout import load_template, loads
from red_tui.nodes.template_check import signature_trouble
from red_tui.nodes.user_code import failure_report


def template(**members: Any) -> type:
    return type("Client", (red.FederatedNode,), members)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (
            {"fit": lambda self, parameters: None},
            "Client.fit(self, parameters) cannot be called as it is here (too many",
        ),
        ({"fit": lambda self, parameters: None}, "write def fit(self, parameters, config)"),
        ({"fit": lambda: None}, "write def fit(self, parameters, config)"),
        ({"evaluate": lambda self, a, b, c: None}, "(missing a required argument: 'c'): write def evaluate(self,"),
        ({"evaluate": lambda self, *, parameters, config: None}, "write def evaluate(self, parameters, config)"),
        ({"initial_parameters": lambda self, seed: None}, "write def initial_parameters(self)"),
        (
            {"__init__": lambda self: None},
            "write def __init__(self, node_id, role, config, log); pass them on to super",
        ),
        ({"__init__": lambda self, model: None}, "and do the work in build"),
        (
            {"__init__": lambda self, a, b, c, d: None},
            "write def __init__(self, node_id, role, config, log); pass them",
        ),
        ({"get_state": lambda self, round_number: None}, "write def get_state(self)"),
        ({"get_state": lambda self: 1, "set_state": lambda self: None}, "write def set_state(self, state)"),
        ({"fit": None}, "Client.fit is NoneType, not a method: write def fit(self, parameters, config)"),
        ({"fit": staticmethod(lambda parameters: None)}, "write def fit(self, parameters, config)"),
    ],
)
def test_a_template_that_cannot_be_called_is_refused_before_its_first_round(members: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError) as caught:
        red.StarFederatedLearningSchema(template(**members), ["train-eval"] * 2)
    assert told in str(caught.value) and str(caught.value).startswith("client_template: Client.")


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def passed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return passed


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"fit": lambda self, parameters, config, more=1: None},
        {"fit": lambda self, *args: None, "__init__": lambda self, *args, **kwargs: None},
        {"__init__": lambda self, node_id, role, config, log=None, more=2: None},
        {"fit": staticmethod(lambda parameters, config: None)},
        {"fit": classmethod(lambda cls, parameters, config: None)},
        {"fit": functools.partialmethod(lambda self, rate, parameters, config: None, 0.1)},
        {"fit": passing_on(lambda self, parameters: None)},
        {"__init__": lambda self, node_id, role, config, logger=None: None},
        {"__init__": lambda self, *, node_id, role, config, log: None},
        {"set_state": lambda self: None},
    ],
)
def test_whatever_can_be_called_is_taken(members: dict[str, Any]) -> None:
    assert signature_trouble(template(**members)) == ""


def by_position(self: Any, node_id: str, role: str, config: Any, logger: Any = None) -> None:
    red.FederatedNode.__init__(self, node_id, role, config, logger)


def by_name(self: Any, *, node_id: str, role: str, config: Any, log: Any) -> None:
    red.FederatedNode.__init__(self, node_id, role, config, log)


@pytest.mark.parametrize(
    ("constructor", "taken", "refused"), [(by_position, "bundle", "process"), (by_name, "process", "bundle")]
)
def test_a_constructor_is_looked_at_as_its_isolation_calls_it(constructor: Any, taken: str, refused: str) -> None:
    client = template(__init__=constructor)
    assert signature_trouble(client, ("train",), taken) == ""
    red.StarFederatedLearningSchema(client, ["train"] * 2, isolation=taken)
    with pytest.raises(TypeError, match=r"client_template: Client\.__init__\(self.* cannot be called as it is"):
        red.StarFederatedLearningSchema(client, ["train"] * 2, isolation=refused)


def test_methods_that_no_role_calls_are_a_templates_own() -> None:
    client = template(evaluate=lambda self, loader: None)
    red.StarFederatedLearningSchema(client, ["train"] * 2)
    with pytest.raises(TypeError, match=r"client_template: Client\.evaluate\(self, loader\) cannot be called"):
        red.StarFederatedLearningSchema(client, ["train", "train-eval"])
    judge = template(fit=lambda self, model: None, initial_parameters=lambda self, seed: None)
    assert signature_trouble(judge, ("eval",)) == "" and signature_trouble(judge, ("eval", "train")) != ""
    own = type("Server", (red.FederatedServer,), {"fit": lambda self, x: None, "evaluate": lambda self, x: None})
    red.StarFederatedLearningSchema(template(), ["train"] * 2, server_template=own)


LAYOUT = """
federation: of-roles
template: nodes_of_roles:Client
nodes: [{{count: 2, role: {role}}}]
placement: {{isolation: {isolation}}}
"""


def test_a_layout_looks_at_what_its_roles_and_its_isolation_call(tmp_path: Path) -> None:
    (tmp_path / "nodes_of_roles.py").write_text(
        "import red_tui as red\nclass Client(red.FederatedNode):\n"
        "    def __init__(self, node_id, role, config, logger=None):\n"
        "        super().__init__(node_id, role, config, logger)\n"
        "    def evaluate(self, loader): return None\n"
    )

    def read(role: str, isolation: str) -> Any:
        return spec_of(loads(LAYOUT.format(role=role, isolation=isolation), "a.yaml"), "a.yaml", tmp_path)

    assert read("train", "bundle")[1].groups[0].template.__name__ == "Client"
    with pytest.raises(LayoutError, match=r"template: Client\.evaluate\(self, loader\) cannot be called"):
        read("train-eval", "bundle")
    with pytest.raises(LayoutError, match=r"template: Client\.__init__\(self, .*'log'"):
        read("train", "process")


def test_a_layout_names_the_line_of_a_template_that_cannot_be_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong_fit_nodes.py").write_text(
        "import red_tui as red\nclass Client(red.FederatedNode):\n    def fit(self, parameters): return None\n"
    )
    with pytest.raises(LayoutError, match=r"a\.yaml:3:11: template: Client\.fit\(self, parameters\) cannot be called"):
        load_template("wrong_fit_nodes:Client", tmp_path, "a.yaml", position=(3, 11))


def refused_write(method: str) -> str:
    shared = np.zeros(3)
    shared.flags.writeable = False
    try:
        shared[0] = 1
    except ValueError as error:
        return str(failure_report(error, method)["error"])
    return ""


@pytest.mark.parametrize("method", ["train", "build", "aggregate", "initial_parameters", "evaluator"])
def test_arrays_that_came_from_elsewhere_are_not_called_shared_parameters(method: str) -> None:
    told = refused_write(method)
    assert "shares its parameters" not in told and "parameters.items()" not in told
    assert "what comes from another process, or is shared, cannot be written to; copy the array before" in told
    assert "test_template_check.py, line " in told


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_fit_and_evaluate_are_told_of_the_parameters_that_they_share(method: str) -> None:
    assert f"{method} shares its parameters with other nodes" in refused_write(method)


@pytest.mark.parametrize("how", ["item", "whole", "fill"])
def test_parameters_that_are_changed_in_place_name_the_line_and_what_to_do(how: str) -> None:
    shared = np.zeros(3)
    shared.flags.writeable = False
    try:
        if how == "item":
            shared[0] = 1
        elif how == "whole":
            shared += 1
        else:
            shared.fill(1)
    except ValueError as error:
        told = failure_report(error, "fit")["error"]
    assert told.startswith("ValueError: ") and "read-only" in told
    assert "test_template_check.py, line " in told
    assert "fit shares its parameters with other nodes, and may not write to them; copy what you change" in told
