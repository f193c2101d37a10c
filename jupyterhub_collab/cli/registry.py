"""`jupyterhub-collab registry`: one static page above several hubs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..policy.registry_page import make_registry_page, parse_registry

PAGE = "index.html"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(registry)


def registry(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The registry file (YAML).")],
    out: Annotated[Path, typer.Option(help="Folder for the page; made if there is none.")],
) -> None:
    """Write a page that lists contests on several hubs, for any web server."""
    try:
        text = file.read_bytes()
    except OSError as e:
        raise UserError(f"{file} cannot be read: {e.strerror}") from e
    page = make_registry_page(parse_registry(text, file=str(file)))
    path = out / PAGE
    new = out / f".{PAGE}.new"
    try:
        out.mkdir(parents=True, exist_ok=True)
        new.write_text(page, encoding="utf-8")
        os.replace(new, path)  # who reads it meanwhile has the old one or the new one, whole
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror}") from e
    print(path)
