"""The federation that lives in the cluster: supervisor, journal, clients and the embedded local cluster."""
