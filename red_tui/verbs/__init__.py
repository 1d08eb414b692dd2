"""The verbs of `red-console` that need no screen: data on stdout, narration on stderr."""
