"""The screens beside the grid: nodes, rounds, placement, topology, events, and one node in detail."""
