"""The layouts that ship for other libraries run as they are, and learn."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import ray

import red_tui as red
from red_tui.cli.main import main

LAYOUTS = {
    "digits-sklearn": (["sklearn"], 6, 0.85),
    "mnist-torch": (["torch", "mlxtend"], 4, 0.8),
    "lora": (["torch"], 8, 0.7),
}


@pytest.fixture(scope="module")
def four_cpus() -> Iterator[None]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR", namespace="red")
    yield
    ray.shutdown()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_runs_as_it_is_and_learns(name: str, four_cpus: None, capsys: pytest.CaptureFixture[str]) -> None:
    needs, rounds, accuracy = LAYOUTS[name]
    for module in needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: `make test-extras` installs it")
    assert main(["check", name]) == 0 and "good: federation" in capsys.readouterr().out
    with red.Federation.from_layout(name) as federation:
        federation.run(rounds)
        assert not any(result.failures for result in federation.history)
        assert federation.history[-1].metrics["accuracy"] > accuracy
        travels = sum(array.size for array in federation.parameters().values())
    if name == "lora":
        from red_tui.examples.lora_digits import AdaptedTransformer

        whole = sum(parameter.numel() for parameter in AdaptedTransformer(4).parameters())
        assert travels < whole / 5, "the base stays where it is"
