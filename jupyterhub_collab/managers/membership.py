"""The one decider of membership: from facts about a person to where they stand here.

Facts come from a source that has just let somebody in, or was asked again. A hub user name is bound
to the identity; rules and rosters say what it may be; the answer is kept for when nobody is at the
door (the roster changes, a source is asked in bulk). Whoever asked puts the answer into the hub's
groups.

A registry or database that is away is no decision: the answer is then "unknown", and nothing that
the hub has is changed for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, Protocol

from ..errors import RetryableError
from ..models import (
    HUB_ADMIN,
    Entitlement,
    EntitlementRules,
    Entitlements,
    Facts,
    Granted,
    Identity,
    Invitation,
    NamedIdentity,
    RosterEntry,
)
from ..policy.entitlements import decide, matching_groups
from ..policy.roster import find_by_roster, fold_email, invitations_to
from ..storage.identities import Identities
from ..storage.invitations import Invitations
from ..storage.memberships import Membership, Memberships

_EMAILS_MAX: Final = 50  # of one person; each is looked for in all rosters
log = logging.getLogger(__name__)


class Registry(Protocol):
    """Teams, contests, data sets and rosters as they are now.

    Raises RetryableError where nobody can say at the moment.
    """

    def exists(self, what: Entitlement) -> bool:
        """Whether there is that team, contest or data set."""

    def rosters_with(
        self, *, name: str = "", subject: str = "", emails: Iterable[str] = ()
    ) -> Mapping[str, tuple[RosterEntry, ...]]:
        """Rosters, by team, in which one of these stands. More than those does no harm."""


@dataclass(frozen=True)
class Standing:
    """Where a hub user stands.

    Attributes
    ----------
    entitlements
        All that is given, by rules and rosters, with reasons. None: unknown; change nothing.
    """

    name: str
    entitlements: Entitlements | None

    @property
    def teams(self) -> frozenset[str] | None:
        """All teams of the user; None: unknown."""
        return None if self.entitlements is None else self.entitlements.teams

    @property
    def is_admin(self) -> bool | None:
        """Whether a rule makes the user the hub's admin; None: unknown."""
        return None if self.entitlements is None else self.entitlements.is_admin


class MembershipManager:
    """Decides. One for a hub, whatever number of sources it has.

    Parameters
    ----------
    rules
        The rules as they are now.
    """

    def __init__(
        self,
        *,
        identities: Identities,
        invitations: Invitations,
        memberships: Memberships,
        registry: Registry,
        rules: Callable[[], EntitlementRules],
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.identities = identities
        self.invitations = invitations
        self.memberships = memberships
        self._registry = registry
        self._rules = rules
        self._now = now
        # Of this process alone, as of each person's last look: addresses are kept nowhere.
        self._vouched: dict[Identity, frozenset[str]] = {}
        self._vouching: dict[tuple[str, str], set[Identity]] = {}

    async def admit(self, facts: Facts, *, name: str) -> Standing:
        """Who came through a source.

        Parameters
        ----------
        name
            Under which the person would be known here, if they are not yet.

        Raises
        ------
        NameTakenError
            The name is another person's.
        DatabaseError
            Nobody can say who this is here.
        """
        return await self._judge(facts, await self.identities.bind(facts.identity, name))

    async def confirm(self, name: str, facts: Facts) -> Standing:
        """A source was asked again about somebody it let in."""
        return await self._judge(facts, name)

    async def withdraw(self, membership: Membership) -> Standing:
        """The source knows this person no more, or lets them in no more: nothing is left.

        Raises
        ------
        DatabaseError
            It could not be written down, so a changed roster could give something back.
        """
        gone = Membership(
            name=membership.name,
            identity=membership.identity,
            granted=(),
            groups=(),
            confirmed_at=self._now(),
            is_active=False,
        )
        self._know_emails(membership.identity, ())
        await self.memberships.write(gone)
        return Standing(membership.name, Entitlements())

    async def project(self, membership: Membership) -> Standing:
        """Where somebody stands who is not at the door: their last facts, and rosters of now."""
        if not membership.is_active:
            return Standing(membership.name, Entitlements())
        try:
            taken = await self.invitations.taken_by(membership.identity)
            # Nothing is awaited from here on: whoever asked acts on rosters as they are.
            granted = [g for g in membership.granted if self._still_is(g.what)]
            by_roster = self._by_roster(membership.identity, membership.name, taken)
        except RetryableError as e:
            log.warning("The team registry does not answer: %s", e)
            return Standing(membership.name, None)
        return Standing(membership.name, join(Entitlements(tuple(granted)), by_roster))

    async def name_of(self, entry: RosterEntry) -> str | None:
        """Hub user whom an entry of a roster names; None: nobody who ever came.

        Raises
        ------
        DatabaseError
            Nobody knows.
        """
        if isinstance(entry, str):
            return entry
        if isinstance(entry, NamedIdentity):
            return await self.identities.name_of(entry.to_identity())
        taker = await self.invitations.taker_of(entry.issuer, fold_email(entry.email))
        return None if taker is None else await self.identities.name_of(taker)

    async def entries_of(self, membership: Membership) -> tuple[RosterEntry, ...]:
        """What in a roster is this person and nobody else, besides the hub user name.

        Their identity, and addresses of which the source vouches: invitations that they took, and
        those that nobody took while it vouches so to no other who is known here.

        Raises
        ------
        DatabaseError
            Nobody knows.
        """
        if not membership.is_active:
            return ()
        identity = membership.identity
        emails = set(await self.invitations.taken_by(identity))
        for email in self._vouched.get(identity, frozenset()) - emails:
            is_sole = self._vouching[identity.issuer, email] == {identity}
            if is_sole and await self.invitations.taker_of(identity.issuer, email) is None:
                emails.add(email)
        issuer = identity.issuer
        found: list[RosterEntry] = []
        with suppress(ValueError):  # a key that no roster could have
            found.append(NamedIdentity(issuer=issuer, subject=identity.subject))
        for email in sorted(emails):
            with suppress(ValueError):
                found.append(Invitation(issuer=issuer, email=email))
        return tuple(found)

    async def take_for(self, entry: Invitation) -> str | None:
        """Hub user who is here already and takes an invitation that came after them.

        None: the source vouches for the address to nobody who is known here, or to several; whoever
        logs in next takes it then.

        Raises
        ------
        DatabaseError
            Nobody knows.
        """
        email = fold_email(entry.email)
        who = tuple(self._vouching.get((entry.issuer, email), ()))
        if len(who) != 1 or not await self.invitations.take(who[0], email):
            return None
        return await self.identities.name_of(who[0])

    def _know_emails(self, identity: Identity, emails: Iterable[str]) -> None:
        """In place of what the source vouched for before."""
        for email in self._vouched.pop(identity, ()):
            self._vouching[identity.issuer, email].discard(identity)
        vouched = frozenset(emails)
        if vouched:
            self._vouched[identity] = vouched
        for email in vouched:
            self._vouching.setdefault((identity.issuer, email), set()).add(identity)

    async def _judge(self, facts: Facts, name: str) -> Standing:
        rules = self._rules()
        self._know_emails(facts.identity, map(fold_email, facts.emails[:_EMAILS_MAX]))
        try:
            by_rule = decide(facts, rules, exists=self._registry.exists)
            taken, notes = await self._take_invitations(facts)
            self._registry.rosters_with()  # whether it answers: else the row of before stays
            await self.memberships.write(
                Membership(
                    name=name,
                    identity=facts.identity,
                    granted=by_rule.granted,
                    groups=matching_groups(facts, rules),
                    confirmed_at=facts.at,
                    rules=rules.fingerprint,
                )
            )
            # Read last, with nothing awaited after it: a roster that changed meanwhile counts.
            by_roster = self._by_roster(facts.identity, name, taken)
        except RetryableError as e:
            log.warning(
                "%s keeps what the hub has, for nobody can say what it should be: %s", name, e
            )
            return Standing(name, None)
        known = Entitlements(by_rule.granted, (*by_rule.notes, *notes))
        return Standing(name, join(known, by_roster))

    async def _take_invitations(self, facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Addresses whose invitations are this person's now; and what of it an admin should know.

        Raises RetryableError.
        """
        identity = facts.identity
        taken = await self.invitations.taken_by(identity)
        vouched = {fold_email(email) for email in facts.emails[:_EMAILS_MAX]} - set(taken)
        if not vouched:
            return taken, ()
        rosters = self._registry.rosters_with(emails=vouched)
        notes: list[str] = []
        for email in invitations_to(rosters, issuer=identity.issuer, emails=vouched):
            if await self.invitations.take(identity, email):
                log.info("%s took the invitation of an e-mail address", identity)
                taken = (*taken, email)
            else:
                notes.append(
                    f"the invitation of {email} was taken by another person of {identity.issuer};"
                    " name this one by issuer and subject instead, if they are meant"
                )
        return taken, tuple(notes)

    def _still_is(self, what: Entitlement) -> bool:
        return what == HUB_ADMIN or self._registry.exists(what)

    def _by_roster(
        self, identity: Identity, name: str, emails: tuple[str, ...]
    ) -> tuple[Granted, ...]:
        rosters = self._registry.rosters_with(name=name, subject=identity.subject, emails=emails)
        return find_by_roster(rosters, identity=identity, name=name, emails=emails)


def join(by_rule: Entitlements, by_roster: tuple[Granted, ...]) -> Entitlements:
    """Both, each thing once; a rule's reason goes before the roster's."""
    known = {granted.what for granted in by_rule.granted}
    more = tuple(granted for granted in by_roster if granted.what not in known)
    return Entitlements((*by_rule.granted, *more), by_rule.notes)
