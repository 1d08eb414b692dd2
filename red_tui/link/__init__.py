"""The bridge between the console, which never imports ray, and the cluster."""
