"""Who talks to whom: topologies, and how models mix along them."""

from red_tui.messaging.topology import (
    RULES,
    Topology,
    TopologyRule,
    consensus_distance,
    mixing_matrix,
    mixing_weights,
    spectral_gap,
)

__all__ = [
    "RULES",
    "Topology",
    "TopologyRule",
    "consensus_distance",
    "mixing_matrix",
    "mixing_weights",
    "spectral_gap",
]
