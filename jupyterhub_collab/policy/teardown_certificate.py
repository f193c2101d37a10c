"""The certificate of a contest's end: what there was, what is kept where and until when, what was
destroyed when, and that it was looked for what is left and nothing was found.

It is a text that people can read (canonical JSON below two lines that say what it is) and an
Ed25519 signature below it, as C2SP's signed note has it: whoever has it and the public key checks
it offline, without us. It names no person: who asked and who approved is in the audit log, under
the operation's number and at the checkpoint that it names.

It must not: read the clock, or ask anybody.

Notes
-----
https://github.com/C2SP/C2SP/blob/main/signed-note.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from .checkpoint import CheckpointError, LogSigner, LogVerifier

HEAD: Final = "jupyterhub-collab teardown certificate v1"
_MAX_CHARS: Final = 64 << 20


class CertificateError(ValueError):
    """Not a certificate, or not signed by this key."""


@dataclass(frozen=True)
class Asked:
    """By whose word it ended. Names are in the audit log.

    Attributes
    ----------
    operation
        Its number in the registry and in the audit log.
    by, approved_by
        As what: ``person``, ``service``; `approved_by` is empty where nobody had to.
    """

    operation: int
    at: datetime
    by: str
    approved_by: str = ""


@dataclass(frozen=True)
class KeptVolume:
    """A volume of which a copy is kept: it was looked at when the certificate was made.

    Attributes
    ----------
    volume
        ``team``, or ``personal-1`` and so on: names of people's volumes may name them.
    missed
        Entries of the volume that could not be copied; the copy's own manifest names them. None:
        not known.
    """

    team: str
    volume: str
    place: str
    key: str
    bytes: int
    sha256: str
    at: datetime
    keep_until: datetime | None = None
    files: int | None = None
    missed: int | None = None


@dataclass(frozen=True)
class EndedTeam:
    """A team, as it was and as it ended.

    Attributes
    ----------
    lost_volumes, lost_bytes
        Volumes of which no copy is there now, and their sizes together: as they were asked for, or
        of the copy that is gone.
    destroyed_at
        None: it never had anything that could be destroyed.
    """

    team: str
    namespace: str
    members: int
    volumes: int
    lost_volumes: int = 0
    lost_bytes: int = 0
    archived_at: datetime | None = None
    destroyed_at: datetime | None = None


@dataclass(frozen=True)
class Scan:
    """A look for what is left, which found nothing.

    Attributes
    ----------
    looked
        Kinds of things that were looked for, in the cluster, on the hub and in the registry.
    not_looked
        Kinds that could not be listed, and why nothing can be there.
    """

    at: datetime
    looked: tuple[str, ...]
    not_looked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TeardownCertificate:
    """All of it.

    Attributes
    ----------
    audit_checkpoint
        The audit log's newest signed head at that moment; empty: no audit service was configured.
    """

    contest: str
    at: datetime
    asked: Asked
    teams: tuple[EndedTeam, ...]
    kept: tuple[KeptVolume, ...]
    scan: Scan
    audit_checkpoint: str = ""

    def to_text(self) -> str:
        """What is signed: the same text for the same certificate."""
        said = asdict(self)
        said["totals"] = {
            "teams": len(self.teams),
            "members": sum(team.members for team in self.teams),
            "volumes": sum(team.volumes for team in self.teams),
            "kept": len(self.kept),
            "keptBytes": sum(volume.bytes for volume in self.kept),
            "missedEntries": sum(volume.missed or 0 for volume in self.kept),
        }
        wire = json.dumps(_to_wire(said), indent=1, sort_keys=True)
        return f"{HEAD}\n{self.contest}\n{wire}\n"


def sign_certificate(certificate: TeardownCertificate, signer: LogSigner) -> str:
    """The signed note."""
    return signer.sign_text(certificate.to_text())


def certificate_sha256(note: str) -> str:
    """Of the whole note, 64 hex digits: what the audit log has of it."""
    return hashlib.sha256(note.encode()).hexdigest()


def verify_certificate(note: str, verifier: LogVerifier) -> TeardownCertificate:
    """The certificate, if this key signed it. Offline.

    Raises
    ------
    CertificateError
        It did not, or this is no certificate; the text says what.
    """
    if len(note) > _MAX_CHARS:
        raise CertificateError(f"It is longer than {_MAX_CHARS} characters: no certificate is.")
    try:
        text = verifier.open_text(note)
    except CheckpointError as error:
        raise CertificateError(f"It is not what {verifier.origin} signed: {error}.") from error
    head, contest, wire = (*text.split("\n", 2), "", "")[:3]
    if head != HEAD:
        raise CertificateError(f"It is signed, but is no certificate: it begins {head[:60]!r}.")
    try:
        found = _from_wire(json.loads(wire))
    except (ValueError, KeyError, TypeError) as error:
        raise CertificateError(
            "It is signed, but of a form that this version knows not."
        ) from error
    if found.contest != contest or found.to_text() != text:
        raise CertificateError("It is signed, but does not say the same in all its parts.")
    return found


def tell_certificate(certificate: TeardownCertificate) -> list[str]:
    """Lines for a person."""
    kept, lost = certificate.kept, sum(team.lost_volumes for team in certificate.teams)
    missed = sum(volume.missed or 0 for volume in kept)
    until = sorted({volume.keep_until for volume in kept if volume.keep_until is not None})
    lines = [
        f"Contest {certificate.contest} ended; certified {_at(certificate.at)}.",
        f"Asked for by operation {certificate.asked.operation}, {_at(certificate.asked.at)}"
        + (" and approved by a second person." if certificate.asked.approved_by else "."),
        f"{len(certificate.teams)} teams with"
        f" {sum(team.members for team in certificate.teams)} members and"
        f" {sum(team.volumes for team in certificate.teams)} volumes.",
        f"{len(kept)} copies are kept, {sum(volume.bytes for volume in kept)} bytes"
        + (f", until {_at(until[0])} at the earliest." if until else "."),
        f"{lost} volumes were destroyed without a copy.",
        f"Looked for what is left {_at(certificate.scan.at)}: nothing of"
        f" {', '.join(certificate.scan.looked)}.",
    ]
    lines.append(_tell_checkpoint(certificate.audit_checkpoint))
    if missed:
        lines.append(
            f"{missed} entries of volumes could not be copied; the copies' manifests name them."
        )
    return lines


def _tell_checkpoint(note: str) -> str:
    if not note:
        return "It names no head of an audit log: no audit service was configured."
    origin, size, root = (*note.split("\n"), "", "", "")[:3]
    said = f"It names the head of the audit log {origin}: {size} events, root {root}."
    return "".join(sign for sign in said if sign.isprintable())


def volume_labels(claims: Iterable[str], *, team_claim: str) -> dict[str, str]:
    """Names for a team's volumes that name no person, by claim: ``team``, ``personal-1``, ..."""
    others = sorted(claim for claim in set(claims) if claim != team_claim)
    labels = {claim: f"personal-{number}" for number, claim in enumerate(others, start=1)}
    return {**labels, team_claim: "team"}


def _at(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _to_wire(value: Any) -> Any:
    if isinstance(value, datetime):
        return _at(value)
    if isinstance(value, Mapping):
        return {key: _to_wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_wire(item) for item in value]
    return value


def _moment(text: str) -> datetime:
    return datetime.strptime(text + "+0000", "%Y-%m-%dT%H:%M:%SZ%z")


def _maybe(text: str | None) -> datetime | None:
    return None if text is None else _moment(text)


def _from_wire(said: dict[str, Any]) -> TeardownCertificate:
    """Raises KeyError, TypeError, ValueError for what is of another form."""
    said = dict(said)
    del said["totals"]  # made of the rest
    return TeardownCertificate(
        **{
            **said,
            "at": _moment(said["at"]),
            "asked": Asked(**{**said["asked"], "at": _moment(said["asked"]["at"])}),
            "teams": tuple(
                EndedTeam(
                    **{
                        **team,
                        "archived_at": _maybe(team["archived_at"]),
                        "destroyed_at": _maybe(team["destroyed_at"]),
                    }
                )
                for team in said["teams"]
            ),
            "kept": tuple(
                KeptVolume(
                    **{
                        **volume,
                        "at": _moment(volume["at"]),
                        "keep_until": _maybe(volume["keep_until"]),
                    }
                )
                for volume in said["kept"]
            ),
            "scan": Scan(
                **{
                    **said["scan"],
                    "at": _moment(said["scan"]["at"]),
                    "looked": tuple(said["scan"]["looked"]),
                }
            ),
        }
    )
