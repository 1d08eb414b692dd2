"""Checkpoints as files: what they hold, which of them stay, and how they are found again.  No Ray."""
