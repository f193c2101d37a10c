"""A PostgreSQL server of these tests' own."""

from tests.storage.conftest import postgresql

__all__ = ["postgresql"]
