"""Which groups a token's claims name, and when they do not tell.

"No groups" takes everything from a person; so nothing is read as that unless it says so. A provider
that left the groups out because there were too many (an overage), or that sends something of
another shape, is refused by name.

Notes
-----
OpenID Connect Core 5.6.2 (aggregated and distributed claims). Microsoft Entra leaves the groups
out past 200 of them (150 in SAML, fewer in a URL) and puts ``_claim_names``, ``hasgroups`` or
``groups:src1`` in their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PermanentError


class GroupClaimError(PermanentError):
    """The claim of groups is there, and is none that can be read."""


class GroupOverageError(GroupClaimError):
    """The person has more groups than the provider puts into a token: they must be asked for."""


def read_groups(
    claims: Mapping[str, Any], claim: str | Sequence[str] = "groups"
) -> tuple[str, ...] | None:
    """Groups in the order they are named, each once; None when the claims say nothing of them.

    A text is one group, as it stands: names may hold commas and blanks. An empty list says that
    there are none; ``null`` says nothing.

    Parameters
    ----------
    claim
        Name of the claim, taken as it stands (``cognito:groups``, ``https://example.org/groups``);
        or the names on the way to it (``["realm_access", "roles"]``).

    Raises
    ------
    GroupOverageError
        The groups were left out for their number.
    GroupClaimError
        It is neither a text nor a list of texts. Its value is not repeated.
    """
    path = (claim,) if isinstance(claim, str) else tuple(claim)
    if not path:
        raise GroupClaimError("groups_claim: names no claim")
    if _is_left_out(claims, path[0]):
        raise GroupOverageError(
            f"claim {path[0]}: the provider left the groups out because there are too many. Have it"
            " send only groups that are assigned to this application, or application roles"
        )
    found: Any = claims
    for depth, name in enumerate(path):
        if not isinstance(found, Mapping):
            raise GroupClaimError(
                f"claim {'.'.join(path[:depth])}: found {_kind(found)}, no object"
            )
        found = found.get(name)
        if found is None:
            return None
    shown = ".".join(path)
    groups = [found] if isinstance(found, str) else found
    if not isinstance(groups, list | tuple):
        raise GroupClaimError(f"claim {shown}: found {_kind(found)}; expected a list of texts")
    for group in groups:
        if not isinstance(group, str):
            raise GroupClaimError(
                f"claim {shown}: a list that holds {_kind(group)}; expected texts"
            )
        if not group.strip() or not group.isprintable():
            raise GroupClaimError(f"claim {shown}: a group without a name, or one not printable")
    return tuple(dict.fromkeys(groups))


def _is_left_out(claims: Mapping[str, Any], name: str) -> bool:
    """Whether the provider says that this claim is to be had elsewhere."""
    names = claims.get("_claim_names")
    if names is not None and not isinstance(names, Mapping):
        raise GroupClaimError(f"claim _claim_names: found {_kind(names)}; expected an object")
    if names is not None and name in names:
        return True
    sources = claims.get("_claim_sources")
    value = claims.get(name)
    if isinstance(sources, Mapping) and isinstance(value, str) and value in sources:
        return True
    if any(isinstance(key, str) and key.startswith(f"{name}:src") for key in claims):
        return True
    return name == "groups" and claims.get("hasgroups") not in (None, False, "false", "False")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an object" if isinstance(value, Mapping) else "a list"
