"""`jupyterhub-collab portal-token`: what a portal signs, for trying a hub out without one.

Tokens go to stdout and nowhere else. A token lets somebody in: do not keep one.
"""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..errors import UserError
from ..identity.jwks import to_key_set
from ..identity.portal_revocation import make_revocation_token
from ..identity.portal_token import LIFETIME_MAX_S, LIFETIME_S, PortalKey, make_portal_token


class Kind(str, Enum):
    """Kinds of key that portals sign with."""

    ED25519 = "ed25519"
    P256 = "p-256"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="portal-token")(portal_token)


def portal_token(
    new_key: Annotated[
        Path | None,
        typer.Option(help="Make a private key in this new file; print the public key set."),
    ] = None,
    kind: Annotated[Kind, typer.Option(help="Of the new key.")] = Kind.ED25519,
    key: Annotated[Path | None, typer.Option(help="The portal's private key (PEM).")] = None,
    issuer: Annotated[str, typer.Option(help="What the portal calls itself (iss).")] = "",
    hub: Annotated[str, typer.Option(help="The hub: https://hub.example.org/")] = "",
    contest: Annotated[str, typer.Option(help="For which contest.")] = "",
    subject: Annotated[str, typer.Option(help="The portal's key of the person.")] = "",
    nonce: Annotated[str, typer.Option(help="What the hub sent with the browser.")] = "",
    username: Annotated[str | None, typer.Option(help="preferred_username.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="A group; may be repeated.")] = None,
    claim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=JSON", help="A claim; may be repeated.")
    ] = None,
    lifetime: Annotated[
        int, typer.Option(min=1, max=LIFETIME_MAX_S, help="Seconds that it is good for.")
    ] = LIFETIME_S,
    revoke: Annotated[
        list[str] | None,
        typer.Option(metavar="SUBJECT", help="Make a revocation of this person; may be repeated."),
    ] = None,
) -> None:
    """Sign what a contest's portal signs: a log-in, or a revocation. For tests."""
    if new_key is not None:
        print(json.dumps(_make_key(new_key, kind), indent=2))
        return
    wanted: dict[str, object] = {"key": key, "issuer": issuer, "hub": hub}
    if not revoke:
        wanted |= {"contest": contest, "subject": subject, "nonce": nonce}
    missing = [f"--{name}" for name, value in wanted.items() if not value]
    if missing or key is None:
        raise UserError(f"missing: {' '.join(missing)}")
    private, now = _read_key(key), datetime.now(timezone.utc)
    try:
        if revoke:
            token = make_revocation_token(
                private, issuer=issuer, hub_url=hub, subjects=revoke, now=now
            )
        else:
            token = make_portal_token(
                private,
                issuer=issuer,
                hub_url=hub,
                contest=contest,
                subject=subject,
                nonce=nonce,
                now=now,
                lifetime_s=lifetime,
                username=username,
                groups=group or (),
                claims=_read_claims(claim or ()),
            )
    except ValueError as e:
        raise UserError(str(e)) from e
    print(token)


def _make_key(path: Path, kind: Kind) -> dict[str, Any]:
    made: PortalKey = (
        Ed25519PrivateKey.generate() if kind is Kind.ED25519 else generate_private_key(SECP256R1())
    )
    data = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        # Never over another key, and at no moment readable by others.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as e:
        raise UserError(f"{path} is there already; it is left as it is") from e
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror}") from e
    with open(handle, "wb") as file:
        file.write(data)
    return to_key_set(made.public_key())


def _read_key(path: Path) -> PortalKey:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(16_384)
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror}") from e
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"{path} can be read or changed by others: chmod 600 {path}")
    try:
        found = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise UserError(f"{path} holds no private key in PEM without a password") from e
    if not isinstance(found, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise UserError(f"{path} is neither an Ed25519 nor a P-256 key")
    return found


def _read_claims(given: list[str] | tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for text in given:
        name, separator, value = text.partition("=")
        try:
            if not separator or not name:
                raise ValueError
            found[name] = json.loads(value)
        except ValueError as e:
            raise UserError(f"--claim {name}: not NAME=JSON, such as country='\"IT\"'") from e
    return found
