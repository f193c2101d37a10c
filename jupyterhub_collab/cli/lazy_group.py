"""A group of commands whose modules are imported when a command of theirs is asked for.

What: a table of commands and modules. One command needs a hub's whole application, another a
database's library; imported for every command, they took more than a second of each start.
It must not: know what a command does.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_group


class LazyGroup(TyperGroup):
    """Commands in the order of `modules`.

    Attributes
    ----------
    modules
        Where each command is: its name to a module of this package that has `register(app)`, which
        adds the command (and others, where they belong together) to an application.
    """

    modules: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.modules:
            self._load(cmd_name)
        else:  # who mistypes is told what comes near, of all that there are
            for name in self.modules:
                self._load(name)
        return super().get_command(ctx, cmd_name)

    def _load(self, name: str) -> None:
        if name in self.commands:
            return
        app = typer.Typer()
        import_module(f"{__package__}.{self.modules[name]}").register(app)
        self.commands.update(get_group(app).commands)
