"""What an operator types: keys, filters and commands."""
