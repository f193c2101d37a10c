"""Names: which are allowed, and how one becomes another.

Guarantees
----------
- A team id is ``[a-z][a-z0-9]*(-[a-z0-9]+)*``, at most 30 characters, so it holds no ``--``.
- namespace = prefix + team id is a bijection: two teams never meet, and `team_of_namespace`
  finds the team again.
- `contest_group` and team groups never meet: a team id has no dot.
- `personal_claim` is injective up to a SHA-256 collision on 64 bits, whatever the user name is;
  its caller still compares the owner's name before it mounts what it finds.
- A reserved namespace (`is_reserved_namespace`) is never a team's.
"""

from __future__ import annotations

import hashlib
import re

from .constants import CONTEST_GROUP_PREFIX

TEAM_ID_MAX = 30
TEAM_ID_PATTERN = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
TEAM_ID_RULE = (
    "a lower-case letter, then letters, digits and single hyphens, at most 30 characters in all"
)
PERSONAL_CLAIM_PREFIX = "personal-"
DATASET_CLAIM_PREFIX = "dataset-"
NAMESPACE_PREFIX_MAX = 20  # leaves room in the 63 characters of a DNS label
_TEAM_ID = re.compile(TEAM_ID_PATTERN)
_PREFIX = re.compile(r"([a-z][a-z0-9]*-)+")
_RESERVED = frozenset({"default"})
_ARCHIVE_ID = re.compile(r"[a-z0-9-]{1,30}\.[0-9a-f]{16}\.[0-9]{1,18}")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def is_team_id(text: object) -> bool:
    """Whether ``text`` may name a team. Contests, tiers, images and data sets share the grammar."""
    return isinstance(text, str) and len(text) <= TEAM_ID_MAX and bool(_TEAM_ID.fullmatch(text))


def is_namespace_prefix(text: str) -> bool:
    """Whether ``text`` may stand before team ids: ends in a hyphen, at most 20 characters."""
    return len(text) <= NAMESPACE_PREFIX_MAX and bool(_PREFIX.fullmatch(text))


def namespace_of(team: str, *, prefix: str) -> str:
    """Namespace of a team.

    Raises
    ------
    ValueError
        ``team`` is not a team id, or ``prefix`` not a prefix.
    """
    if not is_team_id(team):
        raise ValueError(f"{team!r} is not a team id: {TEAM_ID_RULE}")
    if not is_namespace_prefix(prefix):
        raise ValueError(f"{prefix!r} is not a namespace prefix: letters, digits, ends in a hyphen")
    return prefix + team


def team_of_namespace(namespace: str, *, prefix: str) -> str | None:
    """Team of a namespace, None when it is not one of ours."""
    team = namespace.removeprefix(prefix)
    return team if namespace.startswith(prefix) and is_team_id(team) else None


def is_reserved_namespace(namespace: str, *, hub_namespace: str) -> bool:
    """Whether no team may ever have this namespace: the cluster's own and the hub's."""
    return namespace in _RESERVED or namespace.startswith("kube-") or namespace == hub_namespace


def team_host(team: str, domain: str) -> str:
    """The name under which a team's page is found: a team id is a DNS label."""
    return f"{team}.{domain}"


def contest_group(contest: str) -> str:
    """Name of the memberless hub group that holds what a whole contest shares."""
    return CONTEST_GROUP_PREFIX + contest


def contest_of_group(group: str) -> str | None:
    """Contest of such a group, None for every other group."""
    contest = group.removeprefix(CONTEST_GROUP_PREFIX)
    return contest if group.startswith(CONTEST_GROUP_PREFIX) and is_team_id(contest) else None


def _slug(text: str, *, max_length: int) -> str:
    """Readable part of a name (may be empty), then a 64-bit hash of the whole."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = _NOT_SLUG.sub("-", text.lower()).strip("-")[: max_length - 17].strip("-")
    return f"{readable}-{digest}" if readable else digest


def personal_claim(username: str) -> str:
    """Name of a member's personal volume claim in a team namespace: at most 63 characters."""
    return PERSONAL_CLAIM_PREFIX + _slug(username, max_length=54)


def server_pod(username: str, server_name: str) -> str:
    """Name of a server's pod in a team namespace: a DNS label, at most 63 characters.

    User and server name are joined by NUL, which neither can hold, so no two pairs meet.
    """
    digest = hashlib.sha256(f"{username}\0{server_name}".encode("utf-8", "surrogatepass"))
    readable = _NOT_SLUG.sub("-", f"{username}-{server_name}".lower()).strip("-")[:36].strip("-")
    return f"server-{readable or 'x'}-{digest.hexdigest()[:16]}"


def dataset_claim(dataset: str) -> str:
    """Name of the claim by which a team namespace mounts a data set."""
    return DATASET_CLAIM_PREFIX + dataset


def dataset_volume(namespace: str, dataset: str) -> str:
    """Name of the static PersistentVolume of one team and data set.

    A dot parts the two: a namespace cannot hold one.
    """
    return f"{namespace}.{dataset}"


def archive_id(team: str, claim: str, operation: int) -> str:
    """Id of a volume's copy, made for one operation. Names no person, though claims may."""
    digest = hashlib.sha256(claim.encode()).hexdigest()[:16]
    return f"{team}.{digest}.{operation}"


def is_archive_id(text: str) -> bool:
    """Whether `archive_id` may have made it."""
    return bool(_ARCHIVE_ID.fullmatch(text)) and is_team_id(text.partition(".")[0])


def archive_job(what: str, archive: str, claim: str) -> str:
    """Name of the Job that saves or restores (`what`) this copy and claim."""
    digest = hashlib.sha256(f"{archive}\0{claim}".encode()).hexdigest()[:16]
    return f"{what}-{digest}"


def egress_policy(rule: str) -> str:
    """Name of the NetworkPolicy that allows one egress rule."""
    return f"egress-{rule}"
