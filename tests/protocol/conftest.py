"""Settings of the property tests of this room."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no_deadline")
