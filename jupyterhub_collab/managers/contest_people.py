"""Which of a contest's people belong to nothing else: the one rule by which hub users are deleted.

A hub user stays who is an admin, has a server, is in any other group, is in the roster of another
team under their name, their identity or an address that they took, or has a role in a contest.
Whoever cannot be judged, because hub or registry do not answer, is not judged: the error goes up,
and nobody is deleted.

The look for what is left asks the same, so what is kept here is not found there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Final

from ..errors import CollabError
from ..models import RosterEntry
from ..models.hub_user import HubUser
from ..models.standing import PersonStanding
from .contest_steps import StepWork

_AT_ONCE: Final = 8  # people that the hub is asked about at the same time
_TEAMS_PER_READ: Final = 500


async def belonging_to_nothing(
    work: StepWork, people: Iterable[HubUser], *, besides: Collection[str]
) -> list[str]:
    """Names of those who belong to nothing besides these teams (and groups); sorted.

    Raises
    ------
    RetryableError, PermanentError
        It cannot be known of somebody.
    """
    own = frozenset(besides)
    room = asyncio.Semaphore(_AT_ONCE)
    candidates = sorted(
        (u for u in people if not (u.is_admin or u.has_servers or u.groups - own)),
        key=lambda user: user.name,
    )
    has_sources = bool(candidates) and await work.hub.read_decider() is not None

    async def is_alone(user: HubUser) -> bool:
        async with room:
            return await _is_alone(work, user.name, own, has_sources=has_sources)

    found = await asyncio.gather(*map(is_alone, candidates), return_exceptions=True)
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return [user.name for user, answer in zip(candidates, found, strict=True) if answer is True]


async def _is_alone(work: StepWork, name: str, own: frozenset[str], *, has_sources: bool) -> bool:
    entries: list[RosterEntry] = [name]
    if has_sources:  # else rosters hold names alone
        known = await work.hub.read_identities(name)
        if known is None:
            return False
        entries += known
    for entry in entries:
        if any(team not in own for team in await work.store.teams_of(entry)):
            return False
    standing = await work.hub.read_standing(name)
    return standing is not None and not _stands(standing, own)


def _stands(standing: PersonStanding, own: frozenset[str]) -> bool:
    """Whether somebody is anything besides a member of these teams."""
    has_role = any(c.is_host or c.is_judge or c.keeps for c in standing.contests)
    return standing.is_admin or has_role or any(t.team not in own for t in standing.teams)


async def people_of(work: StepWork, teams: Iterable[str]) -> set[str]:
    """Names of hub users that stand in these teams' rosters, destroyed ones' too."""
    wanted, found = sorted(teams), set()
    for start in range(0, len(wanted), _TEAMS_PER_READ):
        some = await work.store.members(wanted[start : start + _TEAMS_PER_READ])
        found |= {m.entry for members in some.values() for m in members if isinstance(m.entry, str)}
    return found


async def delete_people(work: StepWork, people: Iterable[str]) -> None:
    """Delete these hub users with their tokens, some at a time. Record it before.

    Raises
    ------
    RetryableError, PermanentError
        Not all could be; the others are gone.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def delete(name: str) -> None:
        async with room:
            await work.hub.delete_user(name)

    results = await asyncio.gather(*map(delete, people), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in sorted(errors, key=lambda error: isinstance(error, CollabError)):
        raise error
