"""What runs inside workers: nodes as processes of their own, and bundles that hold many nodes."""
