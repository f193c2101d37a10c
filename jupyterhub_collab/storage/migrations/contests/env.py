"""Run by alembic, in the transaction that `storage.contest_migration` began."""

from __future__ import annotations

from alembic import context

from jupyterhub_collab.storage.contest_migration import VERSION_TABLE
from jupyterhub_collab.storage.contest_tables import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables,
    version_table=VERSION_TABLE,
)
context.run_migrations()
