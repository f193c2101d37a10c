"""The decider: rules and rosters together, and what is done when nobody can say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from jupyterhub_collab.errors import RetryableError
from jupyterhub_collab.managers.membership import MembershipManager
from jupyterhub_collab.models import (
    HUB_ADMIN,
    Entitlement,
    EntitlementRules,
    Facts,
    Identity,
    Invitation,
    NamedIdentity,
    Role,
    RosterEntry,
)
from jupyterhub_collab.policy.entitlements import parse_entitlement_rules
from jupyterhub_collab.storage.identities import Identities, NameTakenError
from jupyterhub_collab.storage.invitations import Invitations
from jupyterhub_collab.storage.memberships import Memberships

AT = datetime(2027, 1, 1, tzinfo=timezone.utc)
ADA = Identity("institute", "1")
RULES = b"""
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - {issuer: institute, group: {like: "t-{team}"}, gives: {team: "{team}"}}
  - {issuer: institute, group: admins, gives: {role: admin}}
  - {issuer: institute, group: judges, gives: {contest: sea, role: judge}}
"""


@dataclass
class Registry:
    """Teams and rosters in memory; may be away."""

    teams: set[str] = field(default_factory=lambda: {"ocean", "reef"})
    rosters: dict[str, tuple[RosterEntry, ...]] = field(default_factory=dict)
    is_away: bool = False

    def exists(self, what: Entitlement) -> bool:
        if self.is_away:
            raise RetryableError("away")
        return what.team in self.teams if what.team else what.contest == "sea"

    def rosters_with(
        self, *, name: str = "", subject: str = "", emails: Iterable[str] = ()
    ) -> Mapping[str, tuple[RosterEntry, ...]]:
        if self.is_away:
            raise RetryableError("away")
        return self.rosters


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def manager(tmp_path: Path, registry: Registry) -> Iterator[MembershipManager]:
    engine = create_engine(f"sqlite:///{tmp_path}/x.sqlite")
    stores = Identities(engine), Invitations(engine), Memberships(engine)
    identities, invitations, memberships = stores
    for store in stores:
        store.create_tables()
    rules: EntitlementRules = parse_entitlement_rules(RULES, file="rules.yaml")
    yield MembershipManager(
        identities=identities,
        invitations=invitations,
        memberships=memberships,
        registry=registry,
        rules=lambda: rules,
        now=lambda: AT,
    )
    for store in stores:
        store.close()
    engine.dispose()


def facts(*groups: str, identity: Identity = ADA, emails: tuple[str, ...] = ()) -> Facts:
    return Facts(identity=identity, username="ada", at=AT, groups=groups, emails=emails)


async def test_the_answer_is_always_the_full_set(
    manager: MembershipManager, registry: Registry
) -> None:
    registry.rosters = {"reef": ("ada",)}
    standing = await manager.admit(facts("t-ocean", "admins", "judges", "t-none"), name="ada")
    assert standing.teams == {"ocean", "reef"}
    assert standing.is_admin is True
    assert standing.entitlements is not None
    assert standing.entitlements.has(Entitlement(contest="sea", role=Role.JUDGE))
    assert not standing.entitlements.has(Entitlement(contest="lake", role=Role.JUDGE))


async def test_a_rule_lost_leaves_the_roster_s_place(
    manager: MembershipManager, registry: Registry
) -> None:
    registry.rosters = {"ocean": (NamedIdentity(issuer="institute", subject="1"),)}
    assert (await manager.admit(facts("t-ocean", "t-reef"), name="ada")).teams == {"ocean", "reef"}
    assert (await manager.confirm("ada", facts())).teams == {"ocean"}


@pytest.mark.parametrize(
    "entry",
    [
        "Ada",
        NamedIdentity(issuer="portal", subject="1"),
        NamedIdentity(issuer="institute", subject="11"),
    ],
)
async def test_a_roster_names_nobody_else(
    manager: MembershipManager, registry: Registry, entry: RosterEntry
) -> None:
    registry.rosters = {"ocean": (entry,)}
    assert (await manager.admit(facts(), name="ada")).teams == frozenset()


async def test_a_registry_that_is_away_changes_nothing(
    manager: MembershipManager, registry: Registry
) -> None:
    await manager.admit(facts("t-ocean"), name="ada")
    registry.is_away = True
    standing = await manager.admit(facts(), name="ada")
    assert (standing.name, standing.teams, standing.is_admin) == ("ada", None, None)
    before = await manager.memberships.read("ada")
    assert before is not None
    assert [g.what.team for g in before.granted] == ["ocean"], "the row of before is kept"
    assert (await manager.project(before)).teams is None


async def test_projecting_knows_rosters_of_now_and_facts_of_then(
    manager: MembershipManager, registry: Registry
) -> None:
    await manager.admit(facts("t-ocean", "admins"), name="ada")
    row = await manager.memberships.read("ada")
    assert row is not None
    registry.rosters = {"reef": ("ada",)}
    standing = await manager.project(row)
    assert standing.teams == {"ocean", "reef"}
    assert standing.is_admin is True
    registry.teams.remove("ocean")
    assert (await manager.project(row)).teams == {"reef"}


async def test_who_was_withdrawn_gets_nothing_back_by_roster(
    manager: MembershipManager, registry: Registry
) -> None:
    registry.rosters = {"reef": ("ada",)}
    await manager.admit(facts("t-ocean"), name="ada")
    row = await manager.memberships.read("ada")
    assert row is not None
    assert (await manager.withdraw(row)).teams == frozenset()
    row = await manager.memberships.read("ada")
    assert row is not None
    assert (await manager.project(row)).teams == frozenset()
    # Until the source lets them in again.
    assert (await manager.admit(facts(), name="ada")).teams == {"reef"}


async def test_only_groups_that_rules_look_at_are_kept(manager: MembershipManager) -> None:
    await manager.admit(facts("t-ocean", "chess", "judges", "t-unknown"), name="ada")
    row = await manager.memberships.read("ada")
    assert row is not None
    assert row.groups == ("t-ocean", "judges", "t-unknown")
    assert HUB_ADMIN not in {g.what for g in row.granted}


async def test_a_name_is_one_person_s(manager: MembershipManager) -> None:
    await manager.admit(facts("t-ocean"), name="ada")
    with pytest.raises(NameTakenError):
        await manager.admit(facts("t-ocean", identity=Identity("portal", "1")), name="ada")


INVITED = Invitation(issuer="institute", email="Ada@X.org")
BOB = Identity("institute", "2")


async def test_an_invitation_is_the_first_s_for_good(
    manager: MembershipManager, registry: Registry
) -> None:
    registry.rosters = {"ocean": (INVITED,), "reef": (INVITED,)}
    assert (await manager.admit(facts(), name="ada")).teams == frozenset(), "nobody vouches"
    standing = await manager.admit(facts(emails=("ada@x.ORG",)), name="ada")
    assert standing.teams == {"ocean", "reef"}
    assert standing.entitlements is not None
    assert standing.entitlements.granted[0].because == "the team's roster invites Ada@X.org"
    # The address is another's now; the invitation is not.
    other = await manager.admit(facts(identity=BOB, emails=("ada@x.org",)), name="bob")
    assert other.teams == frozenset()
    assert other.entitlements is not None
    assert "was taken by another person of institute" in other.entitlements.notes[0]
    assert (await manager.confirm("ada", facts())).teams == {"ocean", "reef"}
    row = await manager.memberships.read("ada")
    assert row is not None
    assert (await manager.project(row)).teams == {"ocean", "reef"}
    assert await manager.name_of(INVITED) == "ada"
    # Withdrawn, it is lost; given again, it is the same person's.
    registry.rosters = {"reef": (INVITED,)}
    assert (await manager.project(row)).teams == {"reef"}
    registry.rosters = {}
    assert (await manager.confirm("ada", facts(emails=("ada@x.org",)))).teams == frozenset()
    registry.rosters = {"ocean": (INVITED,)}
    assert (await manager.confirm("bob", facts(identity=BOB, emails=("ada@x.org",)))).teams == set()
    assert (await manager.project(row)).teams == {"ocean"}


@pytest.mark.parametrize(
    ("identity", "emails"),
    [
        (Identity("portal", "1"), ("ada@x.org",)),  # another source says so
        (ADA, ("bda@x.org",)),
        (ADA, ("ada@x.org.evil.org",)),
        (ADA, ("\N{KELVIN SIGN}@x.org",)),
    ],
)
async def test_an_invitation_is_nobody_else_s(
    manager: MembershipManager,
    registry: Registry,
    identity: Identity,
    emails: tuple[str, ...],
) -> None:
    registry.rosters = {"ocean": (INVITED, Invitation(issuer="institute", email="k@x.org"))}
    standing = await manager.admit(facts(identity=identity, emails=emails), name="ada")
    assert standing.teams == frozenset()
    assert await manager.name_of(INVITED) is None


async def test_what_is_not_invited_is_not_written_down(
    manager: MembershipManager, registry: Registry
) -> None:
    """Else whoever comes first would hold addresses that are invited later."""
    await manager.admit(facts(emails=("ada@x.org",)), name="ada")
    assert await manager.invitations.taken_by(ADA) == ()
    registry.rosters = {"ocean": (INVITED,)}
    assert (await manager.admit(facts(identity=BOB, emails=("ada@x.org",)), name="bob")).teams


async def test_a_roster_that_changes_during_a_log_in_counts(
    manager: MembershipManager, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.rosters = {"ocean": ("ada",)}
    write = manager.memberships.write

    async def change_meanwhile(membership: object) -> None:
        await write(membership)  # type: ignore[arg-type]
        registry.rosters = {"reef": ("ada",)}

    monkeypatch.setattr(manager.memberships, "write", change_meanwhile)
    assert (await manager.admit(facts(), name="ada")).teams == {"reef"}


async def entries(manager: MembershipManager, name: str) -> list[RosterEntry]:
    membership = await manager.memberships.read(name)
    assert membership is not None
    return list(await manager.entries_of(membership))


async def test_which_entries_are_one_person_alone(
    manager: MembershipManager, registry: Registry
) -> None:
    office = Invitation(issuer="institute", email="office@example.org")
    own = Invitation(issuer="institute", email="ada@example.org")
    bob = Identity("institute", "2")
    emails = ("Ada@Example.org", "Office@example.org", "no address", "\x00@example.org")
    await manager.admit(facts(emails=emails), name="ada")
    me = NamedIdentity(issuer="institute", subject="1")
    assert await entries(manager, "ada") == [me, own, office]
    # Of an address of two nobody can say whose it is; of another source it is another one.
    await manager.admit(facts(identity=bob, emails=("office@example.org",)), name="bob")
    far = Identity("portal", "1")
    await manager.admit(facts(identity=far, emails=("ada@example.org",)), name="portal-ada")
    assert await entries(manager, "ada") == [me, own]
    assert await entries(manager, "bob") == [NamedIdentity(issuer="institute", subject="2")]
    assert await manager.take_for(office) is None
    # Until one of them took it.
    assert await manager.invitations.take(bob, "office@example.org")
    assert office in await entries(manager, "bob")
    assert office not in await entries(manager, "ada")
    # What the source vouches for no more is nobody's, but for what was taken.
    await manager.confirm("ada", facts())
    assert await entries(manager, "ada") == [me]
    await manager.confirm("bob", facts(identity=bob))
    assert office in await entries(manager, "bob")
    membership = await manager.memberships.read("bob")
    assert membership is not None
    await manager.withdraw(membership)
    assert await entries(manager, "bob") == []


async def test_an_invitation_that_comes_after_its_person(
    manager: MembershipManager, registry: Registry
) -> None:
    late = Invitation(issuer="institute", email="Ada@example.org")
    assert await manager.take_for(late) is None, "nobody is known"
    await manager.admit(facts(emails=("ada@example.org",)), name="ada")
    assert await manager.name_of(late) is None
    assert await manager.take_for(late) == "ada"
    assert await manager.name_of(late) == "ada"
    other = Identity("institute", "2")
    await manager.confirm("ada", facts())
    await manager.admit(facts(identity=other, emails=("ada@example.org",)), name="other")
    assert await manager.take_for(late) is None, "it is taken for good"
    assert await manager.name_of(late) == "ada"
