"""Runs: what each launch did, to be listed, named, compared and cleared away; files only, no cluster."""
