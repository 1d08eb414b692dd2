"""Who talks to whom: topologies, and how models mix along them."""

from red_tui.messaging.mixing import consensus_distance, mixing_matrix, mixing_weights, spectral_gap
from red_tui.messaging.topology import RULES, Topology, TopologyRule

__all__ = [
    "RULES",
    "Topology",
    "TopologyRule",
    "consensus_distance",
    "mixing_matrix",
    "mixing_weights",
    "spectral_gap",
]
