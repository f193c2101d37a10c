"""Rosters: reading, comparing, what is refused, whom they name."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_collab.constants import ROSTER_MAX_ENTRIES
from jupyterhub_collab.models import HubDecider, Identity, Invitation, NamedIdentity, RosterEntry
from jupyterhub_collab.policy.problems import to_field
from jupyterhub_collab.policy.roster import (
    check_decider,
    check_roster,
    count_unread,
    find_by_roster,
    fold_email,
    hash_roster,
    invitations_to,
    read_roster,
    to_text,
)

BY_KEY = NamedIdentity(issuer="institute", subject="4711")
INVITED = Invitation(issuer="portal", email="Ada@X.org")


def read(members: Any) -> tuple[RosterEntry, ...]:
    return read_roster({"collab": {"members": members}})


def test_reading() -> None:
    assert read(["ada", BY_KEY.to_wire(), INVITED.to_wire()]) == ("ada", BY_KEY, INVITED)
    assert read("ada") == read({"ada": 1}) == read(7) == read(None) == ()
    assert read_roster({}) == read_roster({"collab": {}}) == read_roster({"collab": 7}) == ()


@pytest.mark.parametrize(
    "bad",
    [7, None, "", "a/b", [], {}, {"issuer": "i"}, {"issuer": "i", "subject": "s", "more": 1},
     {"issuer": "i", "email": "none"}, {"issuer": "i", "email": "a@b", "subject": "s"},
     {"issuer": "i", "subject": "a\x00b"}, {"issuer": "i", "subject": "x" * 513},
     {"issuer": "i", "email": "Ada <a@b.org>"}, {"phone": "1"}],
)  # fmt: skip
def test_an_entry_that_cannot_be_read_names_nobody_and_takes_nothing_from_others(bad: Any) -> None:
    assert read(["ada", bad, "bob"]) == ("ada", "bob")
    assert count_unread({"collab": {"members": ["ada", bad, "bob"]}}) == 1


def test_one_hash_for_one_roster() -> None:
    same = hash_roster(("ada", BY_KEY, INVITED))
    assert hash_roster((INVITED, "ada", BY_KEY)) == same
    assert hash_roster((Invitation(issuer="portal", email="ada@x.org"), "ada", BY_KEY)) == same
    less: list[tuple[RosterEntry, ...]] = [(), ("ada",), ("ada", BY_KEY), ("4711 of institute",)]
    assert len({same, *map(hash_roster, less)}) == 5


def test_addresses_are_compared_without_case_in_ascii_alone() -> None:
    assert fold_email("ADA@X.org") == "ada@x.org"
    assert fold_email("\N{KELVIN SIGN}@x.org") != "k@x.org"
    assert fold_email("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}@x.org") != "i@x.org"
    assert fold_email("stra\N{LATIN SMALL LETTER SHARP S}e@x.org") != "strasse@x.org"


def test_what_is_refused() -> None:
    entries = (
        "ada", "ada", " bob", BY_KEY, BY_KEY, NamedIdentity(issuer="i ", subject="s"),
        INVITED, Invitation(issuer="portal", email="ada@x.org"),
    )  # fmt: skip
    found = [(to_field(p.path), p.found, p.expected) for p in check_roster(entries)]
    assert found == [
        ("[1]", '"ada" again', "each member once"),
        ("[2]", '" bob"', "a user name without spaces around it"),
        ("[4]", '"4711 of institute" again', "each member once"),
        ("[5].issuer", '"i "', "a text without spaces around it"),
        ("[7]", '"ada@x.org of portal (invited)" again', "each member once"),
    ]
    assert check_roster(("ada", BY_KEY, INVITED)) == []


def test_how_much_may_be_in_one() -> None:
    many = tuple(f"user-{i}" for i in range(ROSTER_MAX_ENTRIES))
    assert check_roster(many) == []
    assert check_roster((*many, "one"))[0].expected == "at most 1000 in one team"
    long = tuple(NamedIdentity(issuer="i" * 100, subject=f"{i}") for i in range(600))
    assert [p.found for p in check_roster(long)] == ["77891 bytes"]


def test_what_no_hub_could_let_in() -> None:
    entries = ("ada", "Bob", BY_KEY, INVITED)
    demo = [(to_field(p.path), p.found) for p in check_decider(entries, None)]
    assert demo == [
        ("[2]", 'an identity ("4711 of institute")'),
        ("[3]", 'an invitation ("Ada@X.org of portal (invited)")'),
    ]
    hub = HubDecider(frozenset({"institute", "portals"}))
    found = [(to_field(p.path), p.found, p.expected) for p in check_decider(entries, hub)]
    assert found == [
        ("[1]", '"Bob"', 'the name as the hub shows it: "bob"'),
        ("[3].issuer", '"portal"', 'one of: institute, portals (did you mean "portals"?)'
         " (sources of this hub)"),
    ]  # fmt: skip


def test_whom_a_roster_names() -> None:
    rosters = {"reef": (BY_KEY, "bob"), "ocean": ("ada", INVITED)}
    ada = Identity("institute", "4711")

    def teams(**more: Any) -> dict[str, str]:
        who = {"identity": ada, "name": "ada", **more}
        return {g.what.team: g.because for g in find_by_roster(rosters, **who)}

    assert teams() == {
        "ocean": "the team's roster names ada",
        "reef": "the team's roster names this identity",
    }
    assert teams(identity=Identity("portal", "4711"), name="eve") == {}
    assert teams(name="eve", emails=["ada@x.org"]) == {"reef": teams()["reef"]}, "another source"
    by_portal = {"identity": Identity("portal", "1"), "name": "eve"}
    assert teams(**by_portal, emails=["ada@x.org"]) == {
        "ocean": "the team's roster invites Ada@X.org"
    }
    assert teams(**by_portal, emails=["bob@x.org"]) == {}
    assert invitations_to(rosters, issuer="portal", emails=["ada@x.org", "b"]) == ("ada@x.org",)
    assert invitations_to(rosters, issuer="institute", emails=["ada@x.org"]) == ()
    assert to_text("ada") == "ada"
