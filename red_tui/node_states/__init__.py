"""What nodes keep between turns: where it lies, in memory or in files, and the files themselves."""
