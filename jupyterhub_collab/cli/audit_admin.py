"""`jupyterhub-collab audit keygen|emitter`: what an administrator of the audit service does.

What: parses arguments, prints sentences.
It must not: print a secret, but a new one to whom it was made for.
"""

from __future__ import annotations

import typer


def register(audits: typer.Typer) -> None:
    """Add the commands to the group."""
    emitters = typer.Typer(no_args_is_help=True, help="Who may tell the log of events.")
    emitters.callback()(_emitters)
    audits.add_typer(emitters, name="emitter")


def _emitters() -> None:
    """Who may tell the log of events."""
