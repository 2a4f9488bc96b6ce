"""What all rooms share."""

from __future__ import annotations

from hypothesis import settings

# a shared machine may take 200 ms for an import: slowness is the bench's subject, not a test's
settings.register_profile("rtcore", deadline=None)
settings.load_profile("rtcore")
