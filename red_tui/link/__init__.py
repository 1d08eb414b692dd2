"""red-tui."""
