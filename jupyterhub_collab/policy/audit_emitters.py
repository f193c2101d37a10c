"""Who may tell the audit log of events, and of which.

An emitter (hub, provisioner, gateways) has a token of its own. The service knows it by the token's
SHA-256, so that whoever reads the file cannot speak for anybody. `audit.*` is the service's own:
no emitter may be given it.

It must not: read files, or keep a token.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from ..models import Document
from ..models.audit import Verb
from .problems import DocumentError, to_document, to_field

OWN: Final = "audit"
"""What the service calls itself in the log, and the first word of its own verbs."""

DEFAULT_VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "hub": (
        *("login", "logout", "impersonate", "configuration.load", "contest.change", "hub.stop"),
        *("access.*", "role.*", "user.*", "group.*", "token.*", "share.*", "server.*"),
        *("dataset.grant", "dataset.revoke"),
    ),
    "provisioner": ("tenancy.*", "configuration.load"),
    "contests": ("contest.change", "configuration.load"),
}
"""What our own programs tell, by the name of the emitter."""

Name = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=60)
]
TokenHash = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
VerbPattern = Annotated[
    str, StringConstraints(strict=True, pattern=r"^(\*|[a-z]+(\.(\*|[a-z]+))?)$", max_length=60)
]


class EmittersError(ValueError):
    """Not a list of emitters. The text says why and repeats no token."""


class Emitter(Document):
    """One that may tell events.

    Attributes
    ----------
    verbs
        ``login``, all of a kind as ``server.*``, or ``*``: all but the service's own.
    """

    name: Name
    token_sha256: TokenHash
    verbs: tuple[VerbPattern, ...] = Field(min_length=1, max_length=100)

    def may_tell(self, verb: Verb) -> bool:
        """Whether this emitter may tell of such an event."""
        kind = verb.value.partition(".")[0]
        return kind != OWN and bool({"*", verb.value, f"{kind}.*"} & set(self.verbs))


class _File(Document):
    emitters: tuple[Emitter, ...] = Field((), max_length=1000)


@dataclass(frozen=True)
class Emitters:
    """All of them."""

    all: tuple[Emitter, ...] = ()

    def find(self, token: str) -> Emitter | None:
        """The emitter whose token this is. Takes as long for any token."""
        wanted = hash_token(token)
        found = None
        for emitter in self.all:
            if hmac.compare_digest(emitter.token_sha256, wanted):
                found = emitter
        return found

    def to_text(self) -> str:
        """The file."""
        return json.dumps({"emitters": [e.to_wire() for e in self.all]}, indent=2) + "\n"


def hash_token(token: str) -> str:
    """What the file keeps of a token. Takes any text."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_emitters(text: str | bytes) -> Emitters:
    """The file ``{"emitters": [{"name", "token_sha256", "verbs"}]}``.

    Raises
    ------
    EmittersError
        It is none.
    """
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise EmittersError("it is not JSON") from e
    if not isinstance(value, Mapping):
        raise EmittersError("it is not a JSON object")
    try:
        found = to_document(_File, value).emitters
    except DocumentError as e:
        # What was found is not repeated: somebody may have put the token itself there.
        wrong = "; ".join(f"{to_field(p.path)} is not {p.expected}" for p in e.problems[:5])
        raise EmittersError(wrong) from e
    for what in ("name", "token_sha256"):
        if len({getattr(e, what) for e in found}) != len(found):
            raise EmittersError(f"two emitters have the same {what}")
    for emitter in found:
        if emitter.name == OWN:
            raise EmittersError(f"the name {OWN} is the service's own")
        for pattern in emitter.verbs:
            if pattern.partition(".")[0] == OWN:
                raise EmittersError(f"{emitter.name} may not tell {pattern}: only the service does")
            if pattern != "*" and not any(_fits(pattern, verb) for verb in Verb):
                raise EmittersError(f"{emitter.name}: there is no verb {pattern}")
    return Emitters(found)


def _fits(pattern: str, verb: Verb) -> bool:
    return verb.value == pattern or f"{verb.value.partition('.')[0]}.*" == pattern
