"""`new`: a folder with a federation of one's own, which runs at once: layout, template, test and README."""

from __future__ import annotations

import argparse
import keyword
import re
from pathlib import Path

from red_tui.cli.output import OUTPUT, say
from red_tui.errors import CommandRefused, WrongUse

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 40
KINDS = ("numpy", "torch", "sklearn", "jax")

_LAYOUT = """\
# {title}
# Run it: red-console run layout.yaml
federation: {name}
schema: star
template: {module}:Client
nodes:
  - {{count: 7, role: train, id: "client_{{i}}"}}
  - {{count: 1, role: train-eval, id: "judge_{{i}}"}}   # it judges on images that nobody learns from
data: {{source: "{module}:examples", partition: {{name: dirichlet, alpha: 0.5, min_size: 20, seed: 1}}}}
placement: {{isolation: bundle, strategy: PACK, bundles: 2}}
rounds: {{strategy: {{name: fedavg}}, count: 10, deadline: 60, min_results: 0.5, seed: 1}}
failure: {{policy: rebuild, max_rebuilds: 3}}
config: {{seed: 1, learning_rate: {rate}, batch_size: 16, local_epochs: 2}}
"""

_DATA = '''

def examples():
    """Images as rows of 64 numbers, and their labels: `data.source` of the layout.  Put your own data here."""
    digits = load_digits()
    return digits.train_images, digits.train_labels

'''

_EVAL = """
    def eval_data(self):
        digits = load_digits()
        return digits.test_images, digits.test_labels
"""

_TEMPLATES = {
    "numpy": '''\
"""A linear model in numpy."""

import numpy as np

import red_tui as red
from red_tui.examples.digits import load_digits
'''
    + _DATA
    + """
class Client(red.FederatedNode):
    def initial_parameters(self):
        return {"weights": np.zeros((64, 10), np.float32), "biases": np.zeros(10, np.float32)}

    def fit(self, parameters, config):
        images, labels = self.data  # this node's part
        new = {name: array.copy() for name, array in parameters.items()}  # those given may be read-only
        rng, size = self.rng(config["round"]), self.config.batch_size
        for _ in range(self.config.local_epochs):
            order = rng.permutation(len(labels))
            for begin in range(0, len(order), size):
                batch = order[begin : begin + size]
                slopes = np.exp(log_probabilities(new, images[batch]))
                slopes[np.arange(len(batch)), labels[batch]] -= 1
                slopes *= self.config.learning_rate / len(batch)
                new["weights"] -= images[batch].T @ slopes
                new["biases"] -= slopes.sum(axis=0)
        return red.FitResult(new, len(labels), {"loss": judge(new, images, labels)[0]})

    def evaluate(self, parameters, config):
        digits = load_digits()
        loss, accuracy = judge(parameters, digits.test_images, digits.test_labels)
        return red.EvaluateResult(loss, len(digits.test_labels), {"accuracy": accuracy})


def log_probabilities(parameters, images):
    scores = images @ parameters["weights"] + parameters["biases"]
    scores -= scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def judge(parameters, images, labels):
    logs = log_probabilities(parameters, images)
    loss = -float(logs[np.arange(len(labels)), labels].mean())
    return loss, float((logs.argmax(axis=1) == labels).mean())
""",
    "torch": '''\
"""A small network of PyTorch."""

from torch import nn

from red_tui.examples.digits import load_digits
from red_tui.torch import TorchNode
'''
    + _DATA
    + """
class Client(TorchNode):
    def model(self):
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""
    + _EVAL,
    "sklearn": '''\
"""A linear model of scikit-learn."""

from sklearn.linear_model import SGDClassifier

from red_tui.examples.digits import load_digits
from red_tui.sklearn import SklearnNode
'''
    + _DATA
    + """
class Client(SklearnNode):
    def model(self):
        return SGDClassifier(loss="log_loss")
"""
    + _EVAL,
    "jax": '''\
"""A linear model of JAX."""

import jax
import jax.numpy as jnp

from red_tui.examples.digits import load_digits
from red_tui.jax import JaxNode
'''
    + _DATA
    + """
class Client(JaxNode):
    def model(self, key):
        return {"weights": 0.01 * jax.random.normal(key, (64, 10)), "biases": jnp.zeros(10)}

    def apply(self, parameters, inputs):
        return inputs @ parameters["weights"] + parameters["biases"]
"""
    + _EVAL,
}

_TEST = '''\
"""One node, without Ray: a round makes it better.  Run it: python -m pytest"""

from pathlib import Path

import red_tui as red
from red_tui.layout import load

from {module} import Client


def test_a_round_makes_a_node_better():
    layout = load(Path(__file__).with_name("layout.yaml"))
    # The only node, which has all of the data.
    config = red.FederationConfig(**{{**layout.common_config(), "node_index": 0, "num_nodes": 1}})
    node = Client("client_0", "train-eval", config)
    start = node.initial_parameters()
    result = node.fit(start, {{"round": 1}})
    assert result.num_examples > 0
    assert node.evaluate(result.parameters, {{"round": 1}}).loss < node.evaluate(start, {{"round": 1}}).loss
'''

_README = """\
# {name}

{title}.

{install}    red-console check layout.yaml         # is the layout right?
    red-console data layout.yaml          # who has which examples
    red-console run layout.yaml           # ten rounds, without a screen
    red-console layout.yaml               # the same in the console
    python -m pytest                      # one node, without Ray

`{module}.py` holds the data (`examples`) and what a node does (`Client`): change them.
`layout.yaml` says how many nodes there are, how the data are dealt out, how rounds run, and what is in `self.config`.
"""

_TITLES = {
    "numpy": "Handwritten digits, eight clients, a linear model in numpy",
    "torch": "Handwritten digits, eight clients, a small network of PyTorch",
    "sklearn": "Handwritten digits, eight clients, a linear model of scikit-learn",
    "jax": "Handwritten digits, eight clients, a linear model of JAX",
}


def new(options: argparse.Namespace) -> int:
    """Write the folder.

    Raises:
        WrongUse: If the name cannot be a federation's and a module's.
        CommandRefused: If there is something of that name, or it cannot be written.
    """
    folder, kind = Path(options.name), options.kind
    for name, text in files_of(options.name, kind).items():
        if name == "layout.yaml":
            try:
                folder.mkdir()
            except FileExistsError:
                raise CommandRefused(
                    f"{folder} is there already, and nothing in it is overwritten: name another"
                ) from None
            except OSError as error:
                raise CommandRefused(f"{folder} cannot be made: {error.strerror}") from error
        try:
            # Exclusively: nothing is overwritten, whoever else writes there.
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CommandRefused(f"{folder / name} cannot be written: {error.strerror}") from error
        OUTPUT.write(f"{folder / name}\n")
    say(f"run it: cd {folder} && red-console run layout.yaml")
    return 0


def files_of(name: str, kind: str) -> dict[str, str]:
    """What a new folder holds, by name.

    Args:
        name: The federation's and the folder's.
        kind: One of `KINDS`.

    Raises:
        WrongUse: If the name cannot be a federation's and a module's.
    """
    if len(name) > MAX_NAME or not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise WrongUse(
            f"{name!r} cannot name a federation and its module: write small letters, digits and single dashes, at most"
            f" {MAX_NAME}, a letter first, such as my-digits"
        )
    module = f"{name.replace('-', '_')}_nodes"
    install = "" if kind == "numpy" else f"    pip install 'red-tui[{kind}]'\n"
    told = {"name": name, "module": module, "title": _TITLES[kind], "install": install}
    return {
        "layout.yaml": _LAYOUT.format(**told, rate=0.05 if kind == "sklearn" else 0.1),
        f"{module}.py": _TEMPLATES[kind],
        f"test_{module}.py": _TEST.format(**told),
        "README.md": _README.format(**told),
    }
