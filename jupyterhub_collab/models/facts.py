"""What a source of identities says about a person. It decides nothing: `policy.entitlements` does.

Facts come from outside and are kept as they came; no claim in them has been believed to be of any
shape. Whoever makes them has proved that the person is who they say: by a bind to the directory, a
signature of the identity provider or of the contest's portal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Identity:
    """Who somebody is, for good: names change and are given to others, this does not.

    Attributes
    ----------
    issuer
        Which source says so: an OpenID Connect issuer, or the name an admin gave a directory or a
        portal. Two sources never share one.
    subject
        That source's own key of the person, which it never gives to another: ``sub``,
        ``entryUUID``, ``objectGUID``.
    """

    issuer: str
    subject: str

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


@dataclass(frozen=True)
class Facts:
    """One person, as a source describes them at one moment.

    Attributes
    ----------
    username
        What people call them there. No key: see `Identity`.
    groups
        The source's groups, nested ones resolved: distinguished names of a directory, or whatever
        an identity provider or portal calls them.
    claims
        Everything else that the source says: a directory's attributes (always lists of texts), or
        a token's claims, of any JSON shape.
    at
        When the source said so.
    emails
        Addresses of which the source vouches that they are this person's, as it writes them. What
        somebody may type in for themselves is not among them.
    """

    identity: Identity
    username: str
    at: datetime
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    emails: tuple[str, ...] = ()
