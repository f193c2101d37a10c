"""`jupyterhub-collab audit keygen|pubkey|emitter|erase|retire`: what the log's administrator does.

What: parses arguments, writes keys and the file of emitters, asks the service, prints sentences.
It must not: print a secret, but a new token to whom it was made for; nor write over a key.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import aiohttp
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

_TOKEN = "JUPYTERHUB_COLLAB_TOKEN"  # noqa: S105 - the name of a variable
EmittersPath = Annotated[
    Path,
    typer.Option(
        "--file", envvar="COLLAB_AUDIT_EMITTERS_FILE", help="The service's file of emitters."
    ),
]
ServiceUrl = Annotated[
    str,
    typer.Option(
        envvar="COLLAB_AUDIT_URL",
        help="The service: https://audit--service.hub.example.org/services/audit/",
    ),
]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with a token of the hub that may; else $" + _TOKEN)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(audits: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (keygen, pubkey, erase, retire):
        audits.command()(command)
    emitters = typer.Typer(no_args_is_help=True, help="Who may tell the log of events.")
    emitters.command()(add)
    emitters.command("list")(list_emitters)
    emitters.command()(remove)
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


def pubkey(key: Annotated[Path, typer.Argument(help="File with a log's private key.")]) -> None:
    """Print the public half of a log's key, as `keygen` did."""
    try:
        signer = LogSigner.from_text(key.read_text())
    except OSError as e:
        raise UserError(f"The key {key} cannot be read: {e.strerror}.") from e
    except ValueError as e:  # no UTF-8, or no key: neither text repeats it
        raise UserError(f"{key} does not hold the private key of a log.") from e
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


def erase(
    person: Annotated[str, typer.Argument(help="Hub user whose data shall go.")],
    reason: Annotated[str, typer.Option(help="Why; without the name.")],
    url: ServiceUrl,
    token_file: TokenFile = None,
    dry_run: DryRun = False,
) -> None:
    """Erase a person from the log. It can still be verified: an event says what was erased."""
    body = {"person": person, "reason": reason, "dryRun": dry_run}
    done = _ask(url, "api/erase", body, token_file)
    if dry_run:
        print(f"In {done['events']} events. Nothing is erased.")
        return
    print(f"Erased from {done['events']} events; said by event {_join(done['recorded'])}.")
    if done["events"] and not done["overwritten"]:
        print("The database's files may hold the bytes until it has cleaned up.")


def retire(
    older_than_days: Annotated[int, typer.Option(min=1, help="Events of before so many days.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    url: ServiceUrl,
    token_file: TokenFile = None,
    dry_run: DryRun = False,
) -> None:
    """Delete the oldest events, in pieces of 256. Their hashes stay, so the log still verifies."""
    body = {"olderThanDays": older_than_days, "reason": reason, "dryRun": dry_run}
    done = _ask(url, "api/retire", body, token_file)
    if dry_run:
        print(f"Up to event {done['until']}. Nothing is deleted.")
    elif "events" in done:
        print(f"Deleted {done['events']} events; said by event {_join(done['recorded'])}.")
    else:
        print("Nothing is as old as that.")


def _ask(url: str, path: str, body: dict[str, Any], token_file: Path | None) -> dict[str, Any]:
    """What the service answers. Raises UserError."""
    try:
        token = token_file.read_text().strip() if token_file else os.environ.get(_TOKEN, "")
    except OSError as e:
        raise UserError(f"The token's file {token_file} cannot be read: {e.strerror}") from e
    if not token:
        raise UserError(f"Say who asks: --token-file, or the environment variable {_TOKEN}.")
    found: dict[str, Any] = asyncio.run(_post(f"{url.rstrip('/')}/{path}", body, token))
    return found


async def _post(url: str, body: dict[str, Any], token: str) -> Any:
    headers = {"Authorization": f"token {token}"}
    timeout = aiohttp.ClientTimeout(total=600)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.post(url, json=body, allow_redirects=False) as answer,
        ):
            status, text = answer.status, await answer.text()
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as e:
        raise UserError(f"The audit service at {url} does not answer ({type(e).__name__}).") from e
    try:
        said = json.loads(text)
        message = said.get("message", "")
    except (ValueError, AttributeError):
        said, message = {}, ""
    if status != 200:
        problems = "".join(
            f" {p['field']}: found {p['found']}; expected {p['expected']}."
            for p in said.get("problems", ())
        )
        raise UserError(f"The audit service refuses ({status}): {message}{problems}")
    return said


def _join(sequences: list[str]) -> str:
    return ", ".join(sequences) or "none"


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
