"""Asking about thousands at once: who is doubtful, whose turn it is, and what a look costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from ldap3 import Connection

from jupyterhub_collab.hub.auth.ldap_overview import DirectoryOverview, Seen, compare, to_key
from jupyterhub_collab.identity.directory import Directory
from jupyterhub_collab.identity.directory_errors import (
    DirectoryDownError,
    DirectorySettingsError,
    GroupNotFoundError,
)
from jupyterhub_collab.models import EntitlementRules, Identity
from jupyterhub_collab.storage.memberships import Membership
from tests.auth.ldap_hub import directory
from tests.identity import slapd as s
from tests.identity.conftest import make_settings

NOW = datetime(2027, 1, 31, tzinfo=timezone.utc)
OCEAN, RIVER = f"cn=ocean,{s.GROUPS}", f"cn=river,{s.GROUPS}"
INTERVAL_S, WITHIN_S = 60.0, 450.0


def who(name: str) -> Identity:
    return Identity("ldap", name)


def row(name: str, *groups: str, at: datetime = NOW - timedelta(minutes=1)) -> Membership:
    return Membership(name=name, identity=who(name), granted=(), groups=groups, confirmed_at=at)


def rules(*more: dict[str, Any]) -> EntitlementRules:
    head = {"apiVersion": "jupyterhub-collab.org/v1alpha1", "kind": "Entitlements"}
    return EntitlementRules.model_validate({**head, "rules": list(more)})


BY_NAME = {"issuer": "ldap", "group": OCEAN, "gives": {"team": "ocean"}}
BY_CLAIM = {"issuer": "ldap", "claim": {"name": "dept", "is": "x"}, "gives": {"team": "ocean"}}


class PaperDirectory:
    """A directory with these groups; a group may be an error."""

    def __init__(self, groups: dict[str, Any], people: set[str]) -> None:
        self.settings = SimpleNamespace(name="ldap")
        self.groups = {to_key(dn): members for dn, members in groups.items()}
        self.people = people
        self.asked: list[str] = []

    async def members_of(self, dn: str) -> frozenset[Identity]:
        self.asked.append(dn)
        found = self.groups.get(to_key(dn), GroupNotFoundError(dn))
        if isinstance(found, Exception):
            raise found
        return frozenset(who(name) for name in found)

    async def active_among(self, subjects: list[str]) -> frozenset[Identity]:
        return frozenset(who(name) for name in subjects if name in self.people)


async def look(
    overview: DirectoryOverview, *rows: Membership, of: EntitlementRules | None = None
) -> tuple[set[str], set[str]]:
    seen = await overview.look(
        rows, of or rules(), now=NOW, interval_s=INTERVAL_S, within_s=WITHIN_S
    )
    return set(seen.confirmed), set(seen.doubtful)


def make(groups: dict[str, Any], *people: str) -> tuple[PaperDirectory, DirectoryOverview]:
    paper = PaperDirectory(groups, set(people))
    return paper, DirectoryOverview(paper)  # type: ignore[arg-type]


async def test_who_left_or_came_or_is_gone_is_doubtful_and_nobody_else() -> None:
    _, overview = make({OCEAN: ["same", "came"], RIVER: ["came"]}, "left")
    rows = [row("same", OCEAN.upper()), row("left", OCEAN), row("gone", OCEAN), row("came", OCEAN)]
    confirmed, doubtful = await look(overview, *rows, row("river", RIVER))
    assert (confirmed, doubtful) == ({"same"}, {"left", "gone", "came", "river"})


async def test_groups_of_rules_are_asked_before_anybody_has_them() -> None:
    paper, overview = make({OCEAN: ["ada"], RIVER: ["ada"]})
    _, doubtful = await look(overview, row("ada", RIVER), of=rules(BY_NAME))
    assert doubtful == {"ada"}
    assert sorted(paper.asked) == [OCEAN, RIVER]


async def test_a_group_that_cannot_be_seen_is_asked_about_one_by_one() -> None:
    _, overview = make({RIVER: ["bob"]}, "ada")
    confirmed, doubtful = await look(overview, row("ada", OCEAN), row("bob", RIVER))
    assert (confirmed, doubtful) == ({"bob"}, {"ada"})


async def test_one_group_that_cannot_be_read_does_not_stop_the_others() -> None:
    broken = {OCEAN: DirectorySettingsError("too deep"), RIVER: ["bob"]}
    _, overview = make(broken, "ada")
    confirmed, doubtful = await look(overview, row("ada", OCEAN), row("bob", RIVER))
    assert (confirmed, doubtful) == ({"bob"}, {"ada"})


@pytest.mark.parametrize("error", [DirectoryDownError("down"), DirectorySettingsError("no")])
async def test_a_directory_that_says_nothing_is_an_error(error: Exception) -> None:
    _, overview = make({OCEAN: error}, "ada")
    with pytest.raises(type(error)):
        await look(overview, row("ada", OCEAN))


async def test_who_is_in_no_group_is_looked_for_and_asked_about_in_turn() -> None:
    names = [f"user{n:03d}" for n in range(100)]
    _, overview = make({}, *names)
    rows = [row(name) for name in names]
    looks = 0
    waiting = set(names)
    while waiting:
        confirmed, doubtful = await look(overview, *rows)
        assert confirmed | doubtful == set(names)
        assert len(doubtful) <= 16
        waiting -= doubtful
        looks += 1
    assert looks * INTERVAL_S <= WITHIN_S
    _, gone = make({}, *names[1:])
    assert "user000" in (await look(gone, *rows))[1]


async def test_claims_are_of_no_group_so_bulk_confirms_nobody() -> None:
    _, overview = make({OCEAN: ["ada", "bob"]})
    rows = [row("ada", OCEAN), row("bob", OCEAN)]
    asked = set()
    for _ in range(6):
        confirmed, doubtful = await look(overview, *rows, of=rules(BY_NAME, BY_CLAIM))
        assert confirmed == set()
        asked |= doubtful
    assert asked == {"ada", "bob"}


async def test_answers_that_do_not_fit_together_are_not_asked_about_for_ever() -> None:
    """Of a group that bulk shows and a look-up does not; losing is asked about each time."""
    paper, overview = make({OCEAN: ["ada"], RIVER: ["ada"]})
    both = rules(BY_NAME)
    assert (await look(overview, row("ada", RIVER), of=both))[1] == {"ada"}
    assert (await look(overview, row("ada", RIVER), of=both))[1] == {"ada"}, "no answer yet"
    answered = row("ada", RIVER, at=NOW + timedelta(seconds=1))
    assert (await look(overview, answered, of=both)) == ({"ada"}, set())
    paper.groups[to_key(RIVER)] = []
    for _ in range(3):
        assert (await look(overview, answered, of=both))[1] == {"ada"}


def test_thousands_are_compared_in_little_time() -> None:
    groups = {to_key(f"cn=g{n},{s.GROUPS}"): n for n in range(50)}
    rows = [row(f"u{n}", f"cn=g{n % 50},{s.GROUPS}") for n in range(5000)]
    keys = {text: to_key(text) for r in rows for text in r.groups}
    members = {
        key: frozenset(who(f"u{i}") for i in range(n, 5000, 50)) for key, n in groups.items()
    }
    began = time.perf_counter()
    same, unlike, gained = compare(rows, keys, Seen(members))
    assert time.perf_counter() - began < 1.0
    assert (len(same), unlike, gained) == (5000, frozenset(), frozenset())


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s.Slapd]:
    """50 groups of 100 people each; fewer would not show what a look costs."""
    folder: Path = tmp_path_factory.mktemp("crowd")
    with directory(folder) as server:
        server.stop()
        people = "".join(
            s.person(f"p{n}", f"entryUUID: {UUID(int=n + 1)}", password="x") for n in range(5000)
        )
        groups = "".join(
            s.group(f"g{g}", *(s.person_dn(f"p{n}") for n in range(g, 5000, 50))) for g in range(50)
        )
        server.conf.write_text(
            server.conf.read_text() + "index objectClass,entryUUID,uid,cn,member eq\n"
        )
        server.load(people + groups)
        for command in (["slapindex", "-q", "-f", str(server.conf)],):
            server._run(command, "")
        server.start()
        yield server


async def test_what_a_look_at_5000_people_costs(
    crowd: s.Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = 0
    search = Connection.search

    def counting(*args: Any, **more: Any) -> Any:
        nonlocal searches
        searches += 1
        return search(*args, **more)

    monkeypatch.setattr(Connection, "search", counting)
    rows = [
        Membership(
            name=f"p{n}",
            identity=Identity("test", str(UUID(int=n + 1))),
            granted=(),
            groups=(s.group_dn(f"g{n % 50}"),) if n < 4900 else (),
            confirmed_at=NOW,
        )
        for n in range(5000)
    ]
    async with Directory(make_settings(crowd, timeout_s=60)) as found:
        overview = DirectoryOverview(found)
        began = time.perf_counter()
        seen = await overview.look(rows, rules(), now=NOW, interval_s=INTERVAL_S, within_s=WITHIN_S)
        took_s = time.perf_counter() - began
    print(f"{searches} searches in {took_s:.1f} s")
    assert len(seen.confirmed) >= 4900 - 100
    assert searches < 400
    assert took_s < 30
