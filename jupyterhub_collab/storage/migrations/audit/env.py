"""Run by alembic, in the transaction that `storage.audit_writer` began."""

from __future__ import annotations

from alembic import context

from jupyterhub_collab.storage.audit_tables import VERSION_TABLE, tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables,
    version_table=VERSION_TABLE,
)
context.run_migrations()
