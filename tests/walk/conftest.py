"""Fixtures of the walks."""

from tests.walk.browsing import browser, shots

__all__ = ["browser", "shots"]
