"""Where nodes live: shares, placement groups, the pool and build plans."""
