"""Models of JAX as nodes of a federation; needs the extra `red-tui[jax]`."""

from __future__ import annotations

from red_tui.jax.jax_node import JaxNode
from red_tui.jax.trees import TreeError, parameters_to_tree, tree_to_parameters

__all__ = ["JaxNode", "TreeError", "parameters_to_tree", "tree_to_parameters"]
