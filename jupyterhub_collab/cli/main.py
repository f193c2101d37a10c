"""The command line: `jupyterhub-collab`.

What: where each command is; sentences and exit codes of what went wrong.
It must not: decide anything; what a command does lives below it. Nor import a command's module:
`LazyGroup` does that for the command that was asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import ClassVar

import typer
from rich.console import Console
from rich.markup import escape

from ..errors import CollabError
from .lazy_group import LazyGroup


class Commands(LazyGroup):
    """All of them."""

    modules: ClassVar[Mapping[str, str]] = {
        "up": "up.arguments",
        "plan": "contest",
        "apply": "contest",
        "schema": "contest",
        "rbac": "cluster",
        "recover": "recover",
        "install": "install",
        "registry": "registry",
        "portal-token": "portal",
        "doctor": "doctor",
        "contest": "contest_life",
        "audit": "audit",
    }


app = typer.Typer(
    name="jupyterhub-collab",
    help="Teams on JupyterHub, each in a Kubernetes namespace of its own.",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Makes it a group though it has no command of its own."""


def main() -> None:
    """Entry point: every expected failure is its sentence on stderr and exit code 1."""
    try:
        app()
    except CollabError as e:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]jupyterhub-collab:[/] {escape(str(e))}"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
