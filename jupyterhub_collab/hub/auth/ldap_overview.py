"""What a directory says of thousands of people at once: who must be asked about one by one.

Asking about each person each minute would be thousands of searches. So the groups are asked who is
in them, one after the other, and whoever is in no such group is looked for by identity, many in one
search. Whoever is not as they were is doubtful, and the watcher asks about them alone. What bulk
cannot tell (claims, groups that nobody here was in yet) is found by asking about some people each
time, in turn.

It decides nothing, and takes nothing from anybody: a group that cannot be seen, or two answers that
do not fit together, are reasons to ask.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from ...identity.directory import Directory
from ...identity.directory_errors import DirectorySettingsError, GroupNotFoundError
from ...models import EntitlementRules, Identity
from ...policy.distinguished_name import Rdn, parse_dn
from ...storage.memberships import Membership
from .source import Overview

_AT_ONCE: Final = 500  # people in one call: other calls get their turn in between
Key: TypeAlias = "tuple[Rdn, ...] | str"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What the directory said in bulk.

    Attributes
    ----------
    members
        Who is in each group that it shows.
    unseen
        Groups that it does not show.
    active
        Those whom it shows, of the people in no group of `members`.
    """

    members: Mapping[Key, frozenset[Identity]] = field(default_factory=dict)
    unseen: frozenset[Key] = frozenset()
    active: frozenset[Identity] = frozenset()


class DirectoryOverview:
    """Looks at everybody, again and again. One for a directory.

    Parameters
    ----------
    clock
        Seconds that only go up: whose turn it is to be asked about.
    """

    def __init__(
        self, directory: Directory, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory, self._clock = directory, clock
        self._asked: dict[str, float] = {}  # hub user, and when their turn was
        self._gained: dict[tuple[str, Key], datetime] = {}  # since when bulk and row disagree
        self._told: set[Key] = set()  # groups not seen, which the log knows

    async def look(
        self,
        memberships: Sequence[Membership],
        rules: EntitlementRules,
        *,
        now: datetime,
        interval_s: float,
        within_s: float,
    ) -> Overview:
        """Who is as they were, and who must be asked about.

        Parameters
        ----------
        interval_s
            Until the next look.
        within_s
            Within which those whom bulk does not cover are all asked about.

        Raises
        ------
        DirectoryDownError, DirectorySettingsError
            Nobody can say: nobody loses anything.
        """
        issuer = self._directory.settings.name
        keys = _keys_of(memberships)
        wanted = {keys[group]: group for m in memberships for group in m.groups}
        wanted |= _exact_groups(rules, issuer)
        members, unseen = await self._ask_groups(wanted)
        in_some: set[Identity] = set().union(*members.values())
        others = [m.identity.subject for m in memberships if m.identity not in in_some]
        active: set[Identity] = set()
        for start in range(0, len(others), _AT_ONCE):
            active |= await self._directory.active_among(others[start : start + _AT_ONCE])
        seen = Seen(members, unseen, frozenset(active))
        has_claims = any(r.claim is not None for r in rules.rules if r.issuer == issuer)
        turn = self._whose_turn(
            [m.name for m in memberships if has_claims or not m.groups],
            share=min(1.0, interval_s / max(interval_s, within_s - interval_s)),
        )
        # In a thread: thousands of people take longer than the hub's loop may.
        same, unlike, gained = await asyncio.to_thread(compare, memberships, keys, seen)
        fresh = self._not_yet_asked(gained, memberships, now)
        doubtful = unlike | fresh | turn
        confirmed = frozenset() if has_claims else same - doubtful
        return Overview(confirmed, frozenset(doubtful))

    async def _ask_groups(
        self, wanted: Mapping[Key, str]
    ) -> tuple[dict[Key, frozenset[Identity]], frozenset[Key]]:
        """One after the other: logins go before."""
        members: dict[Key, frozenset[Identity]] = {}
        unseen: set[Key] = set()
        failure: DirectorySettingsError | None = None
        for key, dn in wanted.items():
            try:
                members[key] = await self._directory.members_of(dn)
            except (GroupNotFoundError, DirectorySettingsError) as e:
                unseen.add(key)
                if isinstance(e, DirectorySettingsError):
                    failure = e
                if key not in self._told:
                    log.warning("Members of %s are asked about one by one: %s", dn, e)
        self._told = unseen
        if failure is not None and not members:
            raise failure  # not one group's fault
        return members, frozenset(unseen)

    def _whose_turn(self, candidates: Sequence[str], *, share: float) -> frozenset[str]:
        """Those who waited longest, as many as it takes for all to come in time."""
        self._asked = {name: self._asked.get(name, -math.inf) for name in candidates}
        number = math.ceil(len(candidates) * share)
        ordered = sorted(candidates, key=lambda name: self._asked[name])
        turn = frozenset(ordered[:number])
        self._asked.update(dict.fromkeys(turn, self._clock()))
        return turn

    def _not_yet_asked(
        self,
        gained: frozenset[tuple[str, Key]],
        memberships: Sequence[Membership],
        now: datetime,
    ) -> frozenset[str]:
        """Whom bulk shows in a group that their row does not know, until they were asked about.

        A directory may go on saying so: token-groups knows no distribution groups. Asked about each
        minute they would cost a search each for nothing. Losing is never settled like that.
        """
        self._gained = {pair: self._gained.get(pair, now) for pair in gained}
        since: dict[str, datetime] = {}
        for (name, _), at in self._gained.items():
            since[name] = max(at, since.get(name, at))
        confirmed = {m.name: m.confirmed_at for m in memberships if m.name in since}
        return frozenset(name for name, at in since.items() if confirmed[name] < at)


def compare(
    memberships: Sequence[Membership], keys: Mapping[str, Key], seen: Seen
) -> tuple[frozenset[str], frozenset[str], frozenset[tuple[str, Key]]]:
    """Who is as they were, who may have lost something, and who is in a group besides theirs. Pure.

    Parameters
    ----------
    keys
        Key of each group that the rows name.
    """
    groups_of: dict[Identity, set[Key]] = {}
    for key, identities in seen.members.items():
        for identity in identities:
            groups_of.setdefault(identity, set()).add(key)
    same: set[str] = set()
    unlike: set[str] = set()
    gained: set[tuple[str, Key]] = set()
    for m in memberships:
        had = {keys[group] for group in m.groups}
        has = groups_of.get(m.identity, set())
        if had - has or not (has or m.identity in seen.active):
            unlike.add(m.name)
        else:
            same.add(m.name)
        gained.update((m.name, key) for key in has - had)
    return frozenset(same), frozenset(unlike), frozenset(gained)


def _keys_of(memberships: Sequence[Membership]) -> dict[str, Key]:
    texts = {group for m in memberships for group in m.groups}
    return {text: to_key(text) for text in texts}


def to_key(group: str) -> Key:
    """One key for all spellings of a group's name."""
    return parse_dn(group) or group


def _exact_groups(rules: EntitlementRules, issuer: str) -> dict[Key, str]:
    """Groups that rules name in full; others than distinguished names no directory knows."""
    named = (r.group for r in rules.rules if r.issuer == issuer and isinstance(r.group, str))
    return {key: dn for dn in named if (key := parse_dn(dn)) is not None}
