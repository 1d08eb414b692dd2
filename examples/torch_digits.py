"""PyTorch: a model and a data set become a federation (needs red-tui[torch])."""

import torch

import red_tui as red
from red_tui.examples.digits import load_digits
from red_tui.torch import TorchNode


def digits() -> tuple:
    loaded = load_digits()
    return loaded.train_images, loaded.train_labels


class Client(TorchNode):
    def model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def eval_data(self) -> tuple:
        loaded = load_digits()
        return loaded.test_images, loaded.test_labels


if __name__ == "__main__":
    config = {
        "federation_id": "torch",
        "data": {"source": "torch_digits:digits", "partition": {"name": "dirichlet", "alpha": 0.5}},
        "learning_rate": 0.1,
        "local_epochs": 2,
        "seed": 1,
    }
    with red.StarFederatedLearningSchema(Client, ["train"] * 7 + ["train-eval"], config, isolation="bundle") as fed:
        fed.run(10)
        print(fed.history)
        print(f"accuracy {fed.history[-1].metrics['accuracy']:.2f}")
