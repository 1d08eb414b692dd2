"""`red-console`: the command, and its verbs without a screen."""
