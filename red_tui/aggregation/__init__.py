"""How updates become the next parameters: weighted sums, strategies, servers and aggregators."""

from red_tui.aggregation import strategies

__all__ = ["strategies"]
