"""Fixtures of the tests with a hub in the cluster."""

from tests.in_cluster.fixtures import home, own_cluster
from tests.walk.browsing import browser, shots

__all__ = ["browser", "home", "own_cluster", "shots"]
