"""The journal: what happened to a federation, in a SQLite file, and the state that it adds up to."""
