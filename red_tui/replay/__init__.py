"""A journal played back: the federation as it was at any moment, for a console, without a cluster."""
