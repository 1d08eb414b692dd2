"""The folder of one run: journal, checkpoints, states, and how a federation goes on from it."""
