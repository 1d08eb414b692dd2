"""red-tui: a federation of virtual nodes on Ray.

`import red_tui as red` is all that a script needs.  It imports neither textual nor, until the first
verb that needs a cluster, ray.  `__init__.pyi` lists the public names.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
