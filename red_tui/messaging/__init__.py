"""Who talks to whom: topologies, and how models mix along them.

Names are imported when they are first used: topologies need networkx, which costs each worker process of a node 0.1
CPU-seconds and 20 MB, and nodes know their neighbours without it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
