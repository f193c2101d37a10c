"""`jupyterhub-collab audit ...`: checking the audit log, and running the service that keeps it.

What: the group of commands; those of an administrator are in `audit_admin`.
It must not: decide anything; what a command does lives below it.
"""

from __future__ import annotations

import typer

from . import audit_admin

audits = typer.Typer(
    no_args_is_help=True,
    help="The audit log: check it offline, prove an event, run the service.",
)


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(audits, name="audit")
    audit_admin.register(audits)
