"""The life of nodes: started, lost, rebuilt, released; one module for each kind of place they live in."""
