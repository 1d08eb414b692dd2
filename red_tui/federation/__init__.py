"""A federation: its engine, its verbs and its schemas."""
