"""Models of PyTorch as nodes of a federation; needs the extra `red-tui[torch]`."""

from __future__ import annotations

from red_tui.nodes.config import round_seed
from red_tui.torch.state_dict import load_parameters_into, parameters_to_state_dict, state_dict_to_parameters
from red_tui.torch.torch_node import TorchNode

__all__ = [
    "TorchNode",
    "load_parameters_into",
    "parameters_to_state_dict",
    "round_seed",
    "state_dict_to_parameters",
]
