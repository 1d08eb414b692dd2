"""What an operator prefers and what a console remembers: options, settings, themes."""
