"""A federation's side of the round loop: who is called, what comes back, and what a failure means."""
