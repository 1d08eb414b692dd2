"""The names that `red_tui.messaging` hands on, each with its home."""

from .topology import (
    RULES as RULES,
    Topology as Topology,
    TopologyRule as TopologyRule,
    consensus_distance as consensus_distance,
    mixing_matrix as mixing_matrix,
    mixing_weights as mixing_weights,
    spectral_gap as spectral_gap,
)
