"""Rosters, from the manifest to who is in which team, at a real hub whose people are on paper."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.errors import PermanentError, SpecError
from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.hubapi.errors import HubRefusedError, HubUnavailableError
from jupyterhub_collab.managers.contest import ContestManager, TeamRegistry
from jupyterhub_collab.models import HubDecider, Invitation, NamedIdentity
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest
from jupyterhub_collab.policy.spec import merge_team_spec
from tests.auth.conftest import PaperHub, person
from tests.auth.test_team_authenticator import until
from tests.policy.manifests import MANIFEST
from tests.real_hub import find_free_port
from tests.services.contests.running import MANAGER_TOKEN, ContestsService, hub_settings

OCEAN, ICE = "    members: [ada, bob]\n", "    members: [ada]\n"
BY_KEY = "{issuer: paper, subject: s-carol}"
INVITED = "{issuer: paper, email: Dan@X.org}"


@pytest.fixture(scope="module")
def lasting(make_hub: Callable[..., PaperHub]) -> PaperHub:
    return make_hub()


@pytest.fixture
def hub(lasting: PaperHub) -> Iterator[PaperHub]:
    """Nobody is a user, and there is no group."""
    yield lasting
    for group in lasting.api("GET", "groups").json():
        lasting.api("DELETE", f"groups/{group['name']}")
    for user in lasting.api("GET", "users").json():
        lasting.api("DELETE", f"users/{user['name']}")


def manifest(ocean: str = "", ice: str = "") -> Any:
    text = MANIFEST.replace(ICE, f"    members: [{ice}]\n")
    text = text.replace(OCEAN, f"    members: [{ocean}]\n")
    return parse_contest_manifest(text, file="contest.yaml")


class Client(HubClient):
    """Remembers what it asked, and fails where it is told to."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls: list[str] = []
        self.broken = ""

    async def _call(self, method: str, path: str, *args: Any, **options: Any) -> Any:
        self.calls.append(f"{method} {path}")
        if self.broken and f"{method} {path}" == self.broken:
            raise HubUnavailableError("made to order")
        return await super()._call(method, path, *args, **options)


async def no_sleep(seconds: float) -> None:
    """Time passes at once."""


def writes(client: Client) -> list[str]:
    return [call for call in client.calls if not call.startswith("GET")]


async def apply(hub: PaperHub, wanted: Any, *, broken: str = "") -> list[str]:
    """Apply, see that nothing is left to do, and return what was written."""
    async with Client(hub.api_url, hub.token) as client:
        client.broken = broken
        manager = ContestManager(TeamRegistry(client, sleep=no_sleep))
        await manager.apply(wanted)
        done = writes(client)
        client.calls.clear()
        assert (await manager.plan(wanted)).is_empty
        assert (await manager.apply(wanted)).is_empty
        assert writes(client) == []
    return done


def teams(hub: PaperHub, *names: str) -> list[list[str]]:
    return [hub.groups_of(name) for name in names]


async def test_apply_writes_rosters_and_no_user(hub: PaperHub) -> None:
    wanted = manifest(f"ada, {BY_KEY}, {INVITED}", "ada, eve")
    done = await apply(hub, wanted)
    assert not [call for call in done if "users" in call]
    assert done.count("POST collab/membership") == 1
    assert hub.api("GET", "users").json() == [], "they appear when they come"
    async with HubClient(hub.api_url, hub.token) as client:
        assert await client.read_decider() == HubDecider(frozenset({"paper"}))
        groups = await client.list_groups()
    assert groups["ocean"].users == ()
    assert groups["ocean"].properties["collab"]["members"] == [
        {"issuer": "paper", "subject": "s-carol"},
        {"issuer": "paper", "email": "dan@x.org"},
        "ada",
    ]
    shared = groups["contest.forecast"].properties
    assert "members" not in shared["collab"]
    assert "carol" not in merge_team_spec("ocean", groups["ocean"].properties, shared).to_wire()
    # The same in another order is the same.
    same = manifest(f"{INVITED}, {BY_KEY}, ada".replace("Dan", "DAN"), "eve, ada")
    assert await apply(hub, same) == []


async def test_each_kind_of_entry_lets_in_whom_it_names(hub: PaperHub) -> None:
    await apply(hub, manifest(f"ada, {BY_KEY}, {INVITED}", "ada"))
    people = {
        "ada": person("s-ada"),
        "carol": person("s-carol"),
        "dan": person("s-dan") | {"emails": ["dan@x.org"]},
        "dan2": person("s-dan2") | {"emails": ["dan@x.org"]},  # his address, later
        "eve": person("s-eve") | {"emails": ["eve@x.org"]},
    }
    hub.write(people)
    for name in ("ada", "carol", "dan"):
        assert hub.browser().log_in(name).status_code == 302
    for name in ("dan2", "eve"):
        assert hub.browser().log_in(name).status_code == 403
    assert teams(hub, "ada", "carol", "dan") == [["ice", "ocean"], ["ocean"], ["ocean"]]
    assert "dan@x.org was taken by another person of paper" in hub.log
    said = hub.api("GET", "collab/membership/dan").json()
    assert said["explain"] == ["member of team ocean because the team's roster invites dan@x.org"]
    async with HubClient(hub.api_url, hub.token) as client:
        carol, dan = (NamedIdentity(issuer="paper", subject=f"s-{n}") for n in ("carol", "dan"))
        invited = Invitation(issuer="paper", email="dan@x.org")
        assert await client.read_identities("carol") == (carol,)
        assert await client.read_identities("dan") == (dan, invited)
        assert await client.read_identities("nobody") is None
    # His address is not his any more; the place is.
    hub.write(people | {"dan": person("s-dan")})
    assert hub.browser().log_in("dan").status_code == 302
    # Withdrawn: lost as apply returns, and with it the session.
    browser = hub.browser()
    assert browser.log_in("dan").status_code == 302
    await apply(hub, manifest("ada", ""))
    assert teams(hub, "ada", "carol", "dan") == [["ocean"], [], []]
    assert browser.status() == 302
    assert hub.browser().log_in("dan").status_code == 403


async def test_who_is_here_already_comes_into_a_team_at_once(hub: PaperHub) -> None:
    await apply(hub, manifest("ada", "carol"))
    hub.write({"ada": person("s-ada"), "carol": person("s-carol")})
    assert hub.browser().log_in("ada").status_code == 302
    assert hub.browser().log_in("carol").status_code == 302
    await apply(hub, manifest(f"ada, {BY_KEY}", "ada"))
    assert teams(hub, "ada", "carol") == [["ice", "ocean"], ["ocean"]]


async def test_a_word_that_is_lost_is_made_good_without_it(hub: PaperHub) -> None:
    await apply(hub, manifest("ada, carol"))
    hub.write({"ada": person("s-ada"), "carol": person("s-carol")})
    for name in ("ada", "carol"):
        assert hub.browser().log_in(name).status_code == 302
    told = r"the rosters are written, but the hub was not told .*\n? ?.*watch_interval"
    with pytest.raises(PermanentError, match=told):
        await apply(hub, manifest("carol"), broken="POST collab/membership")
    until(lambda: teams(hub, "ada", "carol") == [[], ["ocean"]])
    # A hub that was killed between the two: its next life finds it.
    async with Client(hub.api_url, hub.token) as client:
        client.broken = "POST collab/membership"
        manager = ContestManager(TeamRegistry(client, sleep=no_sleep))
        hub_is_gone = False

        async def kill(seconds: float) -> None:
            nonlocal hub_is_gone
            if not hub_is_gone:
                hub.kill()
                hub_is_gone = True

        manager = ContestManager(TeamRegistry(client, sleep=kill))
        with pytest.raises(PermanentError, match="was not told"):
            await manager.apply(manifest("ada"))
    assert hub_is_gone
    hub.start()
    until(lambda: teams(hub, "ada", "carol") == [["ocean"], []])


async def test_a_gate_tells_the_hub_nothing(hub: PaperHub) -> None:
    """Nobody comes or goes, so the hub need not look at anybody."""
    await apply(hub, manifest("ada", "ada"))
    closed = parse_contest_manifest(
        MANIFEST.replace(OCEAN, "    members: [ada]\n    gate: closed\n"), file="f"
    )
    assert await apply(hub, closed) == ["PUT groups/ocean/properties"]


async def test_users_that_were_in_the_group_are_the_hub_s_to_judge(hub: PaperHub) -> None:
    """A rule's member is in no roster; apply leaves them alone, and a group of its own too."""
    await apply(hub, manifest("ada"))
    hub.write({"fay": person("s-fay", "team-ocean")})
    assert hub.browser().log_in("fay").status_code == 302
    assert hub.groups_of("fay") == ["ocean"]
    await apply(hub, manifest("carol", "carol"))
    assert hub.groups_of("fay") == ["ocean"]


async def test_members_by_whom_nobody_could_come_are_refused(hub: PaperHub) -> None:
    with pytest.raises(SpecError) as refused:
        await apply(hub, manifest("Ada", "{issuer: papre, subject: x}"))
    assert [str(p) for p in refused.value.problems] == [
        'teams.ocean.members[0]: found "Ada"; expected the name as the hub shows it: "ada"',
        'teams.ice.members[0].issuer: found "papre"; expected one of: paper (did you mean "paper"?)'
        " (sources of this hub)",
    ]
    assert hub.api("GET", "groups").json() == []


@pytest.fixture
def registry(make_hub: Callable[..., PaperHub], tmp_path: Path) -> Iterator[ContestsService]:
    """A contests service beside a hub whose people are on paper."""
    port = find_free_port()
    service = ContestsService(make_hub(**hub_settings(port)), tmp_path / "registry", port=port)
    try:
        service.start_and_wait()
        yield service
    finally:
        service.kill()


def test_plan_shows_who_comes_and_goes(registry: ContestsService, tmp_path: Path) -> None:
    file = tmp_path / "contest.yaml"
    program = [sys.executable, "-m", "jupyterhub_collab.cli.main"]

    def run(command: str, ocean: str) -> str:
        file.write_text(MANIFEST.replace(OCEAN, f"    members: [{ocean}]\n"))
        done = subprocess.run(
            [*program, command, str(file), "--contests-url", registry.url],
            env={
                **registry.hub.environment(),
                "COLUMNS": "150",
                "JUPYTERHUB_COLLAB_TOKEN": MANAGER_TOKEN,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    assert "Memberships: 4 to add, 0 to remove" in run("plan", f"ada, bob, {BY_KEY}")
    run("apply", f"ada, bob, {BY_KEY}")
    said = run("plan", f"ada, {INVITED}").splitlines()
    rows = [" ".join(line.split()) for line in said]
    assert "~ team ocean members + Dan@X.org of paper (invited)".lower() in [
        r.lower() for r in rows
    ]
    assert "members - s-carol of paper, bob" in rows
    assert said[-1] == "Groups: 0 to create, 1 to change. Memberships: 1 to add, 2 to remove."
    run("apply", f"ada, {INVITED}")
    assert run("plan", f"ada, {INVITED}") == "No changes: the hub is as the manifest says.\n"


async def test_apply_needs_no_right_to_users(make_hub: Callable[..., PaperHub]) -> None:
    """Where the hub decides, admin:groups is all that a contests service has to have."""
    role = {"name": "contests", "services": ["contests"], "scopes": ["admin:groups"]}
    service = {"name": "contests", "api_token": "c" * 32}
    hub = make_hub(services=[service], roles=[role])
    async with Client(hub.api_url, "c" * 32) as client:
        manager = ContestManager(TeamRegistry(client))
        await manager.apply(manifest("ada", BY_KEY))
        assert (await manager.plan(manifest("ada", BY_KEY))).is_empty
        with pytest.raises(HubRefusedError):
            await client.create_users(["mallory"])


async def test_rosters_are_found_whatever_people_are_called(hub: PaperHub) -> None:
    """Words that stand in every roster, and what SQL or JSON would read as its own."""
    strange = ["issuer", "open", "members", "100%", "a_b", 'quo"te', "back\\slash", "\u00fc\u4e2d"]
    listed = ", ".join(f"'{name}'" for name in strange)
    await apply(hub, manifest(listed, "{issuer: paper, subject: 'p%_\"\\'}"))
    people = {name: person(f"s-{i}") for i, name in enumerate(strange)}
    hub.write(people | {"key": person('p%_"\\'), "axb": person("none"), "100x": person("none2")})
    for name in strange:
        assert hub.browser().log_in(name).status_code == 302, name
    assert hub.browser().log_in("key").status_code == 302
    assert hub.groups_of("key") == ["ice"]
    for name in ("axb", "100x"):
        assert hub.browser().log_in(name).status_code == 403
