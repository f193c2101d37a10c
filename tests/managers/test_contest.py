"""Applying a manifest: to a real hub, interrupted, and through faults made to order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from jupyterhub_collab.errors import PermanentError, RetryableError, SpecError
from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.hubapi.errors import HubRefusedError, HubUnavailableError
from jupyterhub_collab.managers.contest import TRIES, ContestManager, TeamRegistry
from jupyterhub_collab.models import ContestManifest
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest
from jupyterhub_collab.policy.spec import merge_team_spec
from tests.policy.manifests import MANIFEST, replaced
from tests.real_hub import RealHub


def parse(text: str = MANIFEST) -> ContestManifest:
    return parse_contest_manifest(text, file="contest.yaml")


async def no_sleep(seconds: float) -> None:
    """Time passes at once."""


class FaultyHub(HubClient):
    """The real client; each call first or last does what the test orders."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.before: Callable[[int, str], None] = lambda number, what: None
        self.after: Callable[[int, str], None] = lambda number, what: None
        self.calls = 0

    async def _call(self, method: str, path: str, *args: Any, **options: Any) -> Any:
        self.calls += 1
        number, what = self.calls, f"{method} {path}"
        self.before(number, what)
        answer = await super()._call(method, path, *args, **options)
        self.after(number, what)
        return answer


async def check(hub: HubClient, manifest: ContestManifest) -> None:
    """The hub is as the manifest says, and its groups merge to specs."""
    groups = await hub.list_groups()
    shared = groups[f"contest.{manifest.contest.id}"]
    assert shared.users == ()
    for team, entry in manifest.teams.items():
        assert sorted(groups[team].users) == sorted(entry.members)
        spec = merge_team_spec(team, groups[team].properties, shared.properties)
        assert spec.tier == manifest.tiers[entry.tier]
    assert (await ContestManager(TeamRegistry(hub)).plan(manifest)).is_empty


async def test_apply_then_apply_again(clean_hub: RealHub) -> None:
    async with FaultyHub(clean_hub.api_url, clean_hub.token) as hub:
        manager = ContestManager(TeamRegistry(hub))
        seen: list[str] = []
        done = await manager.apply(parse(), report=lambda change: seen.append(change.group))
        assert seen[0] == "contest.forecast"
        assert sorted(seen) == sorted(c.group for c in done.changes)
        await check(hub, parse())
        hub.calls = 0
        assert (await manager.apply(parse())).is_empty
        assert hub.calls == 2, "who decides, one list, and nothing written"


async def test_members_leave_and_teams_stay(clean_hub: RealHub) -> None:
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        manager = ContestManager(TeamRegistry(hub))
        await manager.apply(parse())
        less = replaced("members: [ada, bob]", "members: [eve]").split("  ice:")[0]
        done = await manager.apply(parse(less))
        assert done.gone == ("ice",)
        groups = await hub.list_groups()
        assert groups["ocean"].users == ("eve",)
        assert groups["ice"].users == ("ada",)


async def test_many_members_and_teams_of_two_contests(clean_hub: RealHub) -> None:
    crowd = ", ".join(f"user-{i}" for i in range(45))
    first = parse(replaced("members: [ada, bob]", f"members: [{crowd}]"))
    other = MANIFEST.replace("id: forecast", "id: other").replace("  ocean:", "  wind:")
    second = parse(other.replace("  ice:", "  fire:"))
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        manager = ContestManager(TeamRegistry(hub))
        for manifest in (first, second):
            await manager.apply(manifest)
        for manifest in (first, second):
            await check(hub, manifest)
        stolen = parse(MANIFEST.replace("id: forecast", "id: third"))
        before = await hub.list_groups()
        with pytest.raises(SpecError, match='the contest "forecast"'):
            await manager.apply(stolen)
        assert await hub.list_groups() == before


async def test_a_hub_that_was_killed_is_waited_for(real_hub: RealHub) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            await asyncio.to_thread(real_hub.start)

    async with HubClient(real_hub.api_url, real_hub.token) as hub:
        real_hub.kill()
        await ContestManager(TeamRegistry(hub, sleep=sleep)).apply(parse())
        await check(hub, parse())
    assert waits == [0.5, 1.0]


async def test_a_renamed_tier_leaves_no_team_without_valid_settings_on_the_way(
    clean_hub: RealHub,
) -> None:
    """Looked at after each change that the hub took."""
    renamed = MANIFEST.replace("  small: {cpu: 2,", "  tiny: {cpu: 3,").replace("small", "tiny")
    seen: list[str] = []

    class Watched(FaultyHub):
        async def _call(self, method: str, path: str, *args: Any, **options: Any) -> Any:
            answer = await super()._call(method, path, *args, **options)
            if method != "GET":
                groups = await self.list_groups()
                shared = groups["contest.forecast"].properties
                spec = merge_team_spec("ice", groups["ice"].properties, shared)
                merge_team_spec("ocean", groups["ocean"].properties, shared)
                seen.append(spec.tier_name)
            return answer

    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        await ContestManager(TeamRegistry(hub)).apply(parse())
    async with Watched(clean_hub.api_url, clean_hub.token) as hub:
        reported: list[str] = []
        await ContestManager(TeamRegistry(hub)).apply(
            parse(renamed), report=lambda change: reported.append(change.group)
        )
        assert seen == ["small", "tiny", "tiny"]
        assert reported == ["ice", "contest.forecast"]
        await check(hub, parse(renamed))
        tiers = (await hub.list_groups())["contest.forecast"].properties["collab"]["tiers"]
        assert set(tiers) == {"large", "tiny"}


async def test_a_tier_stays_while_a_team_could_not_be_moved_off_it(clean_hub: RealHub) -> None:
    renamed = MANIFEST.replace("  small: {cpu: 2,", "  tiny: {cpu: 3,").replace("small", "tiny")
    async with FaultyHub(clean_hub.api_url, clean_hub.token) as hub:
        manager = ContestManager(TeamRegistry(hub))
        await manager.apply(parse())

        def refuse(number: int, what: str) -> None:
            if what == "PUT groups/ice/properties":
                raise HubRefusedError("not ice")

        hub.before = refuse
        with pytest.raises(PermanentError, match="not ice"):
            await manager.apply(parse(renamed))
        groups = await hub.list_groups()
        shared = groups["contest.forecast"].properties
        assert merge_team_spec("ice", groups["ice"].properties, shared).tier_name == "small"
        hub.before = lambda number, what: None
        await manager.apply(parse(renamed))
        await check(hub, parse(renamed))


async def count_calls(clean_hub: RealHub) -> int:
    async with FaultyHub(clean_hub.api_url, clean_hub.token) as hub:
        await ContestManager(TeamRegistry(hub)).apply(parse())
        return hub.calls


async def clear(hub: HubClient) -> None:
    for name in await hub.list_groups():
        await hub.delete_group(name)


async def test_a_fault_at_every_step_is_ridden_out(clean_hub: RealHub) -> None:
    """Before each call: no answer. After each call: done, and the answer lost."""
    steps = await count_calls(clean_hub)
    assert steps > 10
    async with FaultyHub(clean_hub.api_url, clean_hub.token) as hub:
        for step, moment in itertools.product(range(1, steps + 1), ("before", "after")):
            await clear(hub)

            def fail(number: int, what: str, step: int = step) -> None:
                if number == step:
                    raise HubUnavailableError(f"lost: {what}")

            hub.calls = 0
            setattr(hub, moment, fail)
            await ContestManager(TeamRegistry(hub, sleep=no_sleep)).apply(parse())
            setattr(hub, moment, lambda number, what: None)
            await check(hub, parse())


async def test_an_apply_that_was_stopped_anywhere_is_finished_by_the_next(
    clean_hub: RealHub,
) -> None:
    class StopHereError(BaseException):
        """As Ctrl-C: nothing catches it."""

    steps = await count_calls(clean_hub)
    async with FaultyHub(clean_hub.api_url, clean_hub.token) as hub:
        for step in range(1, steps + 1):
            await clear(hub)

            def stop(number: int, what: str, step: int = step) -> None:
                if number >= step:
                    raise StopHereError

            hub.calls = 0
            hub.after = stop
            with pytest.raises(StopHereError):
                await ContestManager(TeamRegistry(hub)).apply(parse())
            hub.after = lambda number, what: None
            await ContestManager(TeamRegistry(hub)).apply(parse())
            await check(hub, parse())


async def test_retry_after_is_kept_to_and_an_end_comes() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    class Busy(HubClient):
        async def read_decider(self) -> None:
            return None

        async def list_groups(self) -> Any:
            raise HubUnavailableError("busy", retry_after_s=[3.0, 0.0, 9999.0][len(waits) % 3])

    with pytest.raises(RetryableError, match="busy"):
        await ContestManager(TeamRegistry(Busy("http://x", "t"), sleep=sleep)).plan(parse())
    assert len(waits) == TRIES - 1
    assert waits[:3] == [3.0, 1.0, 60.0]


async def test_one_team_refused_does_not_keep_the_others_waiting(clean_hub: RealHub) -> None:
    async with FaultyHub(clean_hub.api_url, clean_hub.token) as hub:

        def refuse(number: int, what: str) -> None:
            if what == "PUT groups/ocean/properties":
                raise HubRefusedError("not ocean")

        hub.before = refuse
        with pytest.raises(PermanentError, match="not ocean"):
            await ContestManager(TeamRegistry(hub)).apply(parse())
        assert (await hub.list_groups())["ice"].users == ("ada",)
        hub.before = lambda number, what: None
        await ContestManager(TeamRegistry(hub)).apply(parse())
        await check(hub, parse())


async def test_names_that_the_hub_writes_otherwise_are_told(clean_hub: RealHub) -> None:
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        manager = ContestManager(TeamRegistry(hub))
        with pytest.raises(PermanentError, match="'Ada' by another name"):
            await manager.apply(parse(replaced("members: [ada, bob]", "members: [Ada]")))


async def test_somebody_else_who_writes_the_groups_is_noticed(clean_hub: RealHub) -> None:
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:

        class Undone(TeamRegistry):
            async def write(self, change: Any) -> None:
                await super().write(change)
                if change.group == "ice":
                    await hub.remove_members("ice", ["ada"])

        with pytest.raises(PermanentError, match="still differs in: ice"):
            await ContestManager(Undone(hub)).apply(parse())


async def test_a_hub_that_does_not_decide_takes_names_alone(clean_hub: RealHub) -> None:
    """It knows no sources: whom an identity means, nobody there could tell."""
    text = replaced("members: [ada, bob]", "members: [ada, {issuer: lab, subject: x}]")
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        assert await hub.read_decider() is None
        with pytest.raises(SpecError, match=r"teams.ocean.members\[1\]: found an identity"):
            await ContestManager(TeamRegistry(hub)).apply(parse(text))
        assert await hub.list_groups() == {}
