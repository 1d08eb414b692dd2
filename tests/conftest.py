"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a slow machine is no broken law.  The same examples each time where a run decides about a change.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
