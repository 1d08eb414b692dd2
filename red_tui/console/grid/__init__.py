"""The grid of nodes: where each stands, and how its lines are drawn."""
