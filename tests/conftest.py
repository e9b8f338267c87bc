"""For all tests: what is drawn decides, never how long a busy machine takes to draw it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("rowcast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rowcast")
