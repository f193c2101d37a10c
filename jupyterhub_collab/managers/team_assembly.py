"""How teams come together: registration, invitations, captains, mergers, agreements.

Sizes, names, freezes and times hold because the store decides them in the transaction that writes,
never a look before. An invitation is a word signed with a key of this service: whoever
asks for it again with the same key of theirs gets the same word, and the registry keeps only its
hash. Once used, withdrawn or late it is nothing.

It must not: know who may ask (`policy.contest_access`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ..errors import Problem, SpecError
from ..models import RosterEntry
from ..models.audit import Detail
from ..models.contest import Agreement, Registration
from ..models.contest_life import ContestRecord, MemberRecord, TeamRecord, TeamState
from ..policy.contest_projection import to_acceptance
from ..policy.problems import to_field
from ..policy.roster import check_roster, to_key, to_stored, to_text, united
from ..policy.team_assembly import why_not_join, why_not_register
from ..storage.contests import ContestStore, Merger, TeamInvitation
from .contest_refusals import NotNowError, NotThereError, in_words
from .contest_telling import ContestTeller

INVITATION_TIME: Final = timedelta(days=7)
INVITATION_TIME_MAX: Final = timedelta(days=90)
INVITATIONS_MAX: Final = 200  # of one team at once; more than any team has members

IsFree = Callable[[str], Awaitable[bool]]
Admit = Callable[[TeamRecord, str], Awaitable[None]]


@dataclass(frozen=True)
class NewTeam:
    """A team as somebody registers it.

    Attributes
    ----------
    captain
        Hub user name; empty: nobody yet. In the roster by that.
    """

    id: str
    title: str | None = None
    captain: str = ""
    members: tuple[RosterEntry, ...] = ()


@dataclass(frozen=True)
class ShownInvitation:
    """An invitation, with the word that uses it; that word is shown to nobody else."""

    invitation: TeamInvitation
    token: str


class TeamAssembly:
    """Teams of one hub.

    Parameters
    ----------
    key
        Signs invitations.
    admit
        Called with a new team that no host need look at, and who registered it.
    is_free
        Whether the hub has no group of that name that is somebody else's.
    now
        The clock, in UTC.
    wake
        Called after each change: rosters are on the hub soon.
    """

    def __init__(
        self,
        store: ContestStore,
        *,
        key: bytes,
        teller: ContestTeller,
        admit: Admit,
        is_free: IsFree,
        now: Callable[[], datetime],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._key, self._teller = store, key, teller
        self._admit, self._is_free, self._now, self._wake = admit, is_free, now, wake

    async def register(
        self, contest: ContestRecord, new: NewTeam, *, by: str, key: str
    ) -> TeamRecord:
        """A new team; asked for again with the same key: the one that is there.

        Raises
        ------
        SpecError
            A field is not right.
        NotNowError
            Registration is not open; the id is taken, the contest full, somebody is in a team.
        """
        rules = contest.manifest.registration
        if rules is None:
            raise NotNowError(why_not_register(contest, self._now()))
        captain = (new.captain,) if new.captain else ()
        roster = united(captain, new.members)
        _check_new(new, roster, rules)
        if not await self._is_free(new.id):
            raise NotNowError(
                f"The hub has a group {new.id} already that is no team's. Choose another id."
            )
        at = self._now()
        team = TeamRecord(
            id=new.id,
            contest=contest.id,
            title=new.title,
            tier=rules.tier,
            retention=contest.manifest.contest.retention,
            captain=new.captain,
        )
        members = [MemberRecord(new.id, entry, at, entry == new.captain) for entry in roster]
        with in_words():
            found, is_new = await self._store.register_team(
                team, members, key=key, wish=_hash_wish(new, roster), by=by, at=at
            )
        if is_new:
            self._tell(
                "team-registered",
                contest.id,
                team=found.id,
                by=by,
                details={"members": len(roster)},
                about=new.captain,
            )
        if not rules.needs_approval and found.state is TeamState.INVITED:
            await self._admit(found, by)
            found = await self._store.team(found.id) or found
        return found

    async def add(
        self, contest: ContestRecord, team: TeamRecord, entry: RosterEntry, *, by: str
    ) -> None:
        """One more in a team, by somebody who may say so. Raises NotNowError, SpecError."""
        _check_entries((entry,), ("entry",))
        with in_words():
            await self._store.add_member(MemberRecord(team.id, entry, self._now()))
        self._tell("member-joined", contest.id, team=team.id, by=by, about=_name_of(entry))

    async def remove(self, team: TeamRecord, entry: RosterEntry, *, by: str) -> None:
        """Out of a team; files that are the team's stay there.

        Raises
        ------
        NotThereError
            Nobody is in the team by that.
        NotNowError
            It is the captain.
        """
        with in_words():
            was_there = await self._store.remove_member(team.id, entry)
        if not was_there:
            raise NotThereError(f"{to_text(entry)} is not in the team {team.id}.")
        self._tell("member-left", team.contest, team=team.id, by=by, about=_name_of(entry))

    async def hand_over(self, team: TeamRecord, captain: str, *, by: str) -> TeamRecord:
        """Make another member the captain. Raises NotNowError."""
        with in_words():
            found = await self._store.update_team(
                team.id,
                {"captain": captain},
                expected_generation=team.generation,
                captain_entry=captain,
            )
        self._tell("captain-changed", team.contest, team=team.id, by=by, about=captain)
        return found

    async def invite(
        self, contest: ContestRecord, team: TeamRecord, *, by: str, key: str, lasts: timedelta
    ) -> ShownInvitation:
        """A word with which one person may join; asked for again with the same key: the same.

        Raises
        ------
        NotNowError
            Nobody can join now; or the key was used for what is gone, or for another wish.
        """
        number = self._sign("invitation id", team.id, by, key)[:22]
        # What was wished is in the word, so another wish with this key makes another word.
        lasts_s = f"{lasts.total_seconds():.0f}"
        token = f"{team.id}.{self._sign('invitation token', team.id, number, lasts_s)}"
        there = await self._invited(team, number, token)
        if there is not None:
            return there
        why = why_not_join(contest, team)
        if why:
            raise NotNowError(why)
        invitation = TeamInvitation(
            id=number,
            team=team.id,
            token_sha256=hash_token(token),
            made_by=by,
            expires_at=self._now() + lasts,
        )
        try:
            with in_words():
                await self._store.put_invitation(invitation)
        except NotNowError as e:
            # Of two that were sent at the same moment the other one was first.
            there = await self._invited(team, number, token)
            if there is not None:
                return there
            raise NotNowError(
                "An invitation was made with this Idempotency-Key before, and is used or withdrawn."
                " For another use another key."
            ) from e
        self._tell("invitation-made", contest.id, team=team.id, by=by, details={"id": number})
        return ShownInvitation(invitation, token)

    async def _invited(self, team: TeamRecord, number: str, token: str) -> ShownInvitation | None:
        """The invitation of this number that is there. Raises NotNowError."""
        found = {invitation.id: invitation for invitation in await self._store.invitations(team.id)}
        there = found.get(number)
        if there is None and len(found) >= INVITATIONS_MAX:
            raise NotNowError(
                f"The team has {len(found)} invitations that nobody used. Withdraw some first."
            )
        if there is None:
            return None
        if there.token_sha256 != hash_token(token):
            raise NotNowError(
                "With this Idempotency-Key an invitation was made that lasts for another time. Use"
                " another key for another one."
            )
        return ShownInvitation(there, token)

    async def withdraw(self, team: TeamRecord, invitation: str, *, by: str) -> None:
        """Nobody joins by it any more. Raises NotThereError."""
        if not await self._store.withdraw_invitation(team.id, invitation):
            raise NotThereError("There is no such invitation, or somebody has used it.")
        self._tell("invitation-withdrawn", team.contest, team=team.id, by=by)

    async def accept(self, token: str, entry: RosterEntry, *, by: str) -> TeamRecord:
        """Join a team by an invitation: once, in time. Raises NotNowError.

        Whoever holds no invitation is told the same of teams that are there and that are not.
        """
        at = self._now()
        with in_words():
            found = await self._store.take_invitation(
                hash_token(token), MemberRecord("", entry, at), by=by, at=at
            )
        self._tell(
            "member-joined",
            found.contest,
            team=found.id,
            by=by,
            details={"invited": True},
            about=_name_of(entry),
        )
        return found

    async def merge(
        self,
        source: TeamRecord,
        into: str,
        *,
        by: str,
        invitation: str | None,
        is_dry: bool = False,
    ) -> Merger:
        """All of one team join another; the one is no more. `is_dry`: what that would be.

        Parameters
        ----------
        invitation
            The other team's word that it wants them, which is used by this, or by nothing where it
            is refused; None: whoever asks may say so for both.

        Raises
        ------
        NotNowError
            It is too late, there is no room, the contest is frozen, or one of them was admitted
            already.
        """
        token_sha256 = None if invitation is None else hash_token(invitation)
        with in_words():
            found = await self._store.merge_teams(
                source.id, into, token_sha256=token_sha256, by=by, at=self._now(), is_dry=is_dry
            )
        for team in () if is_dry else (source.id, into):
            self._tell("teams-merged", source.contest, team=team, by=by, details={"into": into})
        return found

    async def agree(
        self, contest: ContestRecord, version: str, entry: RosterEntry, *, by: str
    ) -> None:
        """Somebody accepts the contest's agreement. Raises NotNowError: it is another version."""
        agreement = agreement_of(contest)
        if agreement is None:
            raise NotNowError("This contest has no agreement; there is nothing to accept.")
        if version != agreement.version:
            raise NotNowError(
                f"The agreement is version {agreement.version} now. Read that, and accept it."
            )
        await self._store.accept_agreement(
            contest.id, version, to_acceptance(entry), at=self._now(), entry=entry
        )
        self._tell(
            "agreement-accepted",
            contest.id,
            by=by,
            details={"version": version},
            about=_name_of(entry),
        )

    def _tell(
        self,
        what: str,
        contest: str,
        *,
        by: str,
        team: str = "",
        about: str = "",
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Something has changed: for the audit log, and for whoever brings it to the hub."""
        self._teller.tell(what, contest, by=by, team=team, about=about, details=details)
        self._wake()

    def _sign(self, *parts: str) -> str:
        text = "\0".join(parts).encode()
        return urlsafe_b64encode(hmac.digest(self._key, text, hashlib.sha256)).decode().rstrip("=")


def hash_token(token: str) -> str:
    """As invitations are kept, 64 hex digits. Takes any text."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def agreement_of(contest: ContestRecord) -> Agreement | None:
    """What its members accept."""
    rules = contest.manifest.registration
    return rules.agreement if rules is not None else None


def _name_of(entry: RosterEntry) -> str:
    """A hub user's name; nobody's where the entry is none."""
    return entry if isinstance(entry, str) else ""


def _hash_wish(new: NewTeam, roster: Sequence[RosterEntry]) -> str:
    """One text for one registration that somebody asks for, 64 hex digits."""
    wish = [new.id, new.title, new.captain, [to_key(entry) for entry in roster]]
    return hashlib.sha256(json.dumps(wish).encode()).hexdigest()


def _check_new(new: NewTeam, roster: tuple[RosterEntry, ...], rules: Registration) -> None:
    _check_entries(roster, ("members",))
    if not roster:
        raise SpecError([Problem("members", "nobody", "a captain, or members")])
    if len(roster) > rules.team_size_max:
        found, expected = f"{len(roster)} people", f"at most {rules.team_size_max} in a team"
        raise SpecError([Problem("members", found, expected)])


def _check_entries(entries: Sequence[RosterEntry], path: tuple[str, ...]) -> None:
    problems = check_roster(to_stored(entries))
    if problems:
        raise SpecError(
            [Problem(to_field((*path, *p.path)), p.found, p.expected) for p in problems]
        )
