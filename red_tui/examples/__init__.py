"""Federations that come with red-tui, on data that comes with it too."""
