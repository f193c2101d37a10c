"""`jupyterhub-collab audit keygen|emitter`: what an administrator of the audit service does.

What: parses arguments, writes keys and the file of emitters, prints sentences.
It must not: print a secret, but a new token to whom it was made for; nor write over a key.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from ..anchors.files import write_whole
from ..errors import UserError
from ..policy.audit_emitters import (
    DEFAULT_VERBS,
    Emitter,
    Emitters,
    EmittersError,
    hash_token,
    read_emitters,
)
from ..policy.checkpoint import KeyTextError, LogSigner

EmittersPath = Annotated[
    Path,
    typer.Option(
        "--file", envvar="COLLAB_AUDIT_EMITTERS_FILE", help="The service's file of emitters."
    ),
]


def register(audits: typer.Typer) -> None:
    """Add the commands to the group."""
    audits.command()(keygen)
    emitters = typer.Typer(no_args_is_help=True, help="Who may tell the log of events.")
    for command in (add, list_emitters, remove):
        emitters.command(command.__name__.partition("_")[0])(command)
    audits.add_typer(emitters, name="emitter")


def keygen(
    name: Annotated[str, typer.Argument(help="Of the log, for good: hub.example.org/audit")],
    out: Annotated[Path, typer.Option(help="New file for the private key.")],
) -> None:
    """Make a log's key. Prints the public half: give that to whoever shall check the log."""
    try:
        signer = LogSigner.generate(name)
    except KeyTextError as e:
        raise UserError(str(e)) from e
    _write_new(out, signer.to_text())
    print(signer.verifier.to_text())


def add(
    name: Annotated[str, typer.Argument(help="Of the emitter: hub, provisioner, ...")],
    file: EmittersPath,
    verb: Annotated[
        list[str] | None,
        typer.Option(help="What it may tell: login, server.*; may be repeated."),
    ] = None,
    token_out: Annotated[
        Path | None, typer.Option(help="New file for its token; else it is printed, once.")
    ] = None,
) -> None:
    """Let an emitter tell events, with a new token. Our own programs' verbs are known."""
    emitters = _read(file) if file.exists() else Emitters()
    if any(e.name == name for e in emitters.all):
        raise UserError(f"There is an emitter {name}; remove it first. Its token is void then.")
    verbs = tuple(verb or DEFAULT_VERBS.get(name, ()))
    if not verbs:
        raise UserError(f"Say what {name} may tell: --verb dataset.read")
    token = secrets.token_urlsafe(32)
    emitter = Emitter.model_construct(name=name, token_sha256=hash_token(token), verbs=verbs)
    text = Emitters((*emitters.all, emitter)).to_text()
    try:
        read_emitters(text)
    except EmittersError as e:
        raise UserError(f"No such emitter can be: {e}") from e
    if token_out is not None:
        _write_new(token_out, token)
    _write(file, text)
    if token_out is None:
        print(token)


def list_emitters(file: EmittersPath) -> None:
    """Who may tell what."""
    for emitter in _read(file).all:
        print(f"{emitter.name}\t{' '.join(emitter.verbs)}")


def remove(name: Annotated[str, typer.Argument()], file: EmittersPath) -> None:
    """An emitter may tell nothing any more: its token is void within seconds."""
    emitters = _read(file)
    left = tuple(e for e in emitters.all if e.name != name)
    if len(left) == len(emitters.all):
        raise UserError(f"There is no emitter {name} in {file}.")
    _write(file, Emitters(left).to_text())


def _read(file: Path) -> Emitters:
    try:
        return read_emitters(file.read_bytes())
    except OSError as e:
        raise UserError(f"The file of emitters {file} cannot be read: {e.strerror}") from e
    except EmittersError as e:
        raise UserError(f"The file of emitters {file} cannot be used: {e}") from e


def _write(file: Path, text: str) -> None:
    try:
        write_whole(file, text.encode())
    except OSError as e:
        raise UserError(f"The file of emitters {file} cannot be written: {e.strerror}") from e


def _write_new(path: Path, text: str) -> None:
    """Never over another, and at no moment readable by others."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as e:
        raise UserError(f"{path} is there already; it is left as it is") from e
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror}") from e
    with open(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
